/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * process - what a Unix daemon does beside its work: going to the background,
 * saying that it is ready, limits and ignored signals.
 */
#ifndef TOOLS_TAPDISK_PROCESS_H
#define TOOLS_TAPDISK_PROCESS_H

#include <stdbool.h>

struct reason;

/* Exit codes; the manual lists them. */
#define EXIT_STOPPED 0 /* served, and stopped with all data flushed */
#define EXIT_START   1 /* could not begin to serve */
#define EXIT_USAGE   2
#define EXIT_UNCLEAN 3 /* stopped, and some data may not be on the disk */

/* Standard descriptors exist, limits are raised as far as they go, and no
 * broken pipe or file size limit kills us. */
void process_prepare(void);

/*
 * Fork.  Returns in the child only; the parent waits for process_ready() in
 * it, prints the child's pid and exits with 0, or with the child's exit code
 * when it ends before that.  To be called before any thread is made.
 */
void process_background(void);

/* The disk is being served: release the parent, write `pid_file` (may be NULL)
 * and tell the service manager. */
int process_ready(const char *pid_file, struct reason *reason);

/* Tell the service manager, as sd_notify(3) does: "READY=1", "STOPPING=1".
 * Without $NOTIFY_SOCKET it does nothing. */
void process_notify(const char *state);

#endif
