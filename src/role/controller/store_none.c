/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_none: store.h without a store, for a controller that ends with the program around it (local
 * testing), so that the program is not linked with SQLite.  It is never given a directory.
 */
#include "ensure.h"
#include "store.h"

int store_open(struct store *store, const struct store_config *config, struct error *reterr)
{
    (void)reterr;
    ensure(!config->directory);
    *store = (struct store){.lock = -1, .life = config->start, .size_limit = config->size_limit};
    return 0;
}

void store_close(struct store *store)
{
    (void)store;
}

void store_begin(struct store *store)
{
    (void)store;
}

int store_commit(struct store *store, struct error *reterr)
{
    (void)store;
    (void)reterr;
    return 0;
}

int store_save_app(struct store *store, const struct controller_app_target *target,
                   struct error *reterr)
{
    (void)store;
    (void)target;
    (void)reterr;
    return 0;
}

int store_delete_app(struct store *store, struct application_id app, struct error *reterr)
{
    (void)store;
    (void)app;
    (void)reterr;
    return 0;
}

void store_each(const struct store *store,
                void (*take)(void *owner, const struct controller_app_target *target,
                             const struct error *error),
                void *owner)
{
    (void)store;
    (void)take;
    (void)owner;
}
