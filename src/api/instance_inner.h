/* SPDX-License-Identifier: Apache-2.0 */
/*
 * instance_inner: what the files of <manta/instance.h> share.
 *
 *     instance_public.c       starting, joining and ending
 *     instance_operations.c   running and deleting applications, status, handles
 *     deploy_public.c         applications from outside C
 *     apply_public.c          several applications at once
 */
#ifndef MANTA_API_INSTANCE_INNER_H
#define MANTA_API_INSTANCE_INNER_H

#include <stdbool.h>
#include <string.h>
#include <sys/types.h>

#include <manta/instance.h>

#include "forks.h"
#include "inside.h"
#include "instance.h"
#include "runtime.h"

struct manta_instance {
    struct instance place;
    bool owned;              /* started here and private: ends with us */
    int link;                /* the node's end of the parent link; -1 when joined, or inside */
    pid_t node;              /* 0 when joined, or inside */
    struct inside *inside;   /* local testing; else null */
    int http_port;           /* -1: none */
    struct runtime *runtime; /* for handles */
    unsigned forks;          /* forks_seen when it was made */
    struct forks_descriptor at_fork; /* the link: its end of file is the end of this program */
};

enum { INSTANCE_TARGET_LIMIT = 256 << 20 /* bytes of one application's target */ };

/* Hands an application's target document to the controller and waits as the options say. */
int instance_deploy(struct manta_instance *instance, const struct manta_run_options *options,
                    struct bytes target, struct error *reterr);

struct control_question;
/* Asks the controller what changes applications, and waits until the program's handles see it. */
int instance_ask(struct manta_instance *instance, const struct control_question *question,
                 struct error *reterr);
/* What the pack held is replaced by the document, which it takes; both end with an error's code. */
int apply_give_document(struct manta_pack *pack, struct text *document, int code);

/* What the caller's compiler knew of an option struct, over its defaults. */
static inline void take_options(void *options, size_t size, const void *given, size_t given_size)
{
    if (given)
        memcpy(options, given, given_size < size ? given_size : size);
}

/* Was it made before a fork of this process?  Then nothing of it may be touched (forks.h). */
static inline bool instance_is_foreign(const struct manta_instance *instance)
{
    return instance->forks != forks_seen();
}

#endif
