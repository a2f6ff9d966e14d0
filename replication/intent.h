/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * intent - the extents that a write may touch: the set that rule W1 wants
 * durable before the image is touched, and its bytes.
 *
 *            take             encode            written
 *   (absent) ----> WANTED ------------> WRITING --------> DURABLE
 *       ^                                                    | leave_begin
 *       +----------------- leave_end ------- (leaving) <-----+
 *                                               | take: it stays
 *
 * N1  A write goes to the image only when each of its extents is DURABLE.
 * N2  Every member is in every encoded set, so a set that is older than memory
 *     has too much or what no write has touched yet.
 * N3  An extent leaves only if nobody has held it since leave_begin, when it
 *     was DURABLE.  In between its owner makes its stamps and the image
 *     durable (rule W3).
 * N4  At most `capacity` members; a hit changes nothing that is written.
 *
 * No I/O; the set is written by replication/tracker.  docs/format.md has the
 * bytes of a slot.
 */
#ifndef REPLICATION_INTENT_H
#define REPLICATION_INTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/list.h"

#define INTENT_EXTENT	    (4u << 20) /* bytes, unless set otherwise */
#define INTENT_EXTENT_MIN   (64u << 10)
#define INTENT_EXTENT_MAX   (1u << 30)
#define INTENT_CAPACITY	    2048 /* extents, unless set otherwise */
#define INTENT_CAPACITY_MIN 64
#define INTENT_CAPACITY_MAX 16384

enum intent_state {
	INTENT_WANTED,
	INTENT_WRITING,
	INTENT_DURABLE,
};

struct intent_extent {
	struct list_head entry; /* in lru, or free */
	uint32_t number;	/* of the extent */
	uint32_t holders;	/* writes in flight, or not proven */
	uint32_t used;		/* the tick when it was taken last */
	enum intent_state state;
	bool leaving;
};

struct intent {
	uint64_t size;	     /* bytes, of the disk */
	uint64_t extents;    /* of the disk */
	unsigned int shift;  /* an extent has 1 << shift bytes */
	uint64_t id;	     /* of the file that holds the set */
	uint64_t generation; /* of the set encoded last */
	unsigned int capacity;
	unsigned int count;  /* members */
	unsigned int wanted; /* of them */
	uint32_t tick;	     /* its owner's clock, for those not used long */
	uint16_t *index; /* owned: by extent, 1 + place in `extent`; 0: none */
	struct intent_extent *extent; /* owned: capacity */
	struct list_head lru;	      /* members, the longest unused first */
	struct list_head free;
};

static inline bool
intent_is_extent(uint32_t bytes)
{
	return bytes >= INTENT_EXTENT_MIN && bytes <= INTENT_EXTENT_MAX &&
	       (bytes & (bytes - 1)) == 0;
}

/* Empty.  0, -EINVAL (sizes out of range or no power of two) or -ENOMEM. */
int intent_open(struct intent *intent, uint64_t size, uint32_t extent,
		unsigned int capacity, uint64_t id);
void intent_close(struct intent *intent); /* closed ones too */

/* Whether the extents that a range touches are members or have room. */
bool intent_has_room(const struct intent *intent, uint64_t offset,
		     uint64_t length);
/* Hold them; those that are no members become WANTED.  There is room. */
void intent_take(struct intent *intent, uint64_t offset, uint64_t length);
void intent_put(struct intent *intent, uint64_t offset, uint64_t length);
/* N1 */
bool intent_is_durable(const struct intent *intent, uint64_t offset,
		       uint64_t length);

/* --- leaving --- */

/* Mark at most `max` of the longest unused, and of them those that were not
 * taken for `idle` ticks; how many. */
unsigned int intent_leave_begin(struct intent *intent, unsigned int max,
				uint32_t idle);
/* The next that is marked, behind `after` (NULL: the first); NULL: no more. */
const struct intent_extent *
intent_next_leaving(const struct intent *intent,
		    const struct intent_extent *after);
/* None is marked any more. */
void intent_stay(struct intent *intent);
/* Those that are still marked are members no more; how many. */
unsigned int intent_leave_end(struct intent *intent);

/* Bytes of the disk that an extent covers. */
uint64_t intent_offset(const struct intent *intent, uint32_t number);
uint64_t intent_length(const struct intent *intent, uint32_t number);

/* --- slots --- */

/* Bytes of a slot: a multiple of 4096. */
size_t intent_slot_bytes(unsigned int capacity);

/* The set, of the next generation; what was WANTED is WRITING.  Returns the
 * bytes to be written, a multiple of 4096. */
size_t intent_encode(struct intent *intent, unsigned char *ret_bytes);
/* They are durable. */
void intent_written(struct intent *intent);

enum intent_bytes {
	INTENT_WHOLE,
	INTENT_BLANK,
	INTENT_DAMAGED, /* torn, of another file, or nonsense */
};

enum intent_bytes intent_check(const struct intent *intent,
			       const unsigned char *bytes, size_t length,
			       uint64_t *ret_generation);
/* Take a whole set into an empty one: all are DURABLE, held by nobody. */
void intent_decode(struct intent *intent, const unsigned char *bytes);

#endif
