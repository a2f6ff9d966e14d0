/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * arbiter - who may go on alone (rule M8): a record outside of both hosts that
 * lists the replicas that are up to date, and changes by compare-and-swap on
 * its revision.  To put oneself there alone is the word to go on alone; the
 * source of a pair in sync lists both.
 *
 * An arbiter keeps the record and nothing else; what is asked when, and what
 * an answer allows, is the replica's business (replica_arbiter.c).
 *
 * AR1 A swap happens at most once, and only on the revision that it names.
 *     When it is told as failed, or cancelled, it may have happened, or happen
 *     yet; so whoever hears nothing reads again.
 * AR2 A call ends once, within the arbiter's own time limit, from the loop or
 *     from inside the call; never after cancel().
 * AR3 One call of a replica is under way at a time.
 */
#ifndef REPLICATION_ARBITER_H
#define REPLICATION_ARBITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arbiter;
struct io;
struct loop;
struct reason;

#define ARBITER_ID	 16 /* bytes, as METADATA_ID */
#define ARBITER_LIST_MAX 8

struct arbiter_record {
	uint64_t revision; /* 0: nothing has been recorded yet */
	unsigned int count;
	unsigned char listed[ARBITER_LIST_MAX][ARBITER_ID]; /* replica ids */
};

/* Lives in its owner until on_done. */
struct arbiter_call {
	/* read: what the asker believes, replaced by what is recorded.
	 * swap: the list that is to be, with the revision it is to replace;
	 * then, with 0 or -EAGAIN, what is recorded. */
	struct arbiter_record record;
	/* 0; -EAGAIN: the revision is another one; or why there is no
	 * answer. */
	void (*on_done)(struct arbiter_call *call, int error);
	void *private[16]; /* the arbiter's */
};

struct arbiter_ops {
	void (*read)(struct arbiter *arbiter, struct arbiter_call *call);
	void (*swap)(struct arbiter *arbiter, struct arbiter_call *call);
	void (*cancel)(struct arbiter *arbiter, struct arbiter_call *call);
	void (*close)(struct arbiter *arbiter); /* frees it */
};

struct arbiter {
	const struct arbiter_ops *ops;
	const char *name; /* for people */
	bool decides;	  /* false: its word is the operator's */
};

/* What an arbiter needs of its surroundings; borrowed. */
struct arbiter_context {
	struct loop *loop;
	struct io *io;
	const char *disk; /* by which name the record is found */
};

struct arbiter_type {
	const char *name;
	/* `text` is what stands behind "name:"; "" without. */
	struct arbiter *(*open)(const struct arbiter_context *context,
				const char *text, struct reason *reason);
};

/* Agrees with everybody at once: two hosts and their operator. */
extern const struct arbiter_type arbiter_none;

/* "NAME" or "NAME:TEXT" out of a NULL-ended table (NULL: none alone). */
struct arbiter *arbiter_open(const struct arbiter_type *const *types,
			     const struct arbiter_context *context,
			     const char *name, struct reason *reason);
struct arbiter *arbiter_close(struct arbiter *arbiter); /* takes NULL */

void arbiter_record_add(struct arbiter_record *record, const unsigned char *id);
bool arbiter_record_lists(const struct arbiter_record *record,
			  const unsigned char *id);

#endif
