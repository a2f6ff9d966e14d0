/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ask - what the drivers log and remus answer about checkpoints and changes:
 * the words of a command in, JSON out.  docs/control.md has the shapes.
 */
#ifndef REPLICATION_ASK_H
#define REPLICATION_ASK_H

#include "replication/tracker.h"

#define ASK_RUNS 1024 /* in one answer */

/* {"checkpoints": [{"name", "timeline", "epoch", "confirmed", "answerable",
 * "why"}]} */
void ask_list(const struct metadata_state *state, struct json_t *result);

/*
 * "NAME [FROM]": {"checkpoint", "timeline", "epoch", "exact", "region", "size",
 * "runs": [[offset, length], ...], "next"}.  A slice of at most 0.5 ms: it goes
 * on at "next" until that is the size.  Slices of another timeline or epoch do
 * not belong together: the name was given again.  As checkpoint_may_answer().
 */
int ask_changed(const struct tracker *tracker, struct metadata_state *state,
		const char *words, struct json_t *result,
		struct reason *reason);

enum ask_verb {
	ASK_CREATE,
	ASK_LIST,
	ASK_DELETE,
};

/* "create NAME", "list", "delete NAME". */
int ask_parse(const char *words, enum ask_verb *ret_verb,
	      char ret_name[METADATA_CHECKPOINT_NAME], struct reason *reason);

#endif
