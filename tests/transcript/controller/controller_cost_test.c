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

/* The first application's deployments once more, with another version or configuration. */
static uint64_t change_first(struct plenty *plenty, uint32_t count, uint64_t version,
                             uint64_t configuration)
{
    static struct controller_deployment_target rows[MANY];
    static char names[MANY][8];
    uint64_t before = controller_visits(plenty->controller);
    struct controller_app_target target = {.name = BYTES("a0"),
                                           .route_prefix = BYTES("/a0"),
                                           .deployments = rows,
                                           .deployment_count = count};
    struct controller_event event = {.type = CONTROLLER_DEPLOY, .target = &target};
    for (uint32_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof(names[i]), "d%u", i);
        rows[i] = (struct controller_deployment_target){.name = bytes_of_string(names[i]),
                                                        .version = i == 0 ? version : 1,
                                                        .configuration = i == 0 ? configuration : 0,
                                                        .replicas = 1,
                                                        .max_ongoing = 1,
                                                        .max_queued = -1,
                                                        .rollout.max_surge_percent = 100};
    }
    target.ingress = rows[0].name;
    step(plenty, &event);
    event = (struct controller_event){.type = CONTROLLER_STORED, .token = store_token(plenty)};
    step(plenty, &event);
    return controller_visits(plenty->controller) - before;
}

/* The first effect of this kind in the last step. */
static const struct controller_effect *effect_of(const struct plenty *plenty,
                                                 enum controller_effect_type type)
{
    for (uint32_t i = 0; i < plenty->effects.count; i++)
        if (plenty->effects.at[i].type == type)
            return plenty->effects.at + i;
    cr_assert_fail("an effect is missing");
    return NULL;
}

static void replica_event(struct plenty *plenty, enum controller_event_type type, uint64_t replica)
{
    struct controller_event event = {
        .type = type, .replica = {replica}, .address = BYTES("/run/x")};
    step(plenty, &event);
}

/* `many` deployments, each with a running replica; `apps` applications share them. */
static void begin_with(struct plenty *plenty, uint32_t many, uint32_t apps)
{
    struct controller_config config = {0};
    settings_init(&config.settings);
    memset(plenty, 0, sizeof(*plenty));
    plenty->now_ns = 1;
    plenty->controller = controller_new(&config, 1);
    for (uint32_t i = 0; i < apps; i++) {
        char name[16];
        snprintf(name, sizeof(name), "a%u", i);
        deploy(plenty, name, many / apps);
    }
    for (uint64_t id = 1; id <= many; id++) {
        replica_event(plenty, CONTROLLER_READY, id);
        cr_assert_eq(cost(plenty), 2, "ready cost %d", (int)cost(plenty));
    }
}

static void begin(struct plenty *plenty, uint32_t apps)
{
    begin_with(plenty, MANY, apps);
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

/* A new configuration told and answered, then another version started, ready, and the old one gone.
 */
static void count_a_life(uint32_t many, uint64_t ret_costs[6])
{
    struct plenty plenty;
    struct controller_replica_view first;
    begin_with(&plenty, many, many);
    cr_assert(controller_replica_at(plenty.controller, 0, &first));
    ret_costs[0] = change_first(&plenty, 1, first.version, 7);
    const struct controller_effect *told = effect_of(&plenty, CONTROLLER_CONFIGURE);
    struct controller_event event = {
        .type = CONTROLLER_CONFIGURED, .replica = told->replica, .token = told->token};
    step(&plenty, &event);
    ret_costs[1] = cost(&plenty);
    ret_costs[2] = change_first(&plenty, 1, first.version + MANY, 7);
    uint64_t started = effect_of(&plenty, CONTROLLER_START)->replica.v;
    replica_event(&plenty, CONTROLLER_READY, started);
    ret_costs[3] = cost(&plenty);
    effect_of(&plenty, CONTROLLER_DRAIN);
    replica_event(&plenty, CONTROLLER_GONE, 1);
    ret_costs[4] = cost(&plenty);
    replica_event(&plenty, CONTROLLER_GONE, started);
    ret_costs[5] = cost(&plenty);
    end(&plenty);
}

Test(controller_cost, one_of_a_thousand_costs_what_one_of_ten_costs)
{
    uint64_t few[6], many[6];
    count_a_life(10, few);
    count_a_life(MANY, many);
    for (int i = 0; i < 6; i++) {
        cr_assert_eq(many[i], few[i], "step %d: %d and %d", i, (int)many[i], (int)few[i]);
        cr_assert_leq(many[i], 4);
    }
}
