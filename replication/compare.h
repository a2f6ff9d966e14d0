/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * compare - asks the peer whether it has the same bytes in a range: by digest,
 * under a bar, in the stream.
 *
 *   FREE -> BARRING -> READING -> HASHING -> SENT -> FREE
 *
 * CM1 From BARRING to HASHING a guest's write of the range waits, as for a copy
 *     (H7): first those under way end, then the range is read and hashed, then
 *     the digest enters the stream.  So it lies behind every write that the
 *     digest holds and before every later one; the target, which applies the
 *     range's messages in order, hashes the same state.  A difference is one
 *     on the disks, never a write in flight.
 * CM2 on_done comes once for each start, from the loop.
 */
#ifndef REPLICATION_COMPARE_H
#define REPLICATION_COMPARE_H

#include "replication/digest.h"
#include "replication/image_io.h"
#include "replication/link.h"

struct replica;

#define COMPARE_BYTES WIRE_VERIFY_MAX /* the longest range */

enum compare_state {
	COMPARE_FREE,
	COMPARE_BARRING,
	COMPARE_READING,
	COMPARE_HASHING,
	COMPARE_SENT,
};

enum compare_result {
	COMPARE_EQUAL,
	COMPARE_DIFFERENT,
	COMPARE_LOST,	    /* the session ended before the answer */
	COMPARE_UNREADABLE, /* here: `error` */
	COMPARE_REFUSED,    /* the peer could not read its own: `error` */
};

struct compare {
	struct list_head entry;	 /* among those under way */
	struct replica *replica; /* borrowed */
	enum compare_state state;
	uint64_t offset, length;
	bool stamp;   /* it stands for a copy: what is equal takes our stamp */
	void *buffer; /* borrowed: COMPARE_BYTES */
	struct image_op read;
	struct digest digest;
	struct link_send send;
	uint64_t meeting;  /* in which it was read */
	uint64_t begun_ns; /* when it was sent */
	void (*on_done)(struct compare *compare, enum compare_result result,
			int error);
};

/* Whether the peer of this session takes WIRE_VERIFY. */
bool compare_is_possible(const struct replica *replica);
/* We are the source in a session; the compare is FREE.  With `stamp` the range
 * has one (tracker_alike()). */
void compare_start(struct replica *replica, struct compare *compare,
		   uint64_t offset, uint64_t length, void *buffer);
/* A guest's write begins: false if it must wait for a digest of its range. */
bool compare_admits(const struct replica *replica, uint64_t offset,
		    uint64_t length);
/* A guest's write has ended here: a bar may be up. */
void compare_poke(struct replica *replica);
/* The session is over: who only waits to begin is lost. */
void compare_end(struct replica *replica);
/* When the digest was sent that waits longest; UINT64_MAX without one. */
uint64_t compare_oldest(const struct replica *replica);

#endif
