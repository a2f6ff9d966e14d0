/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log - messages for the operator: to stderr, a file or syslog.
 *
 * Every line carries the disk's name, set once by log_set_disk().  Each place
 * in the source that logs may write LOG_BURST lines in LOG_WINDOW_S seconds;
 * what it drops is counted and told by its next line.  Functions that return
 * an error do not log it; the place where the error ends its way logs it once.
 *
 * Called on the loop's thread only.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <syslog.h>

#define LOG_BURST    16
#define LOG_WINDOW_S 60

/* The rate limit of one place in the source. */
struct log_site {
	uint64_t window_ns; /* when the current window began */
	unsigned int lines; /* written in it */
	unsigned int dropped;
};

struct reason;

/*
 * Where lines go: "stderr" (the default), "syslog", or "file:PATH", which
 * log_reopen() opens again after a rotation.  Returns 0 or a negative errno.
 */
int log_open(const char *target, struct reason *reason);
int log_reopen(void);
void log_close(void);

/* Borrowed: `name` must stay valid; NULL for none. */
void log_set_disk(const char *name);

/* Lines less urgent than `level` (LOG_ERR .. LOG_DEBUG) are not written.
 * LOG_INFO unless set. */
void log_set_level(int level);
bool log_enabled(int level);

void log_write(struct log_site *site, int level, const char *scope,
	       const char *format, ...) __attribute__((format(printf, 4, 5)));

#define log_at(level, scope, ...)                                              \
	do {                                                                   \
		static struct log_site log_site_here;                          \
		if (log_enabled(level))                                        \
			log_write(&log_site_here, level, scope, __VA_ARGS__);  \
	} while (0)

/* `scope` is the module's name: "vbd", "nbd", "control", … */
#define log_error(scope, ...) log_at(LOG_ERR, scope, __VA_ARGS__)
#define log_warn(scope, ...)  log_at(LOG_WARNING, scope, __VA_ARGS__)
#define log_info(scope, ...)  log_at(LOG_INFO, scope, __VA_ARGS__)
#define log_debug(scope, ...) log_at(LOG_DEBUG, scope, __VA_ARGS__)

#endif
