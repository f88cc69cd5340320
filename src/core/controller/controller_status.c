/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_status: the words that users see, and how one follows from another.
 *
 * A deployment's status moves by signals through one table (Ray Serve's, behaviour of 2.60).  An
 * application's status is no machine: the worst of its wanted deployments, read from the lengths of
 * the lists that they hang on.  Messages say why, last words of a failure included.
 */
#include <stdarg.h>
#include <stdio.h>

#include "controller_state.h"
#include "ensure.h"

static const char *const status_words[] = {
#define DEPLOYMENT_STATUS(name, word) [DEPLOYMENT_STATUS_##name] = word,
#include "states.def"
#undef DEPLOYMENT_STATUS
};
static const char *const trigger_words[] = {
#define DEPLOYMENT_TRIGGER(name) [DEPLOYMENT_TRIGGER_##name] = #name,
#include "states.def"
#undef DEPLOYMENT_TRIGGER
};
static const char *const app_words[] = {
#define APPLICATION_STATUS(name) [APPLICATION_STATUS_##name] = #name,
#include "states.def"
#undef APPLICATION_STATUS
};

const char *deployment_status_word(enum deployment_status status)
{
    ensure(status < DEPLOYMENT_STATUS_COUNT);
    return status_words[status];
}

const char *deployment_trigger_word(enum deployment_trigger trigger)
{
    ensure(trigger < DEPLOYMENT_TRIGGER_COUNT);
    return trigger_words[trigger];
}

const char *application_status_word(enum application_status status)
{
    ensure(status < APPLICATION_STATUS_COUNT);
    return app_words[status];
}

/* ---- texts ---- */

void controller_print(char *ret_text, size_t size, const char *format, ...)
{
    va_list arguments;
    ensure(size > 0);
    va_start(arguments, format);
    int length = vsnprintf(ret_text, size, format, arguments);
    va_end(arguments);
    if (length < 0)
        ret_text[0] = '\0';
    if (length < 0 || (size_t)length < size)
        return;
    /* It was cut, perhaps inside a character (a head byte and its continuation bytes 10xxxxxx). */
    size_t head = size - 1;
    while (head > 0 && size - 1 - head < 3 && ((unsigned char)ret_text[head - 1] & 0xC0) == 0x80)
        head--;
    unsigned char first = head > 0 ? (unsigned char)ret_text[head - 1] : 0;
    size_t whole = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1;
    if (size - head < whole)
        ret_text[head - 1] = '\0';
}

void controller_copy_tail(char *ret_text, size_t size, struct bytes text)
{
    static const char cut[] = "...";
    ensure(size > sizeof(cut));
    while (text.size && (text.at[text.size - 1] == '\n' || text.at[text.size - 1] == '\r' ||
                         text.at[text.size - 1] == ' '))
        text.size--;
    bool whole = text.size < size;
    if (!whole) {
        text = bytes_skip(text, text.size - (size - sizeof(cut)));
        while (text.size && (text.at[0] & 0xC0) == 0x80)
            text = bytes_skip(text, 1);
    }
    controller_print(ret_text, size, "%s%.*s", whole ? "" : cut, BYTES_PRINT(text));
}

struct bytes controller_last_line(const char *text)
{
    struct bytes line = bytes_of_string(text);
    for (ptrdiff_t end; (end = bytes_find(line, '\n')) >= 0;)
        line = bytes_skip(line, (size_t)end + 1);
    return line;
}

/* ---- deployments ---- */

/* ROW(status, signal, new status, new trigger); what has no row changes nothing (Ray Serve 2.60).
 */
static const struct move {
    enum deployment_status from;
    enum controller_signal signal;
    enum deployment_status to;
    enum deployment_trigger trigger;
} moves[] = {
#define ROW(from, signal, to, trigger)                                                             \
    {                                                                                              \
        DEPLOYMENT_STATUS_##from, CONTROLLER_SIGNAL_##signal, DEPLOYMENT_STATUS_##to,              \
            DEPLOYMENT_TRIGGER_##trigger                                                           \
    }
    /* clang-format off */
    ROW(UPDATING,      CONFIG,         UPDATING,      CONFIG_UPDATE_STARTED),
    ROW(UPDATING,      REACHED,        HEALTHY,       CONFIG_UPDATE_COMPLETED),
    ROW(UPDATING,      HEALTH_FAILED,  DEPLOY_FAILED, HEALTH_CHECK_FAILED),
    ROW(UPDATING,      STARTUP_FAILED, DEPLOY_FAILED, REPLICA_STARTUP_FAILED),

    ROW(HEALTHY,       CONFIG,         UPDATING,      CONFIG_UPDATE_STARTED),
    ROW(HEALTHY,       SCALE_UP,       UPSCALING,     CONFIG_UPDATE_STARTED),
    ROW(HEALTHY,       SCALE_DOWN,     DOWNSCALING,   CONFIG_UPDATE_STARTED),
    ROW(HEALTHY,       HEALTH_FAILED,  UNHEALTHY,     HEALTH_CHECK_FAILED),

    ROW(UPSCALING,     CONFIG,         UPDATING,      CONFIG_UPDATE_STARTED),
    ROW(UPSCALING,     SCALE_DOWN,     DOWNSCALING,   CONFIG_UPDATE_STARTED),
    ROW(UPSCALING,     REACHED,        HEALTHY,       UPSCALE_COMPLETED),
    ROW(UPSCALING,     HEALTH_FAILED,  UNHEALTHY,     HEALTH_CHECK_FAILED),
    ROW(UPSCALING,     STARTUP_FAILED, UNHEALTHY,     REPLICA_STARTUP_FAILED),

    ROW(DOWNSCALING,   CONFIG,         UPDATING,      CONFIG_UPDATE_STARTED),
    ROW(DOWNSCALING,   SCALE_UP,       UPSCALING,     CONFIG_UPDATE_STARTED),
    ROW(DOWNSCALING,   REACHED,        HEALTHY,       DOWNSCALE_COMPLETED),
    ROW(DOWNSCALING,   HEALTH_FAILED,  UNHEALTHY,     HEALTH_CHECK_FAILED),
    ROW(DOWNSCALING,   STARTUP_FAILED, UNHEALTHY,     REPLICA_STARTUP_FAILED),

    ROW(UNHEALTHY,     CONFIG,         UPDATING,      CONFIG_UPDATE_STARTED),
    ROW(UNHEALTHY,     REACHED,        HEALTHY,       UNSPECIFIED),
    ROW(UNHEALTHY,     HEALTH_FAILED,  UNHEALTHY,     HEALTH_CHECK_FAILED),
    ROW(UNHEALTHY,     STARTUP_FAILED, UNHEALTHY,     REPLICA_STARTUP_FAILED),
    ROW(DEPLOY_FAILED, CONFIG,         UPDATING,      CONFIG_UPDATE_STARTED),
    ROW(DEPLOY_FAILED, REACHED,        HEALTHY,       UNSPECIFIED),
    ROW(DEPLOY_FAILED, HEALTH_FAILED,  DEPLOY_FAILED, HEALTH_CHECK_FAILED),
    ROW(DEPLOY_FAILED, STARTUP_FAILED, DEPLOY_FAILED, REPLICA_STARTUP_FAILED),

    ROW(UPDATING,      DELETE,         UPDATING,      DELETING),
    ROW(HEALTHY,       DELETE,         UPDATING,      DELETING),
    ROW(UNHEALTHY,     DELETE,         UPDATING,      DELETING),
    ROW(DEPLOY_FAILED, DELETE,         UPDATING,      DELETING),
    ROW(UPSCALING,     DELETE,         UPDATING,      DELETING),
    ROW(DOWNSCALING,   DELETE,         UPDATING,      DELETING),
/* clang-format on */
#undef ROW
};

static const struct move *find_move(enum deployment_status from, enum controller_signal signal)
{
    for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++)
        if (moves[i].from == from && moves[i].signal == signal)
            return moves + i;
    return NULL;
}

void controller_status_signal(struct controller *controller,
                              struct controller_deployment *deployment,
                              enum controller_signal signal)
{
    ensure(signal < CONTROLLER_SIGNAL_COUNT);
    const struct move *move = find_move(deployment->status, signal);
    if (!move || (deployment->status == move->to && deployment->trigger == move->trigger))
        return;
    deployment->status = move->to;
    deployment->trigger = move->trigger;
    if (!deployment->leaving) {
        list_remove(&deployment->app_link);
        list_push_back(&deployment->app->by_status[deployment->status], &deployment->app_link);
    }
    trace_print(controller->config.trace, "%.*s/%.*s: %s (%s)", BYTES_PRINT(deployment->app->name),
                BYTES_PRINT(deployment->name), status_words[deployment->status],
                trigger_words[deployment->trigger]);
    controller_deployment_touch(controller, deployment);
}

void controller_status_say(struct controller_deployment *deployment, const char *format, ...)
{
    char message[CONTROLLER_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    controller_print(deployment->message, sizeof(deployment->message), "%s", message);
}

/* ---- applications ---- */

/* "['a', 'b']", and the message of the first of them. */
static void name_culprits(struct controller_app *app, const struct list *culprits,
                          const char *before, const char *after)
{
    const struct controller_deployment *first =
        list_entry(culprits->head.next, struct controller_deployment, app_link);
    char names[CONTROLLER_MESSAGE_SIZE / 2];
    size_t size = 0;
    struct list_link *link;
    names[0] = '\0';
    list_each (link, culprits) {
        const struct controller_deployment *culprit =
            list_entry(link, struct controller_deployment, app_link);
        if (size + culprit->name.size + sizeof("', '...") > sizeof(names)) {
            controller_print(names + size, sizeof(names) - size, "...");
            break;
        }
        controller_print(names + size, sizeof(names) - size, "%s'%.*s'",
                         culprit == first ? "" : ", ", BYTES_PRINT(culprit->name));
        size += strlen(names + size);
    }
    controller_print(app->message, sizeof(app->message), "%s [%s]%s %.*s: %s", before, names, after,
                     BYTES_PRINT(first->name),
                     first->message[0] ? first->message : first->last_failure);
}

/* Ray Serve: an autoscaled change does not leave RUNNING, one that a user asked for does. */
static bool scales_by_config(const struct list *list)
{
    struct list_link *link;
    list_each (link, list)
        if (list_entry(link, struct controller_deployment, app_link)->trigger ==
            DEPLOYMENT_TRIGGER_CONFIG_UPDATE_STARTED)
            return true;
    return false;
}

void controller_status_app(struct controller *controller, struct controller_app *app)
{
    const struct list *by = app->by_status;
    enum application_status status = APPLICATION_STATUS_RUNNING;
    if (!app->build_failed || app->deleting)
        app->message[0] = '\0';
    if (app->deleting) {
        status = APPLICATION_STATUS_DELETING;
    } else if (app->build_failed) { /* its message was given with that */
        status = APPLICATION_STATUS_DEPLOY_FAILED;
    } else if (!app->plan) {
        status = APPLICATION_STATUS_NOT_STARTED;
    } else if (!list_empty(&by[DEPLOYMENT_STATUS_DEPLOY_FAILED])) {
        status = APPLICATION_STATUS_DEPLOY_FAILED;
        name_culprits(app, &by[DEPLOYMENT_STATUS_DEPLOY_FAILED], "Failed to update the deployments",
                      ".");
    } else if (!list_empty(&by[DEPLOYMENT_STATUS_UNHEALTHY])) {
        status = APPLICATION_STATUS_UNHEALTHY;
        name_culprits(app, &by[DEPLOYMENT_STATUS_UNHEALTHY], "The deployments", " are UNHEALTHY.");
    } else if (!list_empty(&by[DEPLOYMENT_STATUS_UPDATING]) ||
               scales_by_config(&by[DEPLOYMENT_STATUS_UPSCALING]) ||
               scales_by_config(&by[DEPLOYMENT_STATUS_DOWNSCALING])) {
        status = APPLICATION_STATUS_DEPLOYING;
    }
    if (app->status == status)
        return;
    app->status = status;
    trace_print(controller->config.trace, "%.*s: %s", BYTES_PRINT(app->name), app_words[status]);
}
