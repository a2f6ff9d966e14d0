/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run_dir - the directory in which daemons and tools meet.
 *
 *   ctlPID         control socket of the daemon PID
 *   nbdPID.MINOR   its NBD socket, where none was asked for
 *   minorN         marker: minor N is allocated; locked and holding a pid
 *                  while a daemon is attached to it
 *   name-NAME      marker: locked by the daemon that serves the disk NAME
 *
 * All paths are made here.  A marker's lock goes with its descriptor, thus
 * with the process; a socket of a dead process is removed by whoever finds it.
 */
#ifndef TOOLS_COMMON_RUN_DIR_H
#define TOOLS_COMMON_RUN_DIR_H

#include <stdbool.h>
#include <sys/types.h>

struct reason;

#define RUN_DIR_PATH_MAX 108 /* of a Unix socket (unix(7)), with the NUL */
#define RUN_DIR_MINORS	 16384
#define RUN_DIR_NAME_MAX 64
#define RUN_DIR_NO_MINOR (-1)

/* $TAPDISK_RUN_DIR, or the directory that is used without it. */
const char *run_dir_default(void);

/* Makes `dir` (0700, or 0750 and `group` unless that is -1) or checks that
 * nobody else can write to the one there is. */
int run_dir_make(const char *dir, int group, struct reason *reason);

/* Removes what dead processes left. */
void run_dir_sweep(const char *dir);

/* A path in `dir`; -ENAMETOOLONG if no socket could have it. */
int run_dir_path(char path[RUN_DIR_PATH_MAX], const char *dir,
		 struct reason *reason, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* The pids of daemons, ascending; the caller frees *ret_pids.  Returns their
 * number. */
int run_dir_list(const char *dir, pid_t **ret_pids, struct reason *reason);

/* Letters, digits, '.', '_', '-', at most RUN_DIR_NAME_MAX. */
bool run_dir_name_is_valid(const char *name);

/* --- markers: a descriptor that holds the lock, or a negative errno --- */

/* -EBUSY if another process serves a disk of that name. */
int run_dir_hold_name(const char *dir, const char *name, struct reason *reason);

/* Attach to an allocated minor: -ENOENT, -EBUSY. */
int run_dir_hold_minor(const char *dir, int minor, struct reason *reason);

/* Give up a descriptor got above.  A name's marker goes; a minor stays
 * allocated.  (A process that ends without this gives its minor up, too.) */
void run_dir_drop_name(const char *dir, const char *name, int fd);
void run_dir_drop_minor(int fd);

/* Allocate the lowest free minor, whose number is returned; free one. */
int run_dir_allocate(const char *dir, struct reason *reason);
int run_dir_free(const char *dir, int minor, struct reason *reason);

/* Calls `visit` for each allocated minor. */
void run_dir_each_minor(const char *dir, void (*visit)(int minor, void *arg),
			void *arg);

#endif
