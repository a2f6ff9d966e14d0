/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verify - compares the replicas of a disk on line, by digest, beside the
 * guest; reports where they differ, and repairs the peer if that was asked for.
 *
 * V1  Only a pair that is in sync is compared, while nothing is being copied:
 *     else it waits, and goes on with what it had not finished.
 * V2  A range that differs is asked again region by region; what differs then,
 *     differs on the disks (compare.h, CM1).
 * V3  A repair copies this host's bytes by the resync's own way (H7), and the
 *     verification has not ended before that has.
 *
 * A primary's only.  What was found is kept until the next verification.
 */
#ifndef REPLICATION_VERIFY_H
#define REPLICATION_VERIFY_H

#include "core/reason.h"
#include "replication/compare.h"

struct json_t;

#define VERIFY_COMPARES 2
#define VERIFY_REGION	(64u << 10) /* bytes: as fine as it tells */
#define VERIFY_FINDINGS 64	    /* that are kept; more are counted */

enum verify_state {
	VERIFY_NONE, /* none yet */
	VERIFY_RUNNING,
	VERIFY_DONE,
	VERIFY_STOPPED, /* before its end: see `why` */
};

enum verify_kind {
	VERIFY_DIFFERENT,
	VERIFY_UNREADABLE_HERE,
	VERIFY_UNREADABLE_THERE,
};

struct verify_finding {
	uint64_t offset, length;
	enum verify_kind kind;
	int error; /* of the unreadable ones */
};

struct verify_slot {
	struct compare compare;
	uint64_t end; /* of the range */
	uint64_t begun_ns;
	bool busy;
	bool fine;    /* region by region (V2) */
	void *buffer; /* owned, of the pool: COMPARE_BYTES */
};

struct verify {
	enum verify_state state;
	bool repair;
	uint64_t cursor; /* from here on nothing was begun */
	uint64_t different_bytes, unreadable_bytes, repaired_bytes;
	struct verify_finding finding[VERIFY_FINDINGS];
	unsigned int findings;
	uint64_t more; /* findings that found no place */
	uint64_t begun_ns, ended_ns;
	struct reason why;
	struct verify_slot slots[VERIFY_COMPARES];
};

int verify_open(struct replica *replica);
void verify_close(struct replica *replica);

/* Begin one; the peer gets this host's bytes if `repair`.  Or stop it. */
int verify_command(struct replica *replica, bool repair, bool stop,
		   struct reason *reason);
/* Look what can be begun, or has ended; called by the advance. */
void verify_advance(struct replica *replica);
/* A new reference; null if there was none yet. */
struct json_t *verify_json(const struct replica *replica);

#endif
