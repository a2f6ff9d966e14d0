/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon - the assembled process: one disk, its frontends, its control socket.
 *
 *            open                 close, SIGTERM
 *   WAITING ------> SERVING --------------------> CLOSING -> WAITING | the end
 *
 * DA1  The disk is offered by frontends exactly from open to close.
 * DA2  One change of the disk (open, close, pause) is under way at a time; a
 *      second one is refused with -EBUSY.  But a close takes the place of a
 *      pause, and the stop of the process waits its turn.
 * DA3  At the stop, requests that came are answered and flushed before the
 *      process ends with EXIT_STOPPED; after the stop time limit it ends with
 *      EXIT_UNCLEAN and a sentence.
 */
#ifndef TOOLS_TAPDISK_DAEMON_H
#define TOOLS_TAPDISK_DAEMON_H

#include <stdbool.h>
#include <time.h>

#include "core/control.h"
#include "core/loop.h"
#include "core/reason.h"
#include "core/vbd.h"
#include "tools/common/run_dir.h"

struct daemon;
struct frontend;
struct io;
struct options;
struct pool;

#define DAEMON_FRONTENDS_MAX 4

/* Told once about the end of a change that was asked for. */
typedef void (*daemon_done_t)(struct daemon *daemon, void *arg, int error,
			      const struct reason *reason);

/* The last request that failed, for people. */
struct daemon_failure {
	int op;
	int error; /* negative errno */
	uint64_t offset, length;
	time_t when;
};

struct daemon {
	const struct options *options;		 /* borrowed */
	const struct frontend *const *frontends; /* borrowed; NULL ends */
	char name[RUN_DIR_NAME_MAX + 1];
	char socket[RUN_DIR_PATH_MAX]; /* of the control socket */
	struct loop *loop;	       /* owned, as all below */
	struct io *io;
	struct pool *pool;
	struct vbd *vbd;
	struct control *control;
	void *servers[DAEMON_FRONTENDS_MAX]; /* as frontends; NULL: not open */
	int name_fd;  /* markers in the run directory, -1 without */
	int minor_fd; /* -1 while not attached */
	int minor;    /* RUN_DIR_NO_MINOR while not attached */

	/* what the listener saw last */
	struct vbd_listener listener;
	enum vbd_state seen_state;
	uint64_t seen_size;
	time_t since;	   /* when the state began */
	uint64_t failures; /* requests that the disk failed */
	uint64_t untold;   /* of them, since the last event */
	struct daemon_failure last_failure;
	struct timer failure_pause; /* between two events */

	const char *role; /* of the replica at the last pause; NULL: none */

	/* the change under way */
	const char *change; /* "closed", "paused"; NULL: none */
	struct vbd_waiter pause_waiter, close_waiter;
	struct timer clients; /* looks whether they have gone */
	uint64_t clients_until_ns;
	struct timer limit; /* of the one who asked */
	daemon_done_t on_done;
	void *done_arg;
	int close_error;
	struct reason close_reason;

	/* the stop */
	int signal_fd;
	struct watch signals;
	bool stopping;
	struct timer stop_limit, stop_look;
	unsigned int last_turns;
	int exit_code;
};

/* Runs until the process is to end; returns its exit code. */
int daemon_run(const struct options *options, const struct driver_type *types,
	       const struct frontend *const *frontends);

/* Begin to end the process as SIGTERM does. */
void daemon_stop(struct daemon *daemon);

/* --- disk.c: the changes of the disk --- */

int disk_open(struct daemon *daemon, const struct vbd_options *options,
	      struct reason *reason);

/* `on_done` comes at the end, or with -ETIMEDOUT after `limit_s` (0: none),
 * while the change goes on.  Refused at once: a negative errno, a reason and
 * no on_done. */
int disk_close(struct daemon *daemon, unsigned int limit_s,
	       daemon_done_t on_done, void *arg, struct reason *reason);
int disk_pause(struct daemon *daemon, unsigned int limit_s,
	       daemon_done_t on_done, void *arg, struct reason *reason);

unsigned int disk_clients(const struct daemon *daemon);

/* {"nbd": {...}}, of those that are open; a new reference. */
json_t *disk_frontends(const struct daemon *daemon);

void disk_init(struct daemon *daemon);	  /* listener and timers */
void disk_cut_off(struct daemon *daemon); /* frees the frontends */

/* --- events.c --- */

void events_init(struct daemon *daemon);

/* {"count", "last"}; a new reference. */
json_t *events_failures(const struct daemon *daemon);

/* --- report.c --- */

json_t *report_status(const struct daemon *daemon);
json_t *report_stats(const struct daemon *daemon);

/* --- pair.c: of a replicated disk --- */

/* What its driver tells, in "images" of vbd_json(); NULL if it is none.
 * Borrowed. */
json_t *pair_replica(const json_t *images);

/* Begins a sentence: "is primary, in sync with its peer". */
void pair_say(const json_t *replica, char *text, size_t length);

/* "primary", "secondary"; NULL if the disk is no replica. */
const char *pair_role(const struct daemon *daemon);

void pair_promote(struct control_call *call, json_t *arguments);
void pair_demote(struct control_call *call, json_t *arguments);
void pair_resync(struct control_call *call, json_t *arguments);
void pair_verify(struct control_call *call, json_t *arguments);

/* --- track.c: of one whose changes are tracked --- */

/* What the image that tracks tells of it, in "images" of vbd_json(); NULL
 * without one.  Borrowed. */
json_t *track_tracking(const json_t *images);

void track_create(struct control_call *call, json_t *arguments);
void track_delete(struct control_call *call, json_t *arguments);
void track_list(struct control_call *call, json_t *arguments);
void track_changed(struct control_call *call, json_t *arguments);
void track_resolve(struct control_call *call, json_t *arguments);

/* --- commands.c --- */

extern const struct control_command daemon_commands[];
/* Give a driver of the stack an instruction; its answer is the call's. */
void daemon_instruct(struct control_call *call, const char *type,
		     const char *command);

#endif
