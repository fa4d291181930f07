/* SPDX-License-Identifier: MIT */
/*
 * log.c: messages.  It owns the only mutable globals of the program: libfuse's log function has no argument of
 * its own to carry a context.  They are set before there are threads, but for the destination, which is atomic.
 * Called by everybody.
 */
#include "fuse-fs/log.h"

#include <fuse_log.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

static struct {
	atomic_bool to_syslog;
	bool debug;
	char *capture;
	size_t capture_len;
} log_state;

static void log_line(int level, const char *fmt, va_list ap)
{
	char line[1024];
	size_t n = 0;

	if (level >= LOG_DEBUG && !log_state.debug)
		return;
	vsnprintf(line, sizeof(line), fmt, ap);
	for (n = strlen(line); n > 0 && line[n - 1] == '\n'; n--)
		line[n - 1] = '\0';
	if (n == 0)
		return;
	if (atomic_load(&log_state.to_syslog))
		syslog(LOG_DAEMON | level, "%s", line);
	else
		fprintf(stderr, "spillfs: %s\n", line);
}

void fs_log(int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(level, fmt, ap);
	va_end(ap);
}

static void log_of_libfuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
	if (log_state.capture == NULL) {
		log_line((int)level, fmt, ap);
		return;
	}
	if (level <= FUSE_LOG_ERR && log_state.capture[0] == '\0') {
		vsnprintf(log_state.capture, log_state.capture_len, fmt, ap);
		log_state.capture[strcspn(log_state.capture, "\n")] = '\0';
	}
}

void fs_log_start(bool debug)
{
	log_state.debug = debug;
	fuse_set_log_func(log_of_libfuse);
}

void fs_log_to_syslog(void)
{
	openlog("spillfs", LOG_PID, LOG_DAEMON);
	atomic_store(&log_state.to_syslog, true);
}

void fs_log_capture(char *buf, size_t len)
{
	buf[0] = '\0';
	log_state.capture = buf;
	log_state.capture_len = len;
}

void fs_log_capture_end(void)
{
	log_state.capture = NULL;
}
