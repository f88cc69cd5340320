/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_memory: when memory lacks.
 *
 * The copy of a target is the only thing whose size comes from outside: where that fails the deploy
 * is refused with ERROR_MEMORY and nothing has changed.  Everything else is small, and a step
 * cannot fail: there the process dies, by design, and the next controller finds everything in the
 * store and the engine.  So with the n-th allocation failing, n counted up until it passes, a
 * deploy is refused whole, dies, or is accepted; never anything else.  Each try is a process of its
 * own.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "controller.h"
#include "ensure.h"
#include "error.h"
#include "mem.h"

enum { REFUSED = 10, ACCEPTED = 11, BROKEN = 12 };

static struct controller *some_controller(void)
{
    struct controller_config config = {0};
    settings_init(&config.settings);
    return controller_new(&config, 1);
}

static void deploy(struct controller *controller, const char *app,
                   struct controller_effects *effects)
{
    const struct controller_deployment_target rows[] = {
        {.name = BYTES("a"), .version = 1, .replicas = 2, .max_ongoing = 1, .max_queued = -1},
        {.name = BYTES("b"), .version = 1, .replicas = 1, .max_ongoing = 1, .max_queued = -1},
    };
    const struct controller_app_target target = {.name = bytes_of_string(app),
                                                 .ingress = BYTES("a"),
                                                 .deployments = rows,
                                                 .deployment_count = 2};
    struct controller_event event = {.type = CONTROLLER_DEPLOY, .target = &target, .token = 5};
    controller_step(controller, 1, &event, effects);
}

/* In a child: a deploy beside another application, the n-th allocation failing. */
static int deploy_with_failure(uint64_t nth)
{
    struct controller *controller = some_controller();
    struct controller_effects effects = {0};
    struct text before, after;
    text_init(&before, 1 << 16);
    text_init(&after, 1 << 16);
    deploy(controller, "first", &effects);
    controller_dump(controller, &before);
    mem_fail_at(nth);
    deploy(controller, "second", &effects);
    mem_fail_at(0);
    controller_check(controller);
    controller_dump(controller, &after);
    bool same = bytes_equal(text_bytes(&before), text_bytes(&after));
    const struct controller_effect *effect = effects.at;
    if (effects.count != 1)
        return BROKEN;
    if (effect->type == CONTROLLER_STORE)
        return same ? BROKEN : ACCEPTED;
    bool refused =
        effect->type == CONTROLLER_OUTCOME && effect->code == ERROR_MEMORY && effect->token == 5;
    return refused && same ? REFUSED : BROKEN;
}

/* How it ended; 0: it died by a signal. */
static int in_a_child(uint64_t nth)
{
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0};
        setrlimit(RLIMIT_CORE, &none);
        fclose(stderr);
        _exit(deploy_with_failure(nth));
    }
    int status = 0;
    cr_assert_eq(waitpid(child, &status, 0), child);
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    cr_assert_eq(WTERMSIG(status), SIGABRT);
    return 0;
}

Test(controller_memory, a_deploy_is_refused_whole_or_dies)
{
    int refused = 0, died = 0;
    for (uint64_t nth = 1; nth < 1000; nth++) {
        int how = in_a_child(nth);
        cr_assert_neq(how, BROKEN, "allocation %d", (int)nth);
        refused += how == REFUSED;
        died += how == 0;
        cr_assert_eq(refused + died + (how == ACCEPTED), (int)nth);
        if (how == ACCEPTED)
            break;
    }
    cr_assert_geq(refused, 2); /* the names, the copy */
    cr_assert_geq(died, 1);
}

Test(controller_memory, a_mind_that_cannot_be_made_is_null)
{
    mem_fail_at(1);
    struct controller *controller = some_controller();
    mem_fail_at(0);
    cr_assert_null(controller);
    cr_assert_null(controller_free(controller));
}

Test(controller_memory, a_mind_gives_everything_back)
{
    uint64_t live = mem_count().live;
    struct controller_effects effects = {0};
    struct controller *controller = some_controller();
    deploy(controller, "first", &effects);
    struct controller_event stored = {.type = CONTROLLER_STORED, .token = effects.at[0].token};
    controller_step(controller, 1, &stored, &effects);
    deploy(controller, "second", &effects); /* under way to the store */
    struct controller_event adopted = {.type = CONTROLLER_ADOPT,
                                       .replica = {99},
                                       .app = BYTES("other"),
                                       .deployment = BYTES("c"),
                                       .address = BYTES("/run/r99")};
    controller_step(controller, 1, &adopted, &effects);
    struct controller_event removed = {.type = CONTROLLER_DELETE, .token = 6};
    controller_step(controller, 1, &removed, &effects);
    controller_free(controller);
    controller_effects_done(&effects);
    cr_assert_eq(mem_count().live, live);
}

Test(controller_memory, a_target_that_is_too_large_is_refused)
{
    struct controller_config config = {0};
    struct controller_effects effects = {0};
    static uint8_t body[2000];
    settings_init(&config.settings);
    config.settings.target_size_limit = 2000;
    struct controller *controller = controller_new(&config, 1);
    struct controller_deployment_target row = {
        .name = BYTES("a"), .max_ongoing = 1, .max_queued = -1};
    struct controller_app_target target = {
        .name = BYTES("app"), .ingress = BYTES("a"), .deployments = &row, .deployment_count = 1};
    struct controller_event event = {.type = CONTROLLER_DEPLOY, .target = &target, .token = 5};
    row.body = bytes_of(body, sizeof(body));
    controller_step(controller, 1, &event, &effects);
    cr_assert_eq(effects.at[0].code, ERROR_LIMIT);
    row.body = bytes_of(body, 1000);
    controller_step(controller, 1, &event, &effects);
    cr_assert_eq(effects.at[0].type, CONTROLLER_STORE);
    cr_assert_eq(effects.at[0].target->deployments[0].body.size, 1000);
    controller_free(controller);
    controller_effects_done(&effects);
}
