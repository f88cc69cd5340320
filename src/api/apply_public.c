/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apply_public: <manta/sys/deploy.h>: whole targets of several applications.
 *
 * Their documents are made where they are built (deploy_public.c, bind.c); here they become one
 * frame to the controller.
 */
#include <manta/sys/deploy.h>

#include "bind.h"
#include "control.h"
#include "instance_inner.h"
#include "mem.h"
#include "pack.h"
#include "target.h"
#include "value.h"
#include "wire.h"

int apply_give_document(struct manta_pack *pack, struct text *document, int code)
{
    if (code < 0) {
        text_done(document);
        return code;
    }
    manta_pack_clear(pack);
    text_done(&pack->document);
    pack->document = *document;
    return 0;
}

int manta_library_document(const char *target, const struct manta_run_options *given,
                           const struct manta_deploy_override *overrides, size_t count,
                           struct manta_pack *pack, struct manta_error *reterr)
{
    struct manta_run_options options = {MANTA_RUN_OPTIONS};
    struct app_overrides over = {.at = overrides, .count = count};
    struct error error = {0};
    struct text document;
    take_options(&options, sizeof options, given, given ? given->size : 0);
    if (!target || !options.name || !*options.name)
        return manta_error_set(reterr, MANTA_EINVALID,
                               "an application needs a name and path/to/lib.so:application");
    text_init(&document, INSTANCE_TARGET_LIMIT);
    int code = app_build(target, options.name, options.arguments, &over, &document, &error);
    return apply_give_document(pack, &document, code) < 0 ? runtime_error(reterr, &error) : 0;
}

/* Apps of an older caller are smaller than ours: what they lack has its default. */
static struct manta_apply_app app_at(const struct manta_apply_app *apps, size_t index)
{
    struct manta_apply_app app = {MANTA_APPLY_APP};
    const char *at = (const char *)apps + index * apps->size;
    memcpy(&app, at, apps->size < sizeof app ? apps->size : sizeof app);
    return app;
}

static int check_app(const struct manta_apply_app *app, size_t index, struct error *reterr)
{
    if (!app->name || !*app->name)
        return error_set(reterr, ERROR_INVALID, "application %zu needs a name", index);
    if (!app->document.size == !(app->build_failure && *app->build_failure))
        return error_set(reterr, ERROR_INVALID,
                         "application '%.128s' has not either a document or a build_failure",
                         app->name);
    return 0;
}

static int write_whole(struct text *out, const struct manta_apply_app *apps, size_t count,
                       struct error *reterr)
{
    struct target_app *rows = mem_try((count + 1) * sizeof *rows);
    if (!rows)
        return error_set(reterr, ERROR_MEMORY, "no memory for the whole target");
    for (size_t i = 0; i < count && !reterr->code; i++) {
        struct manta_apply_app app = app_at(apps, i);
        if (check_app(&app, i, reterr) < 0)
            break;
        rows[i] = (struct target_app){.name = bytes_of_string(app.name),
                                      .route_prefix = bytes_of_string(app.route_prefix),
                                      .document = bytes_of(app.document.at, app.document.size),
                                      .build_failure = bytes_of_string(app.build_failure)};
    }
    if (!reterr->code)
        target_write_whole(out, rows, (uint32_t)count);
    if (!reterr->code && out->failed)
        error_set(reterr, ERROR_LIMIT, "the applications' code and arguments are too large");
    mem_free(rows);
    return reterr->code;
}

static int ask(struct manta_instance *instance, const struct manta_apply_options *options,
               struct bytes whole, struct error *reterr)
{
    struct wire_apply frame = {.declarative = options->declarative, .body = whole};
    uint8_t *room = mem_try(wire_apply_size(&frame));
    if (!room)
        return error_set(reterr, ERROR_MEMORY, "no memory for the whole target");
    struct control_question question = {
        .type = WIRE_APPLY_FRAME,
        .frame = bytes_of(room, wire_apply_write(&frame, 0, 0, false, room)),
        .no_wait = options->no_wait,
        .progress = options->progress,
        .owner = options->owner};
    int code = instance_ask(instance, &question, reterr);
    mem_free(room);
    return code;
}

int manta_apply(struct manta_instance *instance, const struct manta_apply_options *given,
                const struct manta_apply_app *apps, size_t count, struct manta_error *reterr)
{
    struct manta_apply_options options = {MANTA_APPLY_OPTIONS};
    struct error error = {0};
    struct text whole;
    take_options(&options, sizeof options, given, given ? given->size : 0);
    if (instance_is_foreign(instance))
        return manta_error_set(reterr, MANTA_ECLOSED, FORKS_TEXT);
    if (count > TARGET_APP_LIMIT)
        return manta_error_set(reterr, MANTA_ELIMIT, "%zu applications, more than %d", count,
                               TARGET_APP_LIMIT);
    text_init(&whole, INSTANCE_TARGET_LIMIT);
    int code = write_whole(&whole, apps, count, &error);
    if (code == 0)
        code = ask(instance, &options, text_bytes(&whole), &error);
    text_done(&whole);
    return code < 0 ? runtime_error(reterr, &error) : 0;
}
