/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tracker - what of a disk was changed when, through every crash: owns the
 * dirty map and the write intents, in memory and in the metadata's file behind
 * the two copies of the state.
 *
 *   write:  hold (W1) -> stamp (W2) -> image -> release, when it is proven
 *
 * T1  tracker_hold() lets a write go when its extents are in a durable set of
 *     intents.  Sets are written whole, one at a time; what is asked for
 *     meanwhile is joined into the next.  A write into extents that are members
 *     costs no metadata write.
 * T2  An extent leaves when nobody has held it since its leaving began, and
 *     then the stamps and suspects of its regions were made durable and the
 *     image flushed (W3).
 * T3  The map is written a page at a time, in turn to two places; a page is
 *     written once between two flushes.  So a crash leaves of each page the old
 *     or the new state, and of the set of intents.
 * T4  After a crash every region of a logged extent counts as changed in the
 *     current epoch and is suspect, durably so before tracker_start() ends
 * (C1). After tracker_stop() no extent is logged. T5  With the image's flush
 * failed, its extents leave as suspects: what the flush lost is not equal on
 * both hosts.
 *
 * Called by the replica (mirror, apply) and by the driver log; it decides
 * nothing about peers.  docs/format.md has the bytes.
 */
#ifndef REPLICATION_TRACKER_H
#define REPLICATION_TRACKER_H

#include "replication/dirty_map.h"
#include "replication/image_io.h"
#include "replication/intent.h"
#include "replication/metadata.h"

struct json_t;
struct reason;

#define TRACKER_BATCH	16 /* pages written at once */
#define TRACKER_TICK_S	2  /* between two looks for idle extents */
#define TRACKER_IDLE	3  /* ticks without a write, and an extent leaves */
#define TRACKER_REGIONS (1u << 18) /* looked at in a slice of 0.5 ms */

/* Of a map that is made; 0: as the headers of its parts say.  One that is there
 * must be as is asked for. */
struct tracker_options {
	uint32_t region, extent; /* bytes */
	uint32_t capacity;	 /* extents in the log */
	bool is_new;		 /* the metadata are: no change was missed */
};

/* A change of [offset, offset + length) that waits for its intent; lives in its
 * owner until on_held. */
struct tracker_hold {
	/* the owner fills */
	uint64_t offset, length; /* bytes, at most tracker_max_length() */
	void (*on_held)(struct tracker_hold *hold);

	/* the tracker's */
	struct list_head entry;
	bool taken;
};

/* Someone who waits for map pages to be durable. */
struct tracker_sync {
	struct list_head entry;
	bool all; /* dirty pages; else those with suspects */
	void (*on_done)(struct tracker_sync *sync);
};

enum tracker_pass {
	PASS_NONE,
	PASS_LEAVE, /* extents leave the log */
	PASS_SUSPECTS,
	PASS_ALL,
};

struct tracker;

struct tracker_page {
	struct store_op op;
	struct tracker *tracker; /* borrowed */
	unsigned char *bytes;	 /* borrowed, of tracker->page_bytes */
	bool busy;
};

struct tracker_events {
	/* The metadata cannot be written: nothing that waits will go on. */
	void (*on_failed)(void *owner, int error);
	/* T5 (F3) */
	void (*on_flush_failed)(void *owner, int error);
};

struct tracker {
	struct loop *loop; /* borrowed, as the next three */
	struct metadata *metadata;
	struct store *store;
	struct image_io *io;
	const struct tracker_events *events; /* borrowed */
	void *owner;

	struct dirty_map map;
	struct intent intent;
	struct metadata_map fresh; /* of a map that is being made; id 0: none */
	bool is_new;
	bool recovered; /* C1 had something to do */
	int error;	/* the first failure of the store */

	struct list_head room;	  /* holds that wait for others to leave */
	struct list_head marking; /* taken; wait for the set to be durable */
	struct list_head syncs, syncing;
	struct task work;
	struct timer tick;

	/* the set of intents on its way */
	struct store_op slot_op;
	unsigned char *slot_bytes; /* owned */
	bool slot_busy;
	bool stale; /* the durable set has some that have left */

	/* the pass under way */
	enum tracker_pass pass;
	uint32_t batch;	  /* its number */
	uint64_t page_at; /* of PASS_SUSPECTS and PASS_ALL: the next */
	const struct intent_extent *extent_at; /* of PASS_LEAVE */
	unsigned int pages_busy;
	bool pages_seen; /* all of the pass are begun */
	bool pages_flushing, image_flushing;
	bool pages_done;
	unsigned char *page_bytes; /* owned */
	struct tracker_page page[TRACKER_BATCH];
	struct store_op flush_op;
	struct image_op image_flush;
	bool distrust; /* a flush of the image failed (T5) */

	/* start and stop */
	void (*on_phase)(struct tracker *tracker); /* what follows in it */
	void (*on_end)(void *owner);
	struct metadata_commit commit;
	struct tracker_sync phase_sync;
	uint64_t image_size, image_time_ns; /* to be recorded by the stop */
	bool running, stopping, emptied;

	uint64_t intent_writes, page_writes, image_flushes; /* so far */
};

/*
 * Read what the metadata's file holds, or prepare to make it; nothing is
 * written yet.  `metadata` and `io` are borrowed until tracker_close().
 * -EBADMSG, -EINVAL, -ENOMEM and a sentence.
 */
int tracker_open(struct tracker *tracker, struct loop *loop,
		 struct metadata *metadata, struct image_io *io,
		 const struct tracker_options *options,
		 const struct tracker_events *events, struct reason *reason);
void tracker_close(struct tracker *tracker); /* closed ones too */

/* The image's file as it is now; between open and start.  True if it is not
 * what a clean stop left: then every region counts as changed and is suspect.
 */
bool tracker_check_image(struct tracker *tracker, uint64_t size,
			 uint64_t time_ns);

/* Make the recovery, or the new map, durable, and with it the state in memory;
 * on_end from the loop.  Not called after a failure. */
void tracker_start(struct tracker *tracker, void (*on_end)(void *owner));

/* Nothing is held: let all extents go, and record the image's file (size 0:
 * none).  on_end from the loop; nothing may follow but tracker_close(). */
void tracker_stop(struct tracker *tracker, uint64_t image_size,
		  uint64_t image_time_ns, void (*on_end)(void *owner));

/* --- writes --- */

/* Bytes that one hold may have. */
uint64_t tracker_max_length(const struct tracker *tracker);

/* True: it is held, and may touch the image.  False: on_held comes later, from
 * the loop. */
bool tracker_hold(struct tracker *tracker, struct tracker_hold *hold);
/* One that waits is not to come any more. */
void tracker_cancel(struct tracker *tracker, struct tracker_hold *hold);
/* Hold a range that is held already by another. */
void tracker_hold_again(struct tracker *tracker, uint64_t offset,
			uint64_t length);
void tracker_release(struct tracker *tracker, uint64_t offset, uint64_t length);

static inline void
tracker_stamp(struct tracker *tracker, uint64_t offset, uint64_t length,
	      uint64_t epoch)
{
	dirty_map_stamp(&tracker->map, offset, length, epoch);
}

static inline void
tracker_suspect(struct tracker *tracker, uint64_t offset, uint64_t length)
{
	dirty_map_suspect(&tracker->map, offset, length);
}

/* The range has the source's content, last changed in `epoch`: of regions that
 * lie in it wholly that is the stamp, and they are not suspect. */
void tracker_copied(struct tracker *tracker, uint64_t offset, uint64_t length,
		    uint64_t epoch);

/* F3: a flush of the image failed, so what the log holds may be lost, and what
 * leaves it from now on. */
void tracker_distrust(struct tracker *tracker);

/* Every region counts as changed in `epoch` (M5 with --force); in memory, the
 * caller makes it durable. */
void tracker_forget(struct tracker *tracker, uint64_t epoch);
/* No region is suspect any more (M2); the same. */
void tracker_absolve(struct tracker *tracker);

/* Make what is dirty now durable (M0, M4). */
void tracker_sync(struct tracker *tracker, struct tracker_sync *sync);

/* --- questions --- */

bool tracker_has_suspects(const struct tracker *tracker);
/* As dirty_map's, with what counts for every region. */
uint64_t tracker_stamp_of(const struct tracker *tracker, uint64_t offset);
void tracker_next(const struct tracker *tracker, uint64_t since, uint64_t from,
		  uint64_t budget, struct dirty_map_run *ret_run);
void tracker_next_doubtful(const struct tracker *tracker, uint64_t since,
			   uint64_t from, uint64_t budget,
			   struct dirty_map_run *ret_run);
/* Bytes from `offset` on, at most `max`, with one stamp. */
uint64_t tracker_alike(const struct tracker *tracker, uint64_t offset,
		       uint64_t max);
/* Whether the answer to "changed since" names nothing that was not changed. */
bool tracker_is_exact(const struct tracker *tracker, uint64_t since);

struct json_t *tracker_json(const struct tracker *tracker);

/* --- where things lie in the file --- */

uint64_t tracker_slot_offset(unsigned int capacity, unsigned int slot);
uint64_t tracker_page_offset(unsigned int capacity, uint64_t page,
			     uint32_t generation);

#endif
