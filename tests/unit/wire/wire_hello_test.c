/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hello: what we say of ourselves is accepted, and each thing that a stranger may say wrong is
 * refused for its own reason.
 */
#include <criterion/criterion.h>
#include <signal.h>

#include "settings.h"
#include "wire.h"

static struct wire_hello good_hello(void)
{
    struct wire_hello hello;
    wire_hello_fill(&hello, WIRE_ROLE_REPLICA, 77, BYTES("app#dep#x"));
    hello.pid = 4711;
    return hello;
}

Test(wire_hello, our_own_hello_is_accepted_for_every_role)
{
    for (int role = WIRE_ROLE_NONE + 1; role < WIRE_ROLE_COUNT; role++) {
        struct wire_hello hello;
        uint16_t version = 0;
        const char *reason = "unset";
        wire_hello_fill(&hello, (enum wire_role)role, role == WIRE_ROLE_REPLICA ? 5 : 0,
                        BYTES("name"));
        cr_assert_eq(wire_hello_check(&hello, &version, &reason), 0, "role %d: %s", role, reason);
        cr_assert_eq(version, WIRE_VERSION);
        cr_assert_null(reason);
    }
}

Test(wire_hello, its_limits_are_the_defaults_of_the_settings)
{
    struct settings settings;
    settings_init(&settings);
    struct wire_hello hello = good_hello();
    cr_assert_eq(hello.frame_limit, settings.wire_frame_limit);
    cr_assert_eq(hello.stream_credit, settings.wire_stream_credit);
    cr_assert_eq(hello.stream_limit, settings.request_limit);
    cr_assert_eq(hello.taken_count, 0);
    cr_assert_eq(hello.id, 77);
    cr_assert(bytes_equal(hello.name, BYTES("app#dep#x")));
}

Test(wire_hello, a_replica_without_an_id_is_our_own_mistake, .signal = SIGABRT)
{
    struct wire_hello hello;
    wire_hello_fill(&hello, WIRE_ROLE_REPLICA, 0, BYTES("name"));
}

/* One member of a good hello changed, and a word of the reason that is expected. */
#define REFUSED(member, wrong, word)                                                               \
    do {                                                                                           \
        struct wire_hello hello = good_hello();                                                    \
        uint16_t version = 9;                                                                      \
        const char *reason = NULL;                                                                 \
        hello.member = (wrong);                                                                    \
        cr_assert_eq(wire_hello_check(&hello, &version, &reason), -1, #member);                    \
        cr_assert_not_null(reason, #member);                                                       \
        cr_assert_not_null(strstr(reason, word), "%s: %s", #member, reason);                       \
        cr_assert_eq(version, 0);                                                                  \
    } while (0)

Test(wire_hello, each_wrong_word_of_a_peer_is_refused_with_its_reason)
{
    REFUSED(magic, 0x50545448, "does not speak"); /* "HTTP" */
    REFUSED(magic, 0, "does not speak");
    REFUSED(version_least, 0, "range");
    REFUSED(version_least, WIRE_VERSION + 1, "range");
    REFUSED(version_most, 0, "range");
    REFUSED(role, WIRE_ROLE_NONE, "role");
    REFUSED(role, WIRE_ROLE_COUNT, "role");
    REFUSED(role, UINT8_MAX, "role");
    REFUSED(id, 0, "no id");
    REFUSED(frame_limit, 65535, "frame limit");
    REFUSED(frame_limit, 0, "frame limit");
    REFUSED(stream_credit, 65535, "stream credit");
    REFUSED(stream_credit, UINT32_MAX, "stream credit");
    REFUSED(taken_count, 262145, "taken marks");
    REFUSED(stream_limit, 0, "no streams");
}

Test(wire_hello, a_peer_that_also_speaks_newer_versions_meets_us_at_ours)
{
    struct wire_hello hello = good_hello();
    uint16_t version;
    const char *reason;
    hello.version_most = WIRE_VERSION + 5;
    cr_assert_eq(wire_hello_check(&hello, &version, &reason), 0);
    cr_assert_eq(version, WIRE_VERSION);
}

Test(wire_hello, a_peer_that_speaks_only_newer_versions_is_told_so)
{
    struct wire_hello hello = good_hello();
    uint16_t version;
    const char *reason;
    hello.version_least = WIRE_VERSION + 1;
    hello.version_most = WIRE_VERSION + 2;
    cr_assert_eq(wire_hello_check(&hello, &version, &reason), -1);
    cr_assert_not_null(strstr(reason, "newer"));
}

Test(wire_hello, limits_at_their_edges_are_accepted)
{
    struct wire_hello hello = good_hello();
    uint16_t version;
    const char *reason = "unset";
    hello.frame_limit = 65536;
    hello.stream_credit = 65536;
    hello.stream_limit = 1;
    hello.taken_count = 262144;
    cr_assert_eq(wire_hello_check(&hello, &version, &reason), 0, "%s", reason);
    hello.frame_limit = UINT32_MAX;
    hello.stream_credit = 16777216;
    cr_assert_eq(wire_hello_check(&hello, &version, &reason), 0, "%s", reason);
}

Test(wire_hello, a_return_is_a_hello_and_what_it_returns_as)
{
    struct wire_role_here here = {.role = WIRE_ROLE_REPLICA,
                                  .number = 9,
                                  .started = 123456,
                                  .app = BYTES("app"),
                                  .deployment = BYTES("adder")};
    struct wire_role_here told;
    struct wire_hello hello;
    struct wire_header header;
    uint8_t bytes[512];
    size_t size = wire_return_write(&here, 4711, bytes, sizeof bytes);
    wire_header_read(&header, bytes);
    cr_assert(header.type == WIRE_HELLO_FRAME && header.flags & WIRE_DESCRIPTOR);
    cr_assert_eq(wire_hello_read(&hello, bytes_of(bytes + WIRE_HEADER_SIZE, header.size)), 0);
    cr_assert(hello.role == WIRE_ROLE_REPLICA && hello.id == 9 && hello.pid == 4711);
    const uint8_t *second = bytes + WIRE_HEADER_SIZE + header.size;
    wire_header_read(&header, second);
    cr_assert_eq(header.type, WIRE_ROLE_HERE_FRAME);
    cr_assert_eq(second + WIRE_HEADER_SIZE + header.size, bytes + size);
    cr_assert_eq(wire_role_here_read(&told, bytes_of(second + WIRE_HEADER_SIZE, header.size)), 0);
    cr_assert(told.number == 9 && told.started == 123456);
    cr_assert(bytes_equal(told.app, here.app) && bytes_equal(told.deployment, here.deployment));
    cr_assert_eq(wire_return_write(&here, 4711, bytes, size - 1), 0);
}
