/* SPDX-License-Identifier: Apache-2.0 */
/*
 * id: one type per noun, so that a replica's id cannot be passed for a request's.
 *
 * The value of a request id is a pool id (index and generation); replica, deployment and
 * application ids are given out by the controller and never used again.  Zero is "none" everywhere.
 */
#ifndef MANTA_BASE_ID_H
#define MANTA_BASE_ID_H

#include <stdbool.h>
#include <stdint.h>

#define ID_TYPE(noun)                                                                              \
    struct noun##_id {                                                                             \
        uint64_t v; /* 0: none */                                                                  \
    };                                                                                             \
    static inline bool noun##_id_equal(struct noun##_id a, struct noun##_id b)                     \
    {                                                                                              \
        return a.v == b.v;                                                                         \
    }                                                                                              \
    static inline bool noun##_id_none(struct noun##_id a)                                          \
    {                                                                                              \
        return a.v == 0;                                                                           \
    }

ID_TYPE(application)
ID_TYPE(deployment)
ID_TYPE(replica)
ID_TYPE(request)

#endif
