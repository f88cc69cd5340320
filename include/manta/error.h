/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/error.h>: codes and details of what failed.
 *
 * Fallible functions return 0 or a negative MANTA_E code.  Details go to a `struct manta_error` that the
 * caller owns and passes last (null is fine): nothing to free, nothing thread-local.
 */
#ifndef MANTA_ERROR_H
#define MANTA_ERROR_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MANTA_EXPORT __attribute__((visibility("default")))

/* What failed. The same numbers for ever; new ones are only appended. HTTP status in brackets. */
enum manta_error_code {
    MANTA_OK           = 0,
    MANTA_EINVALID     = -1,  /* invalid argument or value [400] */
    MANTA_ENOTFOUND    = -2,  /* no such application, deployment, method or route [404] */
    MANTA_EEXISTS      = -3,  /* it exists already [409] */
    MANTA_EMEMORY      = -4,  /* memory is exhausted [503] */
    MANTA_ELIMIT       = -5,  /* a limit was reached [503] */
    MANTA_EBUSY        = -6,  /* the queue of the deployment is full (Ray Serve: BackPressureError) [503] */
    MANTA_EUNAVAILABLE = -7,  /* the deployment is unavailable (DeploymentUnavailableError) [503] */
    MANTA_ETIMEOUT     = -8,  /* the deadline passed [408] */
    MANTA_ECANCELLED   = -9,  /* the request was cancelled (RequestCancelledError) [499] */
    MANTA_EREPLICADIED = -10, /* the replica died while it held the request [500] */
    MANTA_EUSER        = -11, /* the deployment's code failed [500] */
    MANTA_ETYPE        = -12, /* the value has another type [400] */
    MANTA_EPROTOCOL    = -13, /* a peer broke the protocol [400] */
    MANTA_EVERSION     = -14, /* built against a newer version [500] */
    MANTA_ELOAD        = -15, /* the shared object could not be loaded [500] */
    MANTA_ESYSTEM      = -16, /* a system call failed [500] */
    MANTA_ECLOSED      = -17, /* it is closed or shutting down [503] */
    MANTA_EDEPLOYFAILED = -18, /* the application could not be deployed [500] */
    MANTA_EPERMISSION  = -19, /* not permitted [403] */
    MANTA_EAGAIN       = -20, /* not now; called back when there is room [503] */
    MANTA_ENOTRUNNING  = -21, /* no instance is running [503] */
    MANTA_EANSWERED    = -22, /* the request was answered already [500] */
    MANTA_EINTERNAL    = -23, /* an internal mistake of Manta [500] */
    MANTA_ETOOLARGE    = -24  /* the body is larger than the deployment accepts [413] */
};

/* What failed, in words. Transparent and of fixed size for ever; zero it, or leave it as it is: it is only written on failure. */
struct manta_error {
    int  code;      /* 0 or a negative MANTA_E code */
    char text[512]; /* one impersonal line, more when it carries a trace; zero-terminated */
};

/* What a code means: "the deadline passed" for MANTA_ETIMEOUT; never null. Any thread. */
MANTA_EXPORT const char *manta_error_text(int code);
/* Fills *reterr (null is fine) and returns `code`, for user code: return manta_error_set(reterr, MANTA_EUSER, "no model at %s", path); */
MANTA_EXPORT int manta_error_set(struct manta_error *reterr, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#ifdef __cplusplus
}
#endif
#endif
