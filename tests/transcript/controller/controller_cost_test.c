/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_cost: a step looks at what changed, not at everything there is.
 *
 * Counted in deployments and applications visited, not in time: one event among a thousand
 * deployments visits one deployment and its application, wherever they live.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "controller.h"
#include "ensure.h"
#include "mem.h"

enum { MANY = 1000 };

struct plenty {
    struct controller *controller;
    struct controller_effects effects;
    int64_t now_ns;
    uint64_t before;
};

static void step(struct plenty *plenty, const struct controller_event *event)
{
    plenty->before = controller_visits(plenty->controller);
    controller_step(plenty->controller, plenty->now_ns, event, &plenty->effects);
}

static uint64_t cost(const struct plenty *plenty)
{
    return controller_visits(plenty->controller) - plenty->before;
}

static uint64_t store_token(const struct plenty *plenty)
{
    cr_assert_gt(plenty->effects.count, 0);
    const struct controller_effect *last = plenty->effects.at + plenty->effects.count - 1;
    cr_assert_eq(last->type, CONTROLLER_STORE);
    return last->token;
}

static void deploy(struct plenty *plenty, const char *app, uint32_t count)
{
    static struct controller_deployment_target rows[MANY];
    static char names[MANY][8];
    static uint64_t version; /* what is in force already would cost nothing */
    char route[16];
    struct controller_app_target target = {.name = bytes_of_string(app), .deployments = rows};
    struct controller_event event = {.type = CONTROLLER_DEPLOY, .target = &target};
    version++;
    snprintf(route, sizeof(route), "/%s", app);
    target.route_prefix = bytes_of_string(route);
    target.deployment_count = count;
    for (uint32_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof(names[i]), "d%u", i);
        rows[i] = (struct controller_deployment_target){.name = bytes_of_string(names[i]),
                                                        .version = version,
                                                        .replicas = 1,
                                                        .max_ongoing = 1,
                                                        .max_queued = -1};
    }
    target.ingress = rows[0].name;
    step(plenty, &event);
    event = (struct controller_event){.type = CONTROLLER_STORED, .token = store_token(plenty)};
    step(plenty, &event);
}

static void replica_event(struct plenty *plenty, enum controller_event_type type, uint64_t replica)
{
    struct controller_event event = {
        .type = type, .replica = {replica}, .address = BYTES("/run/x")};
    step(plenty, &event);
}

/* A thousand deployments, each with a running replica; `apps` applications share them. */
static void begin(struct plenty *plenty, uint32_t apps)
{
    struct controller_config config = {0};
    settings_init(&config.settings);
    memset(plenty, 0, sizeof(*plenty));
    plenty->now_ns = 1;
    plenty->controller = controller_new(&config, 1);
    for (uint32_t i = 0; i < apps; i++) {
        char name[16];
        snprintf(name, sizeof(name), "a%u", i);
        deploy(plenty, name, MANY / apps);
    }
    for (uint64_t id = 1; id <= MANY; id++) {
        replica_event(plenty, CONTROLLER_READY, id);
        cr_assert_eq(cost(plenty), 2, "ready cost %d", (int)cost(plenty));
    }
}

static void end(struct plenty *plenty)
{
    controller_check(plenty->controller);
    controller_free(plenty->controller);
    controller_effects_done(&plenty->effects);
}

static void expect_small_steps(uint32_t apps)
{
    struct plenty plenty;
    struct controller_event time = {.type = CONTROLLER_TIME};
    begin(&plenty, apps);
    replica_event(&plenty, CONTROLLER_GONE, MANY / 2); /* and its successor starts */
    cr_assert_eq(cost(&plenty), 2);
    replica_event(&plenty, CONTROLLER_GONE, MANY / 2); /* nobody knows it */
    cr_assert_eq(cost(&plenty), 0);
    replica_event(&plenty, CONTROLLER_READY, MANY + 1);
    cr_assert_eq(cost(&plenty), 2);
    replica_event(&plenty, CONTROLLER_HEALTH, MANY);
    cr_assert_eq(cost(&plenty), 2);
    step(&plenty, &time);
    cr_assert_leq(cost(&plenty), 2);
    end(&plenty);
}

Test(controller_cost, one_of_a_thousand_deployments_of_one_application)
{
    expect_small_steps(1);
}

Test(controller_cost, one_of_a_thousand_applications)
{
    expect_small_steps(MANY);
}

Test(controller_cost, a_deploy_visits_its_own_deployments_only)
{
    struct plenty plenty;
    begin(&plenty, MANY / 10);
    deploy(&plenty, "a50", 10);
    cr_assert_leq(cost(&plenty), 11);
    end(&plenty);
}
