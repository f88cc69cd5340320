/* SPDX-License-Identifier: Apache-2.0 */
/*
 * graphs: builders, right and wrong: what manta_bind makes of them is what is tested.
 *
 *     single        one deployment with options of the command line; number=N and text=T are its
 * arguments same_names    one leaf bound three times below a root diamond       a leaf bound once
 * and given to two others all_values    a constructor argument of every type two_failures  the
 * second failure must not hide the first goes_on       binds after a failure, and gives what came
 * of it to another nothing       returns nil; number returns 5 one_too_many  more deployments than
 * an application may have array         300 constructor arguments by manta_bind_array; list: as
 * many by manta_bind bad_pack      an unfinished pack as an argument self_made     an arg of a type
 * that does not exist large         more bytes of arguments than fit
 */
#include <string.h>

#include <manta/manta.h>

#include "options.h"

enum { ARGUMENT_COUNT = 300, DEPLOYMENT_LIMIT = 1024 };

static void leaf_call(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_string(request, "leaf");
}

static int leaf_reconfigure(void *state, const char *user_config, struct manta_error *reterr)
{
    (void)state;
    (void)user_config;
    (void)reterr;
    return 0;
}

MANTA_DEPLOYMENT(leaf, .call = leaf_call, .reconfigure = leaf_reconfigure);
MANTA_DEPLOYMENT(root, .call = leaf_call);

MANTA_APPLICATION(single)
{
    struct manta_deployment changed = options_of(app, &leaf);
    const char *library_path = manta_app_argument(app, "text", NULL);
    return manta_bind(app, &changed, manta_int(atoll(manta_app_argument(app, "number", "0"))),
                      manta_string(library_path));
}

MANTA_APPLICATION(same_names)
{
    return manta_bind(app, &root, manta_bind(app, &leaf), manta_bind(app, &leaf),
                      manta_bind(app, &leaf));
}

MANTA_APPLICATION(diamond)
{
    struct manta_deployment left = root, right = root;
    struct manta_arg shared = manta_bind(app, &leaf);
    left.name = "left";
    right.name = "right";
    right.num_replicas = 3;
    return manta_bind(app, &root, manta_bind(app, &left, shared), manta_bind(app, &right, shared));
}

MANTA_APPLICATION(all_values)
{
    struct manta_pack *pack = manta_pack_new();
    manta_pack_map(pack, 1);
    manta_pack_arg(pack, manta_string("list"));
    manta_pack_array(pack, 2);
    manta_pack_arg(pack, manta_int(1));
    manta_pack_arg(pack, manta_nil());
    struct manta_arg bound =
        manta_bind(app, &root, manta_nil(), manta_bool(true), manta_int(-5), manta_float(0.5),
                   manta_string("text"), manta_binary("\0\1", 2), manta_packed(pack),
                   manta_bind(app, &leaf), manta_string(NULL));
    manta_pack_free(pack);
    return bound;
}

MANTA_APPLICATION(two_failures)
{
    manta_app_fail(app, "the first failure of %d", 2);
    return manta_app_fail(app, "the second failure");
}

MANTA_APPLICATION(goes_on)
{
    struct manta_deployment nameless = leaf;
    nameless.name = "no name";
    return manta_bind(app, &root, manta_bind(app, &nameless), manta_bind(app, &leaf));
}

MANTA_APPLICATION(nothing)
{
    (void)app;
    return manta_nil();
}

MANTA_APPLICATION(number)
{
    (void)app;
    return manta_int(5);
}

MANTA_APPLICATION(one_too_many)
{
    struct manta_arg bound = manta_nil();
    for (int i = 0; i <= DEPLOYMENT_LIMIT; i++)
        bound = manta_bind(app, &leaf);
    return bound;
}

MANTA_APPLICATION(array)
{
    struct manta_arg args[ARGUMENT_COUNT];
    for (int i = 0; i < ARGUMENT_COUNT; i++)
        args[i] = manta_int(i);
    return manta_bind_array(app, &leaf, args, ARGUMENT_COUNT);
}

#define TEN(x) x, x, x, x, x, x, x, x, x, x
#define HUNDRED(x) TEN(x), TEN(x), TEN(x), TEN(x), TEN(x), TEN(x), TEN(x), TEN(x), TEN(x), TEN(x)

MANTA_APPLICATION(list)
{
    struct manta_arg one = manta_int(1);
    return manta_bind(app, &leaf, HUNDRED(one), HUNDRED(one), HUNDRED(one));
}

MANTA_APPLICATION(bad_pack)
{
    struct manta_pack *pack = manta_pack_new();
    manta_pack_array(pack, 2);
    manta_pack_arg(pack, manta_int(1));
    struct manta_arg bound = manta_bind(app, &leaf, manta_packed(pack));
    manta_pack_free(pack);
    return bound;
}

MANTA_APPLICATION(self_made)
{
    return manta_bind(app, &leaf, (struct manta_arg){.type = 77});
}

MANTA_APPLICATION(large)
{
    size_t size = (16 << 20) + 1;
    char *bytes = calloc(1, size);
    struct manta_arg bound = manta_bind(app, &leaf, manta_binary(bytes, size));
    free(bytes);
    return bound;
}
