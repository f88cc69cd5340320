/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta_args_*: reading constructor and call arguments by position.
 */
#include <criterion/criterion.h>
#include <string.h>

#include <manta/manta.h>

#include "args.h"
#include "value.h"
#include "wire.h"

/* Arguments in memory, with the runtime that handles need; nothing is connected. */
struct world {
    struct text document;
    struct arena_blocks blocks;
    struct arena arena;
    struct keep keep;
    struct manta_args args;
};

static void world_init(struct world *world, const struct manta_arg *args, size_t count)
{
    struct error error = {0};
    text_init(&world->document, 1 << 20);
    cr_assert_eq(args_write(&world->document, args, count, &error), 0, "%s", error.text);
    arena_blocks_init(&world->blocks, 4);
    arena_init(&world->arena, &world->blocks, 1 << 16);
    world->keep = (struct keep){.arena = &world->arena};
    world->args =
        (struct manta_args){.document = text_bytes(&world->document), .keep = &world->keep};
    world->args.runtime = runtime_new("/no/such/socket", WIRE_ROLE_HANDLE, "test", &error);
    cr_assert_not_null(world->args.runtime, "%s", error.text);
}

static void world_done(struct world *world)
{
    keep_free(keep_detach(&world->keep));
    arena_clear(&world->arena);
    arena_blocks_done(&world->blocks);
    text_done(&world->document);
    runtime_unref(world->args.runtime);
}

Test(api_args, arguments_are_read_by_position_and_type)
{
    struct manta_arg list[] = {manta_bool(true), manta_int(-3), manta_float(0.5),
                               manta_string("text"), manta_binary("\0\1\2", 3)};
    struct world world;
    struct manta_error error = {0};
    bool boolean = false;
    int64_t integer = 0;
    double number = 0;
    const char *string = NULL;
    const void *binary = NULL;
    size_t size = 0;
    world_init(&world, list, 5);
    cr_assert_eq(manta_args_count(&world.args), 5);
    cr_assert_eq(manta_args_bool(&world.args, 0, &boolean, &error), 0);
    cr_assert(boolean);
    cr_assert_eq(manta_args_int(&world.args, 1, &integer, &error), 0);
    cr_assert_eq(integer, -3);
    cr_assert_eq(manta_args_float(&world.args, 1, &number, &error), 0, "an int is a float, too");
    cr_assert_eq(number, -3);
    cr_assert_eq(manta_args_float(&world.args, 2, &number, &error), 0);
    cr_assert_eq(number, 0.5);
    cr_assert_eq(manta_args_string(&world.args, 3, &string, &error), 0);
    cr_assert_str_eq(string, "text");
    cr_assert_eq(manta_args_binary(&world.args, 4, &binary, &size, &error), 0);
    cr_assert_eq(size, 3);
    cr_assert_eq(memcmp(binary, "\0\1\2", 3), 0);
    world_done(&world);
}

Test(api_args, an_argument_of_another_type_is_named)
{
    struct manta_arg list[] = {manta_int(1), manta_string("x")};
    struct world world;
    struct manta_error error = {0};
    bool boolean = true;
    int64_t integer = 7;
    double number = 7;
    const char *string = NULL;
    const void *binary = NULL;
    size_t size = 7;
    struct manta_handle *handle = NULL;
    world_init(&world, list, 2);
    cr_assert_eq(manta_args_bool(&world.args, 0, &boolean, &error), MANTA_ETYPE);
    cr_assert_str_eq(error.text, "argument 0: the value is an int, not a bool");
    cr_assert_eq(manta_args_int(&world.args, 1, &integer, &error), MANTA_ETYPE);
    cr_assert_str_eq(error.text, "argument 1: the value is a string, not an int of 64 bits");
    cr_assert_eq(manta_args_float(&world.args, 1, &number, &error), MANTA_ETYPE);
    cr_assert_eq(manta_args_string(&world.args, 0, &string, &error), MANTA_ETYPE);
    cr_assert_eq(manta_args_binary(&world.args, 1, &binary, &size, &error), MANTA_ETYPE);
    cr_assert_eq(manta_args_handle(&world.args, 0, &handle, &error), MANTA_ETYPE);
    cr_assert_str_eq(error.text, "argument 0 is not a bound deployment");
    cr_assert(boolean && integer == 7 && number == 7 && !string && !binary && size == 7 && !handle);
    cr_assert_eq(manta_args_int(&world.args, 1, &integer, NULL), MANTA_ETYPE);
    world_done(&world);
}

Test(api_args, an_argument_that_lacks_is_counted)
{
    struct manta_arg list[] = {manta_int(1)};
    struct world world;
    struct manta_error error = {0};
    struct manta_value value;
    int64_t integer = 7;
    world_init(&world, list, 1);
    cr_assert_eq(manta_args_int(&world.args, 1, &integer, &error), MANTA_EINVALID);
    cr_assert_str_eq(error.text, "argument 1 is missing: there are 1");
    cr_assert_eq(manta_args_value(&world.args, (size_t)1 << 32, &value, &error), MANTA_EINVALID);
    cr_assert_eq(integer, 7);
    struct manta_args none = {0};
    cr_assert_eq(manta_args_count(&none), 0);
    cr_assert_eq(manta_args_int(&none, 0, &integer, &error), MANTA_EINVALID);
    cr_assert_str_eq(error.text, "argument 0 is missing: there are 0");
    world_done(&world);
}

Test(api_args, strings_live_as_long_as_the_arguments)
{
    struct manta_arg list[] = {manta_string("first"), manta_string("second")};
    struct world world;
    const char *first, *second, *again;
    world_init(&world, list, 2);
    cr_assert_eq(manta_args_string(&world.args, 0, &first, NULL), 0);
    cr_assert_eq(manta_args_string(&world.args, 1, &second, NULL), 0);
    cr_assert_eq(manta_args_string(&world.args, 0, &again, NULL), 0);
    cr_assert_str_eq(first, "first");
    cr_assert_str_eq(second, "second");
    cr_assert_str_eq(again, "first");
    world_done(&world);
}

Test(api_args, a_string_beyond_the_arena_comes_from_the_heap)
{
    static char large[100000];
    memset(large, 'x', sizeof large - 1);
    struct manta_arg list[] = {manta_string(large), manta_string("small")};
    struct world world;
    struct manta_error error = {0};
    const char *string = NULL;
    world_init(&world, list, 2);
    cr_assert_eq(manta_args_string(&world.args, 0, &string, &error), 0, "%s", error.text);
    cr_assert_eq(strlen(string), sizeof large - 1);
    cr_assert_eq(manta_args_string(&world.args, 1, &string, NULL), 0);
    cr_assert_str_eq(string, "small");
    world_done(&world);
}

/* A replica that looks at an argument in each request would fill its arena. */
Test(api_args, a_string_that_is_asked_for_again_is_the_same)
{
    struct manta_arg list[] = {manta_string("first"), manta_string("")};
    struct world world;
    const char *first = NULL, *again = NULL;
    world_init(&world, list, 2);
    cr_assert_eq(manta_args_string(&world.args, 0, &first, NULL), 0);
    size_t used = world.arena.used;
    for (int i = 0; i < 100000; i++) {
        cr_assert_eq(manta_args_string(&world.args, 0, &again, NULL), 0);
        cr_assert_eq(again, first);
    }
    cr_assert_eq(world.arena.used, used);
    cr_assert_eq(manta_args_string(&world.args, 1, &again, NULL), 0);
    cr_assert_str_eq(again, "");
    world_done(&world);
}

/* ---- handles ----------------------------------------------------------------------------------
 */

/* An argument list with one handle extension around `payload`. */
static void world_with_handle(struct world *world, struct bytes payload)
{
    world_init(world, NULL, 0);
    text_clear(&world->document);
    value_write_array(&world->document, 1);
    value_write_extension(&world->document, VALUE_EXTENSION_HANDLE, payload);
    world->args.document = text_bytes(&world->document);
}

Test(api_args, a_handle_knows_what_it_is_bound_to)
{
    struct world world;
    struct manta_handle *handle = NULL;
    struct manta_value value;
    struct manta_error error = {0};
    world_with_handle(&world, BYTES("\x92\xa3"
                                    "app"
                                    "\xa5"
                                    "adder"));
    cr_assert_eq(manta_args_value(&world.args, 0, &value, NULL), 0);
    cr_assert_eq(manta_value_type(&value), MANTA_HANDLE);
    cr_assert_eq(manta_args_handle(&world.args, 0, &handle, &error), 0, "%s", error.text);
    cr_assert_str_eq(manta_handle_application(handle), "app");
    cr_assert_str_eq(manta_handle_deployment(handle), "adder");
    cr_assert_null(manta_handle_free(handle));
    world_done(&world);
}

Test(api_args, a_damaged_handle_is_refused)
{
    static const char *const DAMAGED[] = {"", "\x92\xa3", "\x91\xa1x", "\x92\x01\x02",
                                          "\xa3"
                                          "app"};
    for (size_t i = 0; i < sizeof DAMAGED / sizeof *DAMAGED; i++) {
        struct world world;
        struct manta_handle *handle = NULL;
        struct manta_error error = {0};
        world_with_handle(&world, bytes_of_string(DAMAGED[i]));
        cr_assert_eq(manta_args_handle(&world.args, 0, &handle, &error), MANTA_EPROTOCOL, "%zu", i);
        cr_assert_not_null(strstr(error.text, "damaged"), "%s", error.text);
        cr_assert_null(handle);
        world_done(&world);
    }
}

Test(api_args, what_cannot_be_an_argument_of_a_call_is_refused)
{
    struct manta_arg bound[] = {manta_int(1), {.type = MANTA_ARG_BOUND}};
    struct manta_arg unknown[] = {{.type = 1000}};
    struct text document;
    struct error error = {0};
    text_init(&document, 1000);
    cr_assert_eq(args_write(&document, bound, 2, &error), ERROR_INVALID);
    cr_assert_not_null(strstr(error.text, "constructor argument"), "%s", error.text);
    cr_assert_eq(args_write(&document, unknown, 1, &error), ERROR_INVALID);
    text_done(&document);
    text_init(&document, 8);
    struct manta_arg large[] = {manta_string("more than eight bytes")};
    cr_assert_eq(args_write(&document, large, 1, &error), ERROR_MEMORY);
    text_done(&document);
}
