/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control: one question to the controller, asked by a blocking thread.
 *
 * A connection per operation: connect, hello, one frame, answers until the outcome.  Deploys and
 * the like are rare; this needs no loop and no helm, and works from any thread.
 */
#ifndef MANTA_API_CONTROL_H
#define MANTA_API_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "error.h"
#include "text.h"

struct control_question {
    uint8_t type;       /* enum wire_frame: DEPLOY, DELETE, STATUS, SHUTDOWN */
    struct bytes frame; /* the whole encoded frame */
    bool no_wait;       /* return when the controller has it (DEPLOY) */
    void (*progress)(void *owner, const char *line);
    void *owner;
};

/* Waits until `due_ns` (monotonic; 0: for ever) for the outcome: its code, its body into *out (null
   is fine). ERROR_NOT_RUNNING when nobody listens, ERROR_CLOSED when the controller left in
   between. */
int control_ask(const char *socket_path, const struct control_question *question, int64_t due_ns,
                struct text *out, struct error *reterr);
int64_t control_now_ns(void);

#endif
