/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_text: messages are cut where a reader does not mind.
 */
#include <criterion/criterion.h>

#include "controller_state.h"

static bool is_utf8(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        int more = *at < 0x80       ? 0
                   : *at >> 5 == 6  ? 1
                   : *at >> 4 == 14 ? 2
                   : *at >> 3 == 30 ? 3
                                    : -1;
        if (more < 0)
            return false;
        for (at++; more > 0; more--, at++)
            if ((*at & 0xC0) != 0x80)
                return false;
    }
    return true;
}

Test(controller_text, a_cut_never_splits_a_character)
{
    static const char words[] = "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x99\x82z\xC3\xA4\xE2\x82\xAC";
    for (size_t size = 1; size <= sizeof(words) + 1; size++) {
        char text[sizeof(words) + 1];
        controller_print(text, size, "%s", words);
        cr_assert(is_utf8(text), "size %zu: %s", size, text);
        cr_assert_lt(strlen(text), size);
        cr_assert_leq(size - 1 - strlen(text), size <= sizeof(words) - 1 ? 3 : size);
        cr_assert_eq(strncmp(text, words, strlen(text)), 0);
    }
}

Test(controller_text, the_end_of_a_long_text_is_kept)
{
    char text[12];
    controller_copy_tail(text, sizeof(text), BYTES("ValueError\n\n"));
    cr_assert_str_eq(text, "ValueError");
    controller_copy_tail(text, sizeof(text), BYTES("ValueErrors\n"));
    cr_assert_str_eq(text, "ValueErrors");
    controller_copy_tail(text, sizeof(text), BYTES("Traceback\nValueError: 17\r\n"));
    cr_assert_str_eq(text, "...rror: 17");
    controller_copy_tail(text, sizeof(text),
                         BYTES("\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC"));
    cr_assert(is_utf8(text));
    controller_copy_tail(text, sizeof(text), BYTES("\n \n"));
    cr_assert_str_eq(text, "");
}

Test(controller_text, the_last_line_is_where_an_exception_names_itself)
{
    cr_assert(bytes_equal(controller_last_line("Traceback\n  File\nValueError: no"),
                          BYTES("ValueError: no")));
    cr_assert(bytes_equal(controller_last_line("one"), BYTES("one")));
    cr_assert_eq(controller_last_line("").size, 0);
}
