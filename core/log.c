/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log - see log.h.
 *
 * One process, one log: the state below is the only file-scope state of the
 * core, because every room logs and a log handle in every structure would say
 * nothing.  A line is formatted on the stack and written by one call, so that
 * lines of several processes do not mix.
 */
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/reason.h"

#define LOG_LINE_MAX 1024 /* bytes; a longer line is cut */

static struct {
	int fd;	    /* owned when path is set; -1: syslog */
	char *path; /* owned; NULL for stderr and syslog */
	const char *disk;
	int level;
} log_state = { .fd = STDERR_FILENO, .level = LOG_INFO };

static const char *const level_names[] = {
	[LOG_EMERG] = "emergency", [LOG_ALERT] = "alert",
	[LOG_CRIT] = "critical",   [LOG_ERR] = "error",
	[LOG_WARNING] = "warning", [LOG_NOTICE] = "notice",
	[LOG_INFO] = "info",	   [LOG_DEBUG] = "debug",
};

static int
open_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

	return fd < 0 ? -errno : fd;
}

void
log_close(void)
{
	if (log_state.path != NULL) {
		(void)close(log_state.fd);
		free(log_state.path);
		log_state.path = NULL;
	}
	if (log_state.fd < 0)
		closelog();
	log_state.fd = STDERR_FILENO;
}

int
log_open(const char *target, struct reason *reason)
{
	if (strcmp(target, "stderr") == 0) {
		log_close();
		return 0;
	}
	if (strcmp(target, "syslog") == 0) {
		log_close();
		openlog("tapdisk", LOG_PID, LOG_DAEMON);
		log_state.fd = -1;
		return 0;
	}
	if (strncmp(target, "file:", 5) == 0) {
		int fd = open_file(target + 5);
		char *path = strdup(target + 5);

		if (fd < 0 || path == NULL) {
			free(path);
			return reason_set(reason, fd < 0 ? fd : -ENOMEM,
					  "log file %s: %s", target + 5,
					  strerror(fd < 0 ? -fd : ENOMEM));
		}
		log_close();
		log_state.fd = fd;
		log_state.path = path;
		return 0;
	}
	return reason_set(reason, -EINVAL,
			  "log target '%s' is unknown: use stderr, syslog or "
			  "file:PATH",
			  target);
}

int
log_reopen(void)
{
	int fd;

	if (log_state.path == NULL)
		return 0;
	fd = open_file(log_state.path);
	if (fd < 0)
		return fd; /* the old file goes on being written */
	(void)close(log_state.fd);
	log_state.fd = fd;
	return 0;
}

void
log_set_disk(const char *name)
{
	log_state.disk = name;
}

void
log_set_level(int level)
{
	log_state.level = level;
}

bool
log_enabled(int level)
{
	return level <= log_state.level;
}

/* "2026-01-31T12:00:00.123Z error vm1 nbd: " */
static int
format_prefix(char *line, size_t size, int level, const char *scope)
{
	struct timespec now;
	struct tm tm;
	char stamp[32];

	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &tm);
	(void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	return snprintf(line, size, "%s.%03ldZ %s %s%s%s: ", stamp,
			now.tv_nsec / 1000000, level_names[level],
			log_state.disk != NULL ? log_state.disk : "",
			log_state.disk != NULL ? " " : "", scope);
}

static void
write_line(int level, const char *scope, const char *text)
{
	char line[LOG_LINE_MAX];
	int length;

	if (log_state.fd < 0) {
		syslog(level, "%s%s%s: %s",
		       log_state.disk != NULL ? log_state.disk : "",
		       log_state.disk != NULL ? " " : "", scope, text);
		return;
	}
	length = format_prefix(line, sizeof(line), level, scope);
	length += snprintf(line + length, sizeof(line) - (size_t)length - 1,
			   "%s", text);
	if (length > LOG_LINE_MAX - 2)
		length = LOG_LINE_MAX - 2;
	line[length] = '\n';
	/* a log that cannot be written has nowhere to say so */
	if (write(log_state.fd, line, (size_t)length + 1) < 0)
		return;
}

/* Whether the place may write now; resets its window when that is over. */
static bool
site_admits(struct log_site *site, unsigned int *ret_dropped)
{
	struct timespec now;
	uint64_t now_ns;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (site->lines == 0 ||
	    now_ns - site->window_ns > LOG_WINDOW_S * 1000000000ull) {
		site->window_ns = now_ns;
		site->lines = 0;
		*ret_dropped = site->dropped;
		site->dropped = 0;
	}
	if (site->lines < LOG_BURST) {
		site->lines++;
		return true;
	}
	site->dropped++;
	return false;
}

/* The old drivers end their messages with a newline, and a name from outside
 * may hold one. */
static void
make_one_line(char *text)
{
	size_t length = strlen(text), i;

	while (length > 0 && text[length - 1] == '\n')
		text[--length] = '\0';
	for (i = 0; i < length; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			text[i] = ' ';
}

void
log_write(struct log_site *site, int level, const char *scope,
	  const char *format, ...)
{
	char text[LOG_LINE_MAX];
	unsigned int dropped = 0;
	va_list args;

	if (!site_admits(site, &dropped))
		return;
	if (dropped > 0) {
		(void)snprintf(text, sizeof(text),
			       "%u more lines like the next were not written",
			       dropped);
		write_line(level, scope, text);
	}
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	make_one_line(text);
	write_line(level, scope, text);
}
