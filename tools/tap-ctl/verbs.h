/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs - what tap-ctl can do: a table of verbs, and a table of the arguments
 * that they share.  Both are the grammar, the help text, and what tests compare
 * the manual page and the completion with.
 */
#ifndef TOOLS_TAP_CTL_VERBS_H
#define TOOLS_TAP_CTL_VERBS_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "tools/common/pair.h"

struct client;
struct reason;

/* Exit codes; the manual lists them. */
#define EXIT_OK	     0
#define EXIT_REFUSED 1 /* it could not be done: the sentence says why */
#define EXIT_USAGE   2
#define EXIT_NONE    3 /* there is no such disk, daemon or minor */
#define EXIT_MUTE    4 /* the daemon cannot be reached or does not answer */

/* One letter may mean different things to different verbs, as in blktap. */
enum arg {
	ARG_END,
	ARG_NAME,
	ARG_PID,
	ARG_MINOR,
	ARG_IMAGE,
	ARG_READ_ONLY,
	ARG_NO_DIRECT,
	ARG_FORCE,
	ARG_SIZE,
	ARG_WATCH,
	ARG_INTERVAL,
	ARG_TYPE,
	ARG_FILE,
	ARG_REQUEST_TIMEOUT,
	ARG_LIMIT,
	ARG_ALONE,
	ARG_LOSS,
	ARG_DISCARD,
	ARG_REPAIR,
	ARG_STOP,
	ARG_SINCE,
	ARG_RAW,
	ARG_SIDE,
	ARG_JSON,
	ARG_DEBUG,
	ARG_RUN_DIR,
	ARG_HELP,
	ARG_COUNT,
};

struct arg_row {
	char letter; /* 0: none */
	const char *name;
	const char *argument; /* NULL: takes none */
	const char *help;
};

extern const struct arg_row arg_rows[ARG_COUNT];

#define VERB_ARGS_MAX 8
#define PASS_MAX      64 /* words passed on to tapdisk */

struct context {
	const struct verb *verb;
	const char *text[ARG_COUNT]; /* borrowed from argv; "" for a flag */
	char **operands;	     /* borrowed: what stands behind options */
	int operand_count;
	char *pass[PASS_MAX + 1]; /* borrowed: options for tapdisk */
	int pass_count;
	struct pair pair; /* of open */
	const char *run_dir;
};

struct verb {
	const char *name;
	const char *summary;
	enum arg args[VERB_ARGS_MAX]; /* besides the last three, all have */
	enum daemon_option_use takes; /* of tapdisk's options; ALONE: none */
	int operands_min, operands_max;
	const char *operands; /* for the help text; NULL: none */
	const char *help;     /* more, with examples */
	int (*run)(struct context *context);
};

extern const struct verb verbs[]; /* ends with a NULL name */

/* What a letter that blktap's verb takes and ours does not would have meant,
 * and what to do instead; NULL for other letters. */
const char *verb_instead_of(const struct verb *verb, int letter);

/* --- help for verbs --- */

/* "tap-ctl VERB: sentence" on standard error; returns `code`. */
int complain(const struct context *context, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The exit code for an error of client.h or run_dir.h, told with its reason. */
int complain_of(const struct context *context, int error,
		const struct reason *reason);

bool has(const struct context *context, enum arg arg);

/* A number from 0 to `max`; `otherwise` if it is not given.  Exits with
 * EXIT_USAGE if it is no number. */
long number_of(const struct context *context, enum arg arg, long max,
	       long otherwise);

void print_json(const json_t *object); /* indented */

/* --- disks.c --- */

/* The disk that -n, or -p and -m name: its daemon, connected, and its status.
 * An exit code, with the sentence told. */
int disk_find(struct context *context, struct client **ret_client,
	      json_t **ret_status);

/* Calls `visit` with the status of each daemon that answers. */
int disk_each(struct context *context,
	      void (*visit)(struct context *context, json_t *status, void *arg),
	      void *arg);

/* Find the disk, give a command, print the answer if --json: an exit code. */
int disk_command(struct context *context, const char *command,
		 json_t *arguments, unsigned int limit_s);

/* --- verbs_disk.c, for create too --- */

/* Let the daemon, whose status is `before`, open the image of -a; *ret_status
 * as client_call(). */
int open_image(struct context *context, struct client *client,
	       const json_t *before, json_t **ret_status,
	       struct reason *reason);

/* Where clients find the disk, a line each; or --json. */
/* Lines of the prefix and an address each. */
void print_addresses_of(const json_t *frontend, const char *prefix);
void print_addresses(const struct context *context, const json_t *status);

/* --- pair.c --- */

/* The lines of status that tell of a replica ("replica" of a status). */
void pair_print(const json_t *replica);

/* A row of the live view, without its end. */
void pair_print_row(const json_t *replica);

/* --- track.c --- */

/* The line of status about what is tracked ("tracking" of a status). */
void track_print(const json_t *tracking);

/* --- the verbs --- */

int verb_allocate(struct context *context);
int verb_attach(struct context *context);
int verb_changed(struct context *context);
int verb_check(struct context *context);
int verb_checkpoint(struct context *context);
int verb_close(struct context *context);
int verb_create(struct context *context);
int verb_demote(struct context *context);
int verb_destroy(struct context *context);
int verb_detach(struct context *context);
int verb_driver(struct context *context);
int verb_events(struct context *context);
int verb_free(struct context *context);
int verb_list(struct context *context);
int verb_major(struct context *context);
int verb_metadata(struct context *context);
int verb_open(struct context *context);
int verb_pause(struct context *context);
int verb_promote(struct context *context);
int verb_resize(struct context *context);
int verb_resolve(struct context *context);
int verb_resync(struct context *context);
int verb_spawn(struct context *context);
int verb_stats(struct context *context);
int verb_status(struct context *context);
int verb_unpause(struct context *context);
int verb_verify(struct context *context);
int verb_log_level(struct context *context);

/* watch.c: status --watch */
int watch(struct context *context);

#endif
