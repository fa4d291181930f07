/* SPDX-License-Identifier: MIT */
/*
 * log: where messages go: stderr while somebody is watching (foreground, start-up), syslog once the daemon is
 * on its own.  libfuse's messages take the same way.  Levels are syslog's (LOG_ERR, ...).
 */
#ifndef FUSE_FS_LOG_H
#define FUSE_FS_LOG_H

#include <stdbool.h>
#include <stddef.h>

/* One line, no newline at its end. */
void fs_log(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Takes libfuse's messages, too.  debug: LOG_DEBUG is shown.  Before any thread. */
void fs_log_start(bool debug);

/* From now on to syslog. */
void fs_log_to_syslog(void);

/*
 * Between these two calls the first message of libfuse (and only of libfuse) is kept in buf and not shown: a
 * start that fails says one line, and this is its cause.  For the starting thread alone.
 */
void fs_log_capture(char *buf, size_t len);
void fs_log_capture_end(void);

#endif
