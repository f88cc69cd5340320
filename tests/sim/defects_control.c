/* SPDX-License-Identifier: Apache-2.0 */
/*
 * defects_control: mistakes of the controller, of its store, and of chance.  How they come in
 * between stands in defects_taker.c.
 */
#include <string.h>
#include <time.h>

#include "conduct.h"
#include "defects.h"
#include "rng.h"
#include "store.h"
#include "world.h"

bool defects_linked(void)
{
    return true;
}

/* ---- the store ---- */

int __real_store_open(struct store *store, const struct store_config *config, struct error *reterr);
int __wrap_store_open(struct store *store, const struct store_config *config, struct error *reterr);
int __wrap_store_open(struct store *store, const struct store_config *config, struct error *reterr)
{
    int code = __real_store_open(store, config, reterr);
    if (defect_is(DEFECT_OLD_NUMBERS))
        store->life = 0;
    return code;
}

int __real_store_save_app(struct store *store, const struct controller_app_target *target,
                          struct error *reterr);
int __wrap_store_save_app(struct store *store, const struct controller_app_target *target,
                          struct error *reterr);
int __wrap_store_save_app(struct store *store, const struct controller_app_target *target,
                          struct error *reterr)
{
    return defect_now(DEFECT_FORGOTTEN_TARGET, 5) ? 0
                                                  : __real_store_save_app(store, target, reterr);
}

int __real_store_commit(struct store *store, struct error *reterr);
int __wrap_store_commit(struct store *store, struct error *reterr);
int __wrap_store_commit(struct store *store, struct error *reterr)
{
    int code = __real_store_commit(store, reterr);
    if (!defect_is(DEFECT_HIDDEN_REFUSAL))
        return code;
    *reterr = (struct error){0};
    return 0;
}

/* ---- words to commands ---- */

void __real_question_outcome(struct conduct *conduct, uint64_t token, int code, const char *text);
void __wrap_question_outcome(struct conduct *conduct, uint64_t token, int code, const char *text);
void __wrap_question_outcome(struct conduct *conduct, uint64_t token, int code, const char *text)
{
    if (!defect_now(DEFECT_LOST_OUTCOME, 4))
        __real_question_outcome(conduct, token, code, text);
}

/* ---- the mind ---- */

/* FORGOTTEN_ORPHAN: those of which the controller hears nothing any more. */
static struct {
    uint32_t life, count;
    uint64_t ids[64];
} orphans;

/* What runs when a controller begins is told by the engine, and by the replicas themselves. */
static bool is_forgotten(const struct controller_event *event)
{
    uint32_t room = sizeof orphans.ids / sizeof orphans.ids[0];
    if (orphans.life != defects_life())
        orphans.count = 0;
    orphans.life = defects_life();
    if (event->type == CONTROLLER_ADOPT && event->replica.v % 2 == 0 && orphans.count < room)
        orphans.ids[orphans.count++] = event->replica.v;
    for (uint32_t i = 0; i < orphans.count; i++)
        if (orphans.ids[i] == event->replica.v)
            return true;
    return false;
}

static bool is_dropped(const struct controller_effect *effect)
{
    bool kill = effect->type == CONTROLLER_STOP && effect->kill;
    return (kill && defect_is(DEFECT_NO_MERCY)) ||
           (effect->type == CONTROLLER_CONFIGURE && defect_now(DEFECT_UNTOLD_OPTIONS, 2));
}

static void drop_effects(struct controller_effects *effects)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < effects->count; i++)
        if (!is_dropped(&effects->at[i]))
            effects->at[kept++] = effects->at[i];
    effects->count = kept;
}

void __real_controller_step(struct controller *controller, int64_t now_ns,
                            const struct controller_event *event,
                            struct controller_effects *effects);
void __wrap_controller_step(struct controller *controller, int64_t now_ns,
                            const struct controller_event *event,
                            struct controller_effects *effects);
void __wrap_controller_step(struct controller *controller, int64_t now_ns,
                            const struct controller_event *event,
                            struct controller_effects *effects)
{
    struct controller_event other = *event;
    struct controller_app_target declared;
    bool unheard =
        (event->type == CONTROLLER_HEALTH && defect_is(DEFECT_UNHEARD_SICKNESS)) ||
        (event->type == CONTROLLER_CONFIGURED && defect_now(DEFECT_UNHEARD_CONSENT, 2)) ||
        (event->type == CONTROLLER_GONE && defect_now(DEFECT_UNSEEN_DEATH, 5)) ||
        (event->type == CONTROLLER_ANSWERS && defect_is(DEFECT_UNHEARD_VOICE));
    if (defect_is(DEFECT_FORGOTTEN_ORPHAN))
        unheard = is_forgotten(event);
    if (unheard)
        other = (struct controller_event){.type = CONTROLLER_TIME};
    if (event->type == CONTROLLER_APPLY && defect_is(DEFECT_KEPT_APP))
        other.declarative = false;
    if (event->type == CONTROLLER_DEPLOY && defect_is(DEFECT_EAGER_TARGET)) {
        declared = *event->target;
        declared.declarative = true;
        other.target = &declared;
    }
    __real_controller_step(controller, now_ns, &other, effects);
    drop_effects(effects);
}

/* ---- time ---- */

int64_t __real_loop_now_ns(const struct loop *loop);
int64_t __wrap_loop_now_ns(const struct loop *loop);
int64_t __wrap_loop_now_ns(const struct loop *loop)
{
    bool wrong = defect_is(DEFECT_WALL_CLOCK) && sim_current() &&
                 strcmp(sim_current()->name, "controller") == 0;
    return wrong ? sim_wall_ns() : __real_loop_now_ns(loop);
}

/* ---- chance ---- */

void __real_rng_init(struct rng *rng, uint64_t seed);
void __wrap_rng_init(struct rng *rng, uint64_t seed);
void __wrap_rng_init(struct rng *rng, uint64_t seed)
{
    struct timespec now = {0};
    if (defect_is(DEFECT_REAL_CLOCK))
        clock_gettime(CLOCK_MONOTONIC, &now);
    __real_rng_init(rng, seed ^ (uint64_t)now.tv_nsec);
}
