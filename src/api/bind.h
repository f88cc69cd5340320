/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind: an application while it is being built.
 */
#ifndef MANTA_API_BIND_H
#define MANTA_API_BIND_H

#include <stdint.h>

#include <manta/deployment.h>

#include "error.h"
#include "text.h"

enum {
    APP_DEPLOYMENT_LIMIT = 1024,
    APP_ARGUMENT_LIMIT = 256,     /* of one manta_bind; manta_bind_array takes more */
    APP_ARGUMENT_BYTES = 16 << 20 /* of one deployment, and of its user_config */
};

/* One bound deployment. */
struct app_deployment {
    struct manta_deployment deployment; /* checked copy */
    char name[136];                     /* unique in the application */
    struct text args;                   /* MessagePack array; handles name app and deployment */
    struct text user_config;            /* what deployment.user_config points to, if it is set */
};

struct manta_app {
    const char *name;    /* of the application */
    const char *library; /* absolute path; empty: the program itself */
    uint64_t library_hash;
    const char *const *arguments;       /* "key=value", null-terminated; or null */
    struct app_deployment *deployments; /* in the order of binding */
    uint32_t deployment_count, deployment_capacity;
    struct error error; /* the first failure; sticks */
};

/* An application of the program itself. */
struct app_own {
    struct manta_arg (*builder)(struct manta_app *app);
    /* Called for each of its deployments: 0, or ERROR_MEMORY. */
    int (*keep)(void *owner, uint64_t version, const struct manta_deployment *deployment);
    void *owner;
};
/* Its target document; "library" in it is empty. */
int app_build_own(const struct app_own *own, const char *name, const char *const *arguments,
                  struct text *out, struct error *reterr);
/* Options that stand above those of the code (<manta/sys/deploy.h>). */
struct manta_deploy_override;
struct app_overrides {
    const struct manta_deploy_override *at;
    size_t count;
};
/* Opens "path:application", calls its builder and writes the target document: 0 or an error.
 * `overrides` may be null. */
int app_build(const char *target, const char *name, const char *const *arguments,
              const struct app_overrides *overrides, struct text *out, struct error *reterr);

#endif
