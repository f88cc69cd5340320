/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_store: store first (C1); deletions and the shutdown.
 *
 * A deploy or a delete that is found right becomes an entry under way to the store and a STORE
 * effect, nothing else.  Entries that were asked for together form a transaction, which is stored
 * whole or not at all.  Its STORED event brings it into force; with an error it is dropped and
 * what was in force stays.  Several may be under way for one application; stores are performed in
 * order, so the newest that was stored is what a restart would find, and it is what comes into
 * force: an entry that was stored while a newer one is under way waits for that one's fate.
 */
#include "controller_state.h"
#include "ensure.h"
#include "mem.h"

/* ---- entries ---- */

struct controller_transaction *controller_transaction_new(struct controller *controller)
{
    struct controller_transaction *transaction = mem_new(sizeof(*transaction));
    transaction->token = ++controller->store_last;
    list_init(&transaction->stores);
    int put = map_try_put(&controller->transactions, transaction->token, transaction);
    ensure(put == 0);
    return transaction;
}

static void transaction_free(struct controller *controller,
                             struct controller_transaction *transaction)
{
    ensure(list_empty(&transaction->stores));
    map_remove(&controller->transactions, transaction->token);
    mem_free(transaction);
}

struct controller_store *controller_store_new(struct controller *controller,
                                              struct controller_transaction *transaction,
                                              struct controller_app *app,
                                              struct controller_plan *plan)
{
    struct controller_store *store = mem_new(sizeof(*store));
    store->app = app;
    store->plan = plan;
    store->transaction = transaction;
    list_init(&store->waits);
    list_push_back(&app->stores, &store->link);
    list_push_back(&transaction->stores, &store->transaction_link);
    return store;
}

void controller_transaction_emit(struct controller *controller,
                                 struct controller_transaction *transaction)
{
    struct list_link *link;
    if (list_empty(&transaction->stores)) {
        controller->store_last = transaction->token - 1; /* nobody has heard of it */
        transaction_free(controller, transaction);
        return;
    }
    list_each (link, &transaction->stores) {
        const struct controller_store *store =
            list_entry(link, struct controller_store, transaction_link);
        struct controller_effect *effect =
            controller_effect_add(&controller->stores, CONTROLLER_STORE);
        effect->token = transaction->token;
        effect->app = store->app->id;
        effect->app_name = store->app->name;
        effect->target = store->plan ? &store->plan->target : NULL;
        effect->more = link->next != &transaction->stores.head;
    }
}

/* A transaction goes with the last of its entries, unless it is being gone through. */
void controller_store_drop(struct controller *controller, struct controller_store *store)
{
    struct controller_app *app = store->app;
    ensure(list_empty(&store->waits));
    ensure(controller->promised_deployments >= store->new_deployments &&
           controller->promised_replicas >= store->new_replicas);
    controller->promised_deployments -= store->new_deployments;
    controller->promised_replicas -= store->new_replicas;
    list_remove(&store->link);
    list_remove(&store->transaction_link);
    if (list_empty(&store->transaction->stores) && !store->transaction->held)
        transaction_free(controller, store->transaction);
    if (store->plan)
        controller_app_release_route(controller, app, store->plan->target.route_prefix);
    controller_plan_unref(controller, store->plan);
    controller_app_touch(controller, app);
    mem_free(store);
}

struct controller_store *controller_store_newest(struct controller_app *app)
{
    struct list_link *link = list_last(&app->stores);
    return link ? list_entry(link, struct controller_store, link) : NULL;
}

/* The newest entry is durable: it is in force now. */
static void commit(struct controller *controller, struct controller_store *store)
{
    if (store->plan)
        store->plan->stored = true;
    controller_app_commit(controller, store->app, store);
}

/* A shutdown goes on without the store: it is told at its end that the application will be back. */
static bool shutdown_goes_on(struct controller *controller, const struct controller_store *store,
                             const struct controller_event *event)
{
    if (!controller->shutting_down || store->plan)
        return false;
    if (controller->shutdown_error.code == 0)
        error_set(&controller->shutdown_error, event->code,
                  "the deletion of application '%.*s' could not be stored, it will be back: %s",
                  BYTES_PRINT(store->app->name), error_text(event->code));
    return true;
}

void controller_transaction_restore(struct controller *controller,
                                    struct controller_transaction *transaction)
{
    struct controller_store *store = list_entry(list_first(&transaction->stores),
                                                struct controller_store, transaction_link);
    ensure(transaction->stores.length == 1);
    store->app->restored = !controller->loaded;
    controller->recovering = controller->recovering || !controller->loaded;
    transaction->answered = store->done = true;
    commit(controller, store);
}

/* What is durable now is in force, unless something newer is under way. */
static void settle(struct controller *controller, struct controller_app *app)
{
    struct controller_store *store = controller_store_newest(app);
    if (store && store->done)
        commit(controller, store);
}

static void refuse(struct controller *controller, struct controller_store *store,
                   const struct controller_event *event)
{
    char message[CONTROLLER_MESSAGE_SIZE], text[CONTROLLER_TEXT_SIZE];
    struct controller_app *app = store->app;
    struct bytes route = store->plan ? store->plan->target.route_prefix : (struct bytes){0};
    controller_copy_tail(text, sizeof(text), event->text);
    controller_print(message, sizeof(message), "application '%.*s' could not be stored: %s",
                     BYTES_PRINT(app->name), text[0] ? text : error_text(event->code));
    controller_waits_end(controller, &store->waits, event->code, message);
    controller_store_drop(controller, store);
    controller_app_return_route(controller, route);
}

/* Each entry's fate first, then what comes into force: together, so that one snapshot shows it.  Of
 * several nobody waits for a newer one of its own: a route may have gone from one to the other. */
void controller_stored(struct controller *controller, const struct controller_event *event)
{
    struct controller_transaction *transaction = map_get(&controller->transactions, event->token);
    struct list_link *link, *after;
    if (!transaction || transaction->answered)
        return;
    bool several = transaction->stores.length > 1;
    transaction->answered = transaction->held = true;
    list_each_safe (link, after, &transaction->stores) {
        struct controller_store *store =
            list_entry(link, struct controller_store, transaction_link);
        struct controller_app *app = store->app;
        store->done = event->code == 0 || shutdown_goes_on(controller, store, event);
        if (store->done)
            continue;
        refuse(controller, store, event);
        settle(controller, app);
    }
    list_each_safe (link, after, &transaction->stores) {
        struct controller_store *store =
            list_entry(link, struct controller_store, transaction_link);
        if (several)
            commit(controller, store);
        else
            settle(controller, store->app);
    }
    transaction->held = false;
    if (list_empty(&transaction->stores))
        transaction_free(controller, transaction);
}

/* ---- delete, shut down ---- */

void controller_delete_app(struct controller *controller,
                           struct controller_transaction *transaction, struct controller_app *app,
                           struct controller_operation *operation)
{
    struct controller_store *store = controller_store_newest(app);
    if (!store && app->deleting) {
        controller_wait_add(&app->waits, operation);
        return;
    }
    if (!store || store->plan)
        store = controller_store_new(controller, transaction, app, NULL);
    controller_wait_add(&store->waits, operation);
}

static void delete_all(struct controller *controller, struct controller_operation *operation)
{
    struct controller_transaction *transaction = controller_transaction_new(controller);
    for (uint32_t i = 0; i < controller->apps.count; i++)
        controller_delete_app(controller, transaction, controller->apps.at[i].object, operation);
    controller_transaction_emit(controller, transaction);
}

static void delete_one(struct controller *controller, struct controller_app *app,
                       struct controller_operation *operation)
{
    struct controller_transaction *transaction = controller_transaction_new(controller);
    controller_delete_app(controller, transaction, app, operation);
    controller_transaction_emit(controller, transaction);
}

void controller_delete(struct controller *controller, const struct controller_event *event)
{
    struct controller_app *app =
        event->app.size ? controller_app_find(controller, event->app) : NULL;
    if (event->app.size && !app) {
        char message[CONTROLLER_MESSAGE_SIZE];
        controller_print(message, sizeof(message), "there is no application '%.*s'",
                         BYTES_PRINT(event->app));
        controller_outcome(controller, event->token, ERROR_NOT_FOUND, message);
        return;
    }
    bool refused;
    struct controller_operation *operation =
        controller_operation_new(controller, CONTROLLER_DELETE, event->token, &refused);
    if (refused)
        return;
    struct list hold; /* keeps the operation open until every application was asked */
    list_init(&hold);
    controller_wait_add(&hold, operation);
    if (app)
        delete_one(controller, app, operation);
    else
        delete_all(controller, operation);
    controller_waits_end(controller, &hold, ERROR_OK, "");
}

/* A shutdown that has less time than a deployment does not wait longer for what drains already. */
static void cap_drains(struct controller *controller)
{
    int64_t limit_ns = controller_after(controller, controller->drain_cap_ns);
    for (uint32_t i = 0; i < controller->replicas.count; i++) {
        struct controller_replica *replica = controller->replicas.at[i].object;
        if (replica->state == REPLICA_STATE_DRAINING &&
            controller_replica_deadline_ns(replica) > limit_ns)
            controller_deadline_set(controller, replica, limit_ns);
    }
}

static void stop_strays(struct controller *controller)
{
    struct list_link *link, *after;
    for (int state = 0; state < REPLICA_STATE_STOPPING; state++)
        list_each_safe (link, after, &controller->strays.in[state])
            controller_replica_stop(controller,
                                    list_entry(link, struct controller_replica, state_link),
                                    CONTROLLER_STOP_POLITELY);
}

void controller_shutdown(struct controller *controller, const struct controller_event *event)
{
    bool refused;
    struct controller_operation *operation =
        controller_operation_new(controller, CONTROLLER_SHUTDOWN, event->token, &refused);
    controller_wait_add(&controller->shutdown_waits, operation);
    if (event->timeout_ns > 0)
        controller->drain_cap_ns = event->timeout_ns;
    if (controller->drain_cap_ns)
        cap_drains(controller);
    if (controller->shutting_down)
        return;
    controller->shutting_down = true;
    controller_loaded(controller,
                      &(struct controller_event){0}); /* a recovery that was under way is over */
    controller->view_changed = controller->view_changed || controller->recovering;
    controller->recovering = false;
    delete_all(controller, NULL);
    stop_strays(controller);
}
