/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_rank: places among the replicas of a deployment (Ray Serve's ranks).
 *
 * A replica gets the lowest free rank when its process is started and keeps it until that is gone,
 * so that no two processes ever hold the same one.  In a rollout the new ones therefore begin above
 * the old ones, and behind a scale down there may be gaps: at rest, when exactly the wanted
 * replicas are left, those whose rank is not below their number get the lowest free ones, and
 * nobody else changes.  They are told like a configuration (controller_configure.c).
 *
 * After a restart a replica says which rank it knows, and keeps it unless another was first.
 */
#include "controller_state.h"
#include "ensure.h"
#include "mem.h"

enum { WORD_BITS = 64, FIRST_WORDS = 1 };

static bool is_held(const struct controller_ranks *ranks, uint32_t rank)
{
    uint32_t word = rank / WORD_BITS;
    return word < ranks->words && (ranks->bits[word] >> rank % WORD_BITS & 1);
}

static void make_room(struct controller_ranks *ranks, uint32_t rank)
{
    uint32_t words = ranks->words ? ranks->words : FIRST_WORDS;
    while (words <= rank / WORD_BITS)
        words *= 2;
    if (words == ranks->words)
        return;
    ranks->bits = mem_try_resize(ranks->bits, ranks->words * sizeof *ranks->bits,
                                 words * sizeof *ranks->bits);
    ensure(ranks->bits);
    for (uint32_t i = ranks->words; i < words; i++)
        ranks->bits[i] = 0;
    ranks->words = words;
}

static void hold(struct controller_replica *replica, uint32_t rank)
{
    struct controller_ranks *ranks = &replica->deployment->ranks;
    make_room(ranks, rank);
    ensure(replica->rank == CONTROLLER_NO_RANK && !is_held(ranks, rank));
    ranks->bits[rank / WORD_BITS] |= UINT64_C(1) << rank % WORD_BITS;
    ranks->held++;
    replica->rank = rank;
    while (is_held(ranks, ranks->low))
        ranks->low++;
}

void controller_rank_give(struct controller_replica *replica)
{
    hold(replica, replica->deployment->ranks.low);
}

void controller_rank_release(struct controller_replica *replica)
{
    if (replica->rank == CONTROLLER_NO_RANK)
        return;
    struct controller_ranks *ranks = &replica->deployment->ranks;
    ensure(is_held(ranks, replica->rank));
    ranks->bits[replica->rank / WORD_BITS] &= ~(UINT64_C(1) << replica->rank % WORD_BITS);
    ranks->held--;
    if (ranks->low > replica->rank)
        ranks->low = replica->rank;
    replica->rank = CONTROLLER_NO_RANK;
}

void controller_ranks_done(struct controller_ranks *ranks)
{
    ranks->bits = mem_free(ranks->bits);
    ranks->words = 0;
}

static struct controller_replica *replica_of(struct list_link *link)
{
    return list_entry(link, struct controller_replica, state_link);
}

/* Exactly those that are wanted, and none on its way. */
static bool rests(const struct controller_deployment *deployment)
{
    const struct list *in = deployment->replicas.in;
    return in[REPLICA_STATE_RUNNING].length == deployment->goal.target->replicas &&
           in[REPLICA_STATE_WANTED].length == 0 && in[REPLICA_STATE_STARTING].length == 0 &&
           in[REPLICA_STATE_DRAINING].length == 0 && in[REPLICA_STATE_STOPPING].length == 0;
}

void controller_ranks_settle(struct controller *controller,
                             struct controller_deployment *deployment)
{
    struct list *running = &deployment->replicas.in[REPLICA_STATE_RUNNING];
    struct list_link *link;
    list_each (link, running) {
        struct controller_replica *replica = replica_of(link);
        if (replica->rank == CONTROLLER_NO_RANK && replica->told_rank != CONTROLLER_NO_RANK &&
            !is_held(&deployment->ranks, replica->told_rank))
            hold(replica, replica->told_rank);
    }
    if (controller->recovering) /* who has not spoken may have one */
        return;
    list_each (link, running)
        if (replica_of(link)->rank == CONTROLLER_NO_RANK)
            controller_rank_give(replica_of(link));
    if (!rests(deployment) || deployment->ranks.low >= running->length)
        return;
    list_each (link, running) {
        struct controller_replica *replica = replica_of(link);
        if (replica->rank < running->length)
            continue;
        controller_rank_release(replica);
        controller_rank_give(replica);
    }
}

void controller_ranks_check(const struct controller_deployment *deployment)
{
    uint32_t held = 0;
    for (int state = 0; state < REPLICA_STATE_COUNT; state++) {
        struct list_link *link;
        list_each (link, &deployment->replicas.in[state]) {
            const struct controller_replica *replica = replica_of(link);
            ensure(replica->state != REPLICA_STATE_WANTED || replica->rank == CONTROLLER_NO_RANK);
            if (replica->rank == CONTROLLER_NO_RANK)
                continue;
            ensure(is_held(&deployment->ranks, replica->rank));
            held++;
        }
    }
    ensure(held == deployment->ranks.held); /* so nobody shares one */
    ensure(!is_held(&deployment->ranks, deployment->ranks.low));
}
