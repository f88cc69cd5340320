/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_target: is a target valid, and the copy that the mind keeps of it.
 *
 * What a user may get wrong is found here, before anything is stored, with a sentence that names
 * the part at fault.  Whether the target fits to what else exists (routes, limits of the instance)
 * is controller_store.c's.  A copy is one allocation: the rows and every slice lie behind the head,
 * so that it can fail as a whole and be freed as a whole.
 */
#include <stdio.h>

#include "controller_state.h"
#include "ensure.h"
#include "error.h"
#include "mem.h"

static int invalid(char *ret_message, const char *what, struct bytes name, const char *sentence)
{
    controller_print(ret_message, CONTROLLER_MESSAGE_SIZE, "%s '%.*s' %s", what, BYTES_PRINT(name),
                     sentence);
    return ERROR_INVALID;
}

static bool has_control_byte(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.at[i] < 0x20 || text.at[i] == 0x7F)
            return true;
    return false;
}

/* '#' separates the parts of a replica's full name (app#deployment#replica). */
static int check_name(const char *what, struct bytes name, char *ret_message)
{
    if (name.size == 0)
        controller_print(ret_message, CONTROLLER_MESSAGE_SIZE, "the name of the %s is empty", what);
    else if (name.size > CONTROLLER_NAME_LIMIT)
        controller_print(ret_message, CONTROLLER_MESSAGE_SIZE,
                         "the name of the %s has %zu bytes, more than %d", what, name.size,
                         CONTROLLER_NAME_LIMIT);
    else if (has_control_byte(name))
        controller_print(ret_message, CONTROLLER_MESSAGE_SIZE,
                         "the name of the %s has a control character", what);
    else if (bytes_find(name, '#') >= 0)
        return invalid(ret_message, what, name, "has a '#' in its name");
    else
        return 0;
    return ERROR_INVALID;
}

static int check_route(struct bytes route, char *ret_message)
{
    if (route.size == 0)
        return 0;
    if (route.size > CONTROLLER_ROUTE_LIMIT || has_control_byte(route)) {
        controller_print(ret_message, CONTROLLER_MESSAGE_SIZE,
                         "the route prefix is longer than %d bytes or has a control character",
                         CONTROLLER_ROUTE_LIMIT);
        return ERROR_INVALID;
    }
    if (route.at[0] != '/')
        return invalid(ret_message, "the route prefix", route, "does not begin with '/'");
    if (route.size > 1 && route.at[route.size - 1] == '/')
        return invalid(ret_message, "the route prefix", route, "ends with '/'");
    if (bytes_find(route, '{') >= 0 || bytes_find(route, '}') >= 0)
        return invalid(ret_message, "the route prefix", route, "has a '{' or a '}'");
    return 0;
}

static int check_deployment(const struct settings *settings,
                            const struct controller_deployment_target *deployment,
                            char *ret_message)
{
    int code = check_name("deployment", deployment->name, ret_message);
    if (code)
        return code;
    if (deployment->max_ongoing < 1)
        return invalid(ret_message, "deployment", deployment->name,
                       "has max_ongoing_requests 0; it is at least 1");
    if (deployment->max_queued < 1 && deployment->max_queued != -1)
        return invalid(ret_message, "deployment", deployment->name,
                       "has a wrong max_queued_requests; it is -1 (no limit) or at least 1");
    if (deployment->rollout.max_surge_percent > 100)
        return invalid(ret_message, "deployment", deployment->name,
                       "has a max_surge_percent above 100");
    if (deployment->rollout.share_millionths > 1000000)
        return invalid(ret_message, "deployment", deployment->name,
                       "has a rolling_update_percentage above 1");
    if (deployment->rollout.start_timeout_ns < 0)
        return invalid(ret_message, "deployment", deployment->name, "has a negative time");
    if (deployment->graceful_shutdown_timeout_ns < 0 || deployment->health_check_period_ns < 0 ||
        deployment->health_check_timeout_ns < 0)
        return invalid(ret_message, "deployment", deployment->name, "has a negative time");
    if (deployment->replicas > settings->replica_limit) {
        controller_print(ret_message, CONTROLLER_MESSAGE_SIZE,
                         "deployment '%.*s' wants %u replicas; the limit is %lld (replica_limit)",
                         BYTES_PRINT(deployment->name), deployment->replicas,
                         (long long)settings->replica_limit);
        return ERROR_LIMIT;
    }
    return 0;
}

/* Each deployment, and that their names differ; `names` is a scratch map. */
static int check_deployments(const struct settings *settings,
                             const struct controller_app_target *target, struct map *names,
                             char *ret_message)
{
    for (uint32_t i = 0; i < target->deployment_count; i++) {
        const struct controller_deployment_target *deployment = target->deployments + i;
        int code = check_deployment(settings, deployment, ret_message);
        if (code)
            return code;
        if (map_get_name(names, deployment->name))
            return invalid(ret_message, "deployment", deployment->name, "is there twice");
        if (map_try_put_name(names, deployment->name, names) != 0) {
            controller_print(ret_message, CONTROLLER_MESSAGE_SIZE, "%s", error_text(ERROR_MEMORY));
            return ERROR_MEMORY;
        }
    }
    if (target->ingress.size == 0) {
        controller_print(ret_message, CONTROLLER_MESSAGE_SIZE,
                         "the application has no ingress deployment");
        return ERROR_INVALID;
    }
    if (!map_get_name(names, target->ingress))
        return invalid(ret_message, "the ingress", target->ingress, "is not among the deployments");
    return 0;
}

/* Bytes of a copy; stops counting past the limit, so that it cannot overflow. */
static size_t size_of(const struct controller_app_target *target, size_t limit)
{
    size_t size = sizeof(struct controller_plan) + target->name.size + target->route_prefix.size +
                  target->ingress.size + 3;
    for (uint32_t i = 0; i < target->deployment_count && size <= limit; i++) {
        const struct controller_deployment_target *deployment = target->deployments + i;
        size_t row = sizeof(*deployment) + deployment->name.size + 2;
        size = deployment->body.size > limit ? limit + 1 : size + row + deployment->body.size;
    }
    return size;
}

int controller_target_check(const struct settings *settings,
                            const struct controller_app_target *target, char *ret_message)
{
    int code = check_name("application", target->name, ret_message);
    if (code == 0)
        code = check_route(target->route_prefix, ret_message);
    if (code || target->build_failure.size) /* of which there is nothing more */
        return code;
    if (target->deployment_count == 0 || target->deployment_count > settings->deployment_limit) {
        controller_print(
            ret_message, CONTROLLER_MESSAGE_SIZE,
            "application '%.*s' has %u deployments; it has at least one and at most %lld",
            BYTES_PRINT(target->name), target->deployment_count,
            (long long)settings->deployment_limit);
        return target->deployment_count ? ERROR_LIMIT : ERROR_INVALID;
    }
    if (size_of(target, (size_t)settings->target_size_limit) >
        (size_t)settings->target_size_limit) {
        controller_print(
            ret_message, CONTROLLER_MESSAGE_SIZE,
            "the target of application '%.*s' is larger than %lld bytes (target_size_limit)",
            BYTES_PRINT(target->name), (long long)settings->target_size_limit);
        return ERROR_LIMIT;
    }
    struct map names;
    map_init(&names, target->deployment_count);
    code = check_deployments(settings, target, &names, ret_message);
    map_done(&names);
    return code;
}

bool controller_target_equal(const struct controller_app_target *a,
                             const struct controller_app_target *b)
{
    if (a->declarative != b->declarative || a->deployment_count != b->deployment_count ||
        !bytes_equal(a->name, b->name) || !bytes_equal(a->ingress, b->ingress) ||
        !bytes_equal(a->route_prefix, b->route_prefix))
        return false;
    for (uint32_t i = 0; i < a->deployment_count; i++) {
        const struct controller_deployment_target *one = a->deployments + i,
                                                  *other = b->deployments + i;
        if (one->version != other->version || one->replicas != other->replicas ||
            !bytes_equal(one->name, other->name) || !bytes_equal(one->body, other->body) ||
            !controller_deployment_options_equal(one, other))
            return false;
    }
    return true;
}

/* ---- the copy ---- */

/* Takes from the free end of the block; a zero byte is behind each slice. */
static struct bytes copy_slice(uint8_t **free_end, struct bytes slice)
{
    uint8_t *at = *free_end;
    if (slice.size)
        memcpy(at, slice.at, slice.size);
    *free_end += slice.size + 1;
    return bytes_of(at, slice.size);
}

struct controller_plan *controller_plan_try_new(const struct controller_app_target *target)
{
    size_t size = size_of(target, SIZE_MAX / 2);
    struct controller_plan *plan = mem_try(size);
    if (!plan)
        return NULL;
    struct controller_deployment_target *rows = controller_plan_rows(plan);
    uint8_t *free_end = (uint8_t *)(rows + target->deployment_count);
    plan->references = 1;
    plan->target = *target;
    plan->target.deployments = rows;
    plan->target.name = copy_slice(&free_end, target->name);
    plan->target.route_prefix = copy_slice(&free_end, target->route_prefix);
    plan->target.ingress = copy_slice(&free_end, target->ingress);
    plan->target.build_failure = (struct bytes){0};
    for (uint32_t i = 0; i < target->deployment_count; i++) {
        rows[i] = target->deployments[i];
        rows[i].name = copy_slice(&free_end, rows[i].name);
        rows[i].body = copy_slice(&free_end, rows[i].body);
    }
    ensure(free_end == (uint8_t *)plan + size);
    return plan;
}

struct controller_deployment_target *controller_plan_rows(struct controller_plan *plan)
{
    return (void *)(plan + 1);
}

struct controller_plan *controller_plan_ref(struct controller_plan *plan)
{
    ensure(plan->references > 0);
    plan->references++;
    return plan;
}

void controller_plan_unref(struct controller *controller, struct controller_plan *plan)
{
    if (!plan)
        return;
    ensure(plan->references > 0);
    if (--plan->references == 0)
        controller_trash_add(controller, plan);
}

void controller_goal_set(struct controller *controller, struct controller_goal *goal,
                         struct controller_plan *plan,
                         const struct controller_deployment_target *target, bool proven)
{
    ensure(plan && target);
    ensure_tag(C1, plan->stored);
    controller_plan_ref(plan);
    controller_plan_unref(controller, goal->plan);
    *goal = (struct controller_goal){.plan = plan, .target = target, .proven = proven};
}

void controller_goal_clear(struct controller *controller, struct controller_goal *goal)
{
    controller_plan_unref(controller, goal->plan);
    *goal = (struct controller_goal){0};
}
