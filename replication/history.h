/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * history - the list of timelines that a replica's content went through, and
 * the pure function by which two replicas that meet decide (rules H1 to H5).
 *
 * No I/O, no clock, no state beyond the arguments.
 */
#ifndef REPLICATION_HISTORY_H
#define REPLICATION_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_MAX	    1024 /* entries kept (H0) */
#define HISTORY_DIGEST	    32	 /* bytes: SHA-256 */
#define HISTORY_ENTRY_BYTES 24	 /* encoded, little-endian */
#define HISTORY_HEAD_BYTES  48	 /* encoded: count, dropped, digest */

struct reason;

#define HISTORY_FORCED 0x1 /* begun with --force (M5) */

struct history_entry {
	uint64_t timeline;
	uint64_t first_epoch;
	uint32_t flags; /* HISTORY_* */
};

/* The newest HISTORY_MAX entries; `dropped` older ones are told by a running
 * digest only.  count 0 and dropped 0: the null history of an empty replica. */
struct history {
	uint32_t count;
	uint64_t dropped;
	unsigned char digest[HISTORY_DIGEST]; /* of the dropped ones; zero
					       * without any */
	struct history_entry entry[HISTORY_MAX];
};

/* Append; drops the oldest when full.  first_epoch must be above the last
 * one's: asserted. */
void history_append(struct history *history, uint64_t timeline,
		    uint64_t first_epoch, uint32_t flags);

/* NULL for a null history. */
const struct history_entry *history_last(const struct history *history);

/* From outside: first epochs strictly growing, none 0, count in range.
 * 0 or -EBADMSG. */
int history_check(const struct history *history);

bool history_equal(const struct history *a, const struct history *b);

/* Whether position (timeline, epoch) lies on it (E2, without the end of the
 * last timeline). */
bool history_holds(const struct history *history, uint64_t timeline,
		   uint64_t epoch);

/* HISTORY_HEAD_BYTES + count * HISTORY_ENTRY_BYTES; returns the length. */
size_t history_encode(const struct history *history, unsigned char *ret_bytes);
/* Returns the bytes taken, or -EBADMSG. */
long history_decode(const unsigned char *bytes, size_t length,
		    struct history *ret_history);

/* --- meeting --- */

/* What a replica brings to a meeting. */
struct meeting_side {
	const struct history *history; /* borrowed */
	uint64_t epoch;
	bool active;
	bool consistent;
	bool primary_last; /* as recorded: it was the primary last */
	bool discard;	   /* the operator named this side's changes to go */
};

enum meeting_outcome {
	MEETING_REFUSE,	   /* see the reason */
	MEETING_WE_SOURCE, /* the first argument is the source */
	MEETING_PEER_SOURCE,
	MEETING_EQUAL_WE_SOURCE, /* H2: equal histories; member at once */
	MEETING_EQUAL_PEER_SOURCE,
	MEETING_DIVERGED, /* H4, or H3 forced: the operator must say */
};

struct meeting {
	enum meeting_outcome outcome;
	uint64_t timeline, epoch; /* the common position; 0, 0 for a full copy
				   * into a null history */
};

/*
 * Decide (H1 to H5).  Calling it with the sides exchanged gives the mirrored
 * outcome and the same position.  On REFUSE and DIVERGED `reason` says why in
 * words for the operator, from our side's view.
 */
struct meeting meeting_decide(const struct meeting_side *we,
			      const struct meeting_side *peer,
			      struct reason *reason);

/* The outcome as the other side must have it. */
enum meeting_outcome meeting_mirror(enum meeting_outcome outcome);
const char *meeting_name(enum meeting_outcome outcome);

#endif
