/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/manta.h>: the C interface of Manta, a server for models and other functions.
 *
 * LIFE.  A deployment is a function with state and options, in a shared object (<manta/deployment.h>).  An application is a
 * graph of deployments with one ingress.  `manta run ./lib.so:app`, or manta_run in a program, deploys it: each
 * replica is a process that loads the shared object, calls `open`, answers requests (<manta/request.h>) and calls
 * `close` when it has been drained.  Deployments call each other, and programs call them, through handles (<manta/handle.h>).
 *
 * THREADS.  Entry points run on a replica's `threads` (default 1) threads.  A request may be answered from any thread, once.
 * Handles and instances are for any thread; a request, a call or a pack for one thread at a time.
 *
 * OWNERSHIP is in the names.  A plain pointer argument is borrowed for the call.  take_x: the callee owns it, whatever
 * happens.  ret_x: an output; when it is an object the caller owns it and the comment names the function that ends it.  Ending null
 * is fine.  Outputs are untouched on failure.
 *
 * ERRORS.  0 or a negative MANTA_E code; details in a `struct manta_error` that the caller owns, passed last, null if not
 * wanted (<manta/error.h>).
 *
 * VERSIONS.  Option structs carry their size, are filled by an INIT macro with Ray Serve's defaults, and only grow at the end: an
 * object built against an older header keeps working.  Zero means zero.  While the version is 0.x, the SONAME changes with
 * every incompatible change.
 */
#ifndef MANTA_MANTA_H
#define MANTA_MANTA_H

#include <manta/buffer.h>
#include <manta/deployment.h>
#include <manta/error.h>
#include <manta/handle.h>
#include <manta/instance.h>
#include <manta/model.h>
#include <manta/request.h>
#include <manta/tensor.h>
#include <manta/value.h>
#include <manta/websocket.h>

#endif
