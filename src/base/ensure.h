/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ensure: assertions that are always on.
 *
 * For what only our own mistake can cause.  What a peer, a user or the machine may cause is never
 * ensured: it is an error value.  A failed ensure prints one line to stderr and aborts.
 */
#ifndef MANTA_BASE_ENSURE_H
#define MANTA_BASE_ENSURE_H

_Noreturn void ensure_failed(const char *file, int line, const char *function,
                             const char *expression);

#define ensure(condition)                                                                          \
    ((__builtin_expect(!!(condition), 1))                                                          \
         ? (void)0                                                                                 \
         : ensure_failed(__FILE__, __LINE__, __func__, #condition))
/* With the tag of the invariant it keeps (ARCHITECTURE.md): ensure_tag(R2, in_flight <= limit). */
#define ensure_tag(tag, condition)                                                                 \
    ((__builtin_expect(!!(condition), 1))                                                          \
         ? (void)0                                                                                 \
         : ensure_failed(__FILE__, __LINE__, __func__, #tag ": " #condition))

#endif
