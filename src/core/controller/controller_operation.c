/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_operation: who waits for what, and what they are told.
 *
 * An operation (a deploy, a delete) is answered by exactly one OUTCOME.  It may concern many
 * applications (delete all): each of them holds one wait, and the last wait to end answers, with
 * the first code that was not 0.  Waits travel with what they wait for: from the target under way
 * to the store to the application once the target is in force.
 */
#include <stdarg.h>
#include <stdio.h>

#include "controller_state.h"
#include "ensure.h"
#include "mem.h"

void controller_outcome(struct controller *controller, uint64_t token, int code,
                        const char *message)
{
    if (token == 0)
        return;
    struct controller_effect *effect =
        controller_effect_add(controller->effects, CONTROLLER_OUTCOME);
    effect->token = token;
    effect->code = code;
    controller_print(effect->message, sizeof(effect->message), "%s", message);
}

struct controller_operation *controller_operation_new(struct controller *controller,
                                                      enum controller_event_type type,
                                                      uint64_t token, bool *ret_refused)
{
    *ret_refused = false;
    if (token == 0)
        return NULL;
    if (controller->operation_count >= CONTROLLER_WAIT_LIMIT) {
        controller_outcome(controller, token, ERROR_LIMIT, "too many operations are under way");
        *ret_refused = true;
        return NULL;
    }
    struct controller_operation *operation = mem_new(sizeof(*operation));
    operation->type = type;
    operation->token = token;
    controller->operation_count++;
    return operation;
}

static void operation_free(struct controller *controller, struct controller_operation *operation)
{
    ensure(operation->waits == 0 && controller->operation_count > 0);
    controller->operation_count--;
    mem_free(operation);
}

void controller_wait_add(struct list *waits, struct controller_operation *operation)
{
    if (!operation)
        return;
    struct controller_wait *wait = mem_new(sizeof(*wait));
    wait->operation = operation;
    operation->waits++;
    list_push_back(waits, &wait->link);
}

void controller_waits_move(struct list *target_waits, struct list *source_waits)
{
    for (struct list_link *link; (link = list_pop_front(source_waits));)
        list_push_back(target_waits, link);
}

void controller_waits_end(struct controller *controller, struct list *waits, int code,
                          const char *message)
{
    for (struct list_link *link; (link = list_pop_front(waits));) {
        struct controller_wait *wait = list_entry(link, struct controller_wait, link);
        struct controller_operation *operation = wait->operation;
        mem_free(wait);
        ensure(operation->waits > 0);
        if (code && operation->code == 0) {
            operation->code = code;
            controller_print(operation->message, sizeof(operation->message), "%s", message);
        }
        if (--operation->waits > 0)
            continue;
        controller_outcome(controller, operation->token, operation->code, operation->message);
        operation_free(controller, operation);
    }
}

void controller_waits_free(struct controller *controller, struct list *waits)
{
    for (struct list_link *link; (link = list_pop_front(waits));) {
        struct controller_wait *wait = list_entry(link, struct controller_wait, link);
        if (--wait->operation->waits == 0)
            operation_free(controller, wait->operation);
        mem_free(wait);
    }
}

void controller_progress(struct controller *controller, struct controller_app *app,
                         const char *format, ...)
{
    char line[CONTROLLER_MESSAGE_SIZE];
    struct list_link *link;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    list_each (link, &app->waits) {
        const struct controller_operation *operation =
            list_entry(link, struct controller_wait, link)->operation;
        if (operation->type == CONTROLLER_DELETE)
            continue;
        struct controller_effect *effect =
            controller_effect_add(controller->effects, CONTROLLER_PROGRESS);
        effect->token = operation->token;
        effect->app = app->id;
        effect->app_name = app->name;
        /* Where several applications are waited for it is said of which one this is. */
        if (operation->type == CONTROLLER_APPLY)
            controller_print(effect->message, sizeof(effect->message), "%.*s/%s",
                             BYTES_PRINT(app->name), line);
        else
            controller_print(effect->message, sizeof(effect->message), "%s", line);
    }
}
