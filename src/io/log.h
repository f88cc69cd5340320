/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: lines for people and machines, that never block the process.
 *
 * Lines go into a bounded buffer and from there to the sink (a rotated file, or stderr) by a small thread; when the
 * buffer is full, lines are dropped and counted.  TEXT: "<LEVEL> <time> <component> <id> [<request id> ]-- <message>"
 * (Ray Serve's layout); JSON: one object per line with Ray Serve's keys (asctime, levelname, component_name,
 * component_id, request_id, message, ...).
 */
#ifndef MANTA_IO_LOG_H
#define MANTA_IO_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "error.h"

enum log_level { LOG_DEBUG = 10, LOG_INFO = 20, LOG_WARNING = 30, LOG_ERROR = 40, LOG_CRITICAL = 50 };
enum log_encoding { LOG_TEXT, LOG_JSON };

struct log_config {
    const char       *path;          /* null: stderr */
    enum log_encoding encoding;
    enum log_level    level;
    const char       *component;     /* "proxy", "controller", "<app>_<deployment>" */
    const char       *component_id;
    size_t            queue_limit;   /* bytes */
    uint64_t          rotate_size;   /* bytes */
    uint32_t          rotate_count;  /* files kept */
};

/* Before it nothing is printed.  Starts the thread (all signals blocked in it). */
int  log_open(const struct log_config *config, struct error *reterr);
/* Writes what is queued, at most a second; no other thread prints any more.  A forked child logs nothing by itself. */
void log_close(void);
bool log_enabled(enum log_level level);
/* One line, or several: control characters other than line feeds and tabs are escaped.  At most 32 KiB. */
void log_print(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* With the request's id (empty: none). */
void log_request(enum log_level level, struct bytes request_id, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for a message that is ready, of at most 4 KiB. */
void log_request_line(enum log_level level, struct bytes request_id, struct bytes message);
/* A line that its writer has formatted; what would end it early is escaped as in the others. */
void log_line(enum log_level level, struct bytes line);
uint64_t log_dropped(void); /* lines, since log_open */

#endif
