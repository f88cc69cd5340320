/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_view: what others may see: the rows of the snapshot, status rows, the dump.
 *
 * Nothing here changes anything.  The tables are in the order of ids, so each row is one look.
 */
#include "controller_state.h"
#include "ensure.h"

uint64_t controller_version(const struct controller *controller)
{
    return controller->version;
}

uint64_t controller_visits(const struct controller *controller)
{
    return controller->visits;
}

/* A deployment that can never answer makes calls fail at once; one that may come back lets them
 * wait. */
static struct controller_published published_of(const struct controller_deployment *deployment)
{
    struct controller_published published = deployment->published;
    published.available =
        deployment->goal.plan && (!controller_deployment_halted(deployment) ||
                                  deployment->replicas.in[REPLICA_STATE_RUNNING].length > 0);
    if (deployment->goal.target) {
        published.max_ongoing = deployment->goal.target->max_ongoing;
        published.max_queued = deployment->goal.target->max_queued;
        published.streams_body = deployment->goal.target->streams_body;
    }
    return published;
}

void controller_view_compare(struct controller *controller,
                             struct controller_deployment *deployment)
{
    struct controller_published now = published_of(deployment), *then = &deployment->published;
    if (now.max_ongoing == then->max_ongoing && now.max_queued == then->max_queued &&
        now.available == then->available && now.streams_body == then->streams_body)
        return;
    *then = now;
    controller->view_changed = true;
}

bool controller_snapshot_at(const struct controller *controller, uint32_t index,
                            struct controller_snapshot_row *ret_row)
{
    if (index >= controller->routable.count)
        return false;
    const struct controller_replica *replica = controller->routable.at[index].object;
    *ret_row = (struct controller_snapshot_row){
        .replica = replica->id, .deployment = replica->deployment->id, .address = replica->address};
    return true;
}

bool controller_app_at(const struct controller *controller, uint32_t index,
                       struct controller_app_view *ret_view)
{
    if (index >= controller->apps.count)
        return false;
    const struct controller_app *app = controller->apps.at[index].object;
    *ret_view = (struct controller_app_view){
        .id = app->id,
        .name = app->name,
        .route_prefix = app->plan ? app->plan->target.route_prefix : (struct bytes){0},
        .message = bytes_of_string(app->message),
        .status = app->status,
        .ingress = app->ingress,
        .published = app->plan != NULL,
        .declarative = app->declarative,
        .deployed_ns = app->deployed_ns,
    };
    return true;
}

bool controller_deployment_at(const struct controller *controller, uint32_t index,
                              struct controller_deployment_view *ret_view)
{
    if (index >= controller->deployments.count)
        return false;
    const struct controller_deployment *deployment = controller->deployments.at[index].object;
    *ret_view = (struct controller_deployment_view){
        .id = deployment->id,
        .app = deployment->app->name,
        .name = deployment->name,
        .message = bytes_of_string(deployment->message),
        .status = deployment->status,
        .trigger = deployment->trigger,
        .target_replicas = deployment->goal.plan ? deployment->goal.target->replicas : 0,
        .max_ongoing = deployment->published.max_ongoing,
        .max_queued = deployment->published.max_queued,
        .available = deployment->published.available,
        .streams_body = deployment->published.streams_body,
        .published = true,
        .updating = deployment->updating,
        .ready_least = deployment->goal.plan ? controller_deployment_floor(deployment) : 0,
    };
    for (int state = 0; state < REPLICA_STATE_COUNT; state++)
        ret_view->replica_count[state] = (uint32_t)deployment->replicas.in[state].length;
    return true;
}

bool controller_replica_at(const struct controller *controller, uint32_t index,
                           struct controller_replica_view *ret_view)
{
    if (index >= controller->replicas.count)
        return false;
    const struct controller_replica *replica = controller->replicas.at[index].object;
    *ret_view = (struct controller_replica_view){
        .id = replica->id,
        .deployment = replica->deployment ? replica->deployment->id : (struct deployment_id){0},
        .state = replica->state,
        .version = replica->version,
        .pid = replica->pid,
        .address = replica->address,
        .silent = replica->silent,
        .updating = replica->telling && replica->told != replica->configuration,
        .rank = replica->rank == CONTROLLER_NO_RANK ? -1 : (int32_t)replica->rank,
    };
    return true;
}

/* ---- dump ---- */

static void dump_replicas(const struct controller_replicas *replicas, struct text *out)
{
    for (int state = 0; state < REPLICA_STATE_COUNT; state++) {
        struct list_link *link;
        list_each (link, &replicas->in[state]) {
            const struct controller_replica *replica =
                list_entry(link, struct controller_replica, state_link);
            text_print(out, "    r%llu %s version %llu%s%s%s attempt %u",
                       (unsigned long long)replica->id.v, replica_state_name(replica->state),
                       (unsigned long long)replica->version,
                       replica->version_known ? "" : " (not known)",
                       replica->unhealthy ? " unhealthy" : "",
                       replica->silent    ? " silent"
                       : replica->owes_ns ? " owes"
                                          : "",
                       replica->attempt);
            if (heap_linked(&replica->deadline))
                text_print(out, " deadline %lld", (long long)replica->deadline.key);
            text_print(out, "%s%.*s\n", replica->address.size ? " " : "",
                       BYTES_PRINT(replica->address));
        }
    }
}

static void dump_deployment(const struct controller_deployment *deployment, struct text *out)
{
    const struct controller_deployment_target *target = deployment->goal.target;
    text_print(out, "  d%llu %.*s %s %s", (unsigned long long)deployment->id.v,
               BYTES_PRINT(deployment->name), deployment_status_word(deployment->status),
               deployment_trigger_word(deployment->trigger));
    if (target)
        text_print(out, " version %llu replicas %u%s", (unsigned long long)target->version,
                   target->replicas, deployment->goal.proven ? " proven" : "");
    text_print(out, "%s%s%s%s%s\n", deployment->leaving ? " leaving" : "", target ? "" : " going",
               deployment->failed ? " failed" : "", deployment->message[0] ? ": " : "",
               deployment->message);
    dump_replicas(&deployment->replicas, out);
}

void controller_dump(const struct controller *controller, struct text *out)
{
    text_print(out, "snapshot %llu%s%s%s\n", (unsigned long long)controller->version,
               controller->recovering ? " recovering" : "",
               controller->shutting_down ? " shutting down" : "",
               controller->ended ? " ended" : "");
    for (uint32_t i = 0; i < controller->apps.count; i++) {
        const struct controller_app *app = controller->apps.at[i].object;
        struct bytes prefix = app->plan ? app->plan->target.route_prefix : (struct bytes){0};
        struct map_entry *entry;
        text_print(out, "a%llu %.*s %s route '%.*s' ingress d%llu stores %zu waits %zu%s%s\n",
                   (unsigned long long)app->id.v, BYTES_PRINT(app->name),
                   application_status_word(app->status), BYTES_PRINT(prefix),
                   (unsigned long long)app->ingress.v, app->stores.length, app->waits.length,
                   app->message[0] ? ": " : "", app->message);
        map_each (entry, &app->names)
            dump_deployment(entry->value, out);
    }
    if (controller_replicas_count(&controller->strays))
        text_print(out, "strays\n");
    dump_replicas(&controller->strays, out);
}
