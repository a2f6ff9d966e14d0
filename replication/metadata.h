/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * metadata - what a replica must not forget: the durable state of the
 * replication rules, in one file of two alternating checksummed copies of a
 * superblock.
 *
 * X1  A commit is old or new after a crash, never a mixture: copy (n + 1) % 2
 *     is written, then flushed; only then is on_done called.
 * X2  Of two copies the valid one with the higher generation counts.  With
 *     none valid the file is refused; it is never guessed at.
 * X3  One commit is in progress at a time; those asked for meanwhile are
 *     joined into the next.
 *
 * Files are reached through struct store, so that the simulator can lose and
 * tear what was not flushed.  docs/format.md specifies the bytes.
 */
#ifndef REPLICATION_METADATA_H
#define REPLICATION_METADATA_H

#include "core/list.h"
#include "replication/history.h"

struct io;
struct loop;
struct reason;

#define METADATA_ID 16

/* --- store: a file, or a simulated one --- */

struct store;

/* One write or flush in progress; lives in its owner. */
struct store_op {
	void (*on_done)(struct store_op *op, int error);
	struct list_head entry; /* the store's */
	void *private[32];	/* the store's */
};

struct store_ops {
	/* Blocking, at open.  Returns bytes read (short at the end), or a
	 * negative errno.  What is read is durable: nothing that an earlier
	 * owner wrote and did not flush. */
	long (*read)(struct store *store, void *buf, size_t length,
		     uint64_t offset);
	/* `buf` is borrowed until on_done; length and offset are multiples of
	 * 4096, buf is aligned to it. */
	void (*write)(struct store *store, struct store_op *op, const void *buf,
		      size_t length, uint64_t offset);
	void (*flush)(struct store *store, struct store_op *op);
	/* Take room for so many bytes, at open, so that no later write fails
	 * for want of it; what is read stays the same.  0, also where that
	 * cannot be done; or -ENOSPC, ...  NULL: there is always room. */
	int (*reserve)(struct store *store, uint64_t length);
	void (*close)(struct store *store); /* frees it */
};

struct store {
	const struct store_ops *ops;
	const char *name; /* for messages */
};

/* A file, locked (core/lock.h) and written through `io`; made when missing if
 * `create`, and durably so.  NULL and a reason on failure. */
struct store *store_open_file(struct io *io, const char *path, bool create,
			      struct reason *reason);
/* To be read only, and closed: off line.  -ENOENT, or -EAGAIN if somebody has
 * it open, ... and a reason. */
int store_open_to_read(struct store **ret_store, const char *path,
		       struct reason *reason);

/* --- the state --- */

enum metadata_role {
	METADATA_PRIMARY = 1,
	METADATA_SECONDARY,
};

/* A row of the peer table; one is used today. */
struct metadata_peer {
	unsigned char replica_id[METADATA_ID]; /* zero: free */
	uint64_t incarnation;		       /* the highest seen */
	uint64_t met;	    /* the last meeting that we recorded, and the */
	uint64_t stood;	    /* last that it has for sure, too (H0) */
	bool may_be_synced; /* rule M1 */
};

#define METADATA_PEERS 8

/* Where the map of changed regions lies in the file, and what is not in it; see
 * replication/tracker.h. */
struct metadata_map {
	uint64_t id;		/* random; 0: there is none */
	uint32_t region;	/* bytes */
	uint32_t extent;	/* bytes */
	uint32_t capacity;	/* extents in the intent log */
	bool suspect_all;	/* every region is suspect */
	uint64_t unknown_epoch; /* every region counts as changed in it */
	uint64_t wide_epoch;	/* the last that more was stamped with than
				 * was changed (C1) */
	uint64_t image_size;	/* as a clean stop left the file; 0: none did */
	uint64_t image_time_ns;
};

#define METADATA_CHECKPOINTS	 256
#define METADATA_CHECKPOINT_NAME 64 /* bytes, with the zero at the end */

/* A named position; a free row has no name.  See replication/checkpoint.h. */
struct metadata_checkpoint {
	char name[METADATA_CHECKPOINT_NAME];
	uint64_t timeline, epoch;
	bool confirmed; /* E1 */
};

/* The rules' durable state; a plain value, copied freely. */
struct metadata_state {
	unsigned char disk_id[METADATA_ID]; /* zero: a new, empty replica */
	unsigned char replica_id[METADATA_ID];
	enum metadata_role role;
	uint64_t size; /* bytes, of the disk */
	uint32_t sector_size;
	uint64_t epoch;
	uint64_t incarnation;
	bool active;
	bool consistent;
	bool outdated;
	bool primary_last;
	struct metadata_peer peer[METADATA_PEERS];
	struct history history;
	struct metadata_map map;
	unsigned int checkpoints; /* in use, from the first; none without map */
	struct metadata_checkpoint checkpoint[METADATA_CHECKPOINTS];
};

struct metadata;

/* A commit asked for; lives in its owner until on_done. */
struct metadata_commit {
	struct list_head entry;
	void (*on_done)(struct metadata_commit *commit, int error);
};

/*
 * Take `store` (owned from now, closed on failure too) and read the state.
 * An empty store, or one whose first commit never ended, is a new replica:
 * *ret_new is true, the state is zeroed, and nothing is written yet.
 * Torn, foreign, newer, truncated: -EBADMSG, -EMEDIUMTYPE, -EPROTONOSUPPORT
 * and a sentence naming the file and what to do.
 */
struct metadata *metadata_open(struct loop *loop, struct store *store,
			       bool *ret_new, struct reason *reason);

/* Takes NULL.  A commit in progress is given up, and may have happened; with
 * a file io_drain() comes before. */
struct metadata *metadata_close(struct metadata *metadata);

/* Where it lies: for what lies behind the two copies.  Borrowed. */
struct store *metadata_store(struct metadata *metadata);

/* The state in memory: changed freely by its owner, durable by a commit. */
struct metadata_state *metadata_state(struct metadata *metadata);

/*
 * Make the state as it is at this call durable (X3: or as it is later).
 * on_done from the loop.  After a failed write or flush every later commit
 * fails too (F3): a replica that cannot keep its state may not go on.
 */
void metadata_commit(struct metadata *metadata, struct metadata_commit *commit);
bool metadata_is_idle(const struct metadata *metadata); /* no commit */

/* --- the bytes, for off-line tools and fuzzing --- */

#define METADATA_COPY_BYTES (64u << 10)
#define METADATA_BYTES                                                         \
	(UINT64_C(2) * METADATA_COPY_BYTES) /* before the map                  \
					     */

/* ret_bytes is METADATA_COPY_BYTES long.  A state that could not be read again
 * is a mistake of ours: asserted. */
void metadata_encode(const struct metadata_state *state, uint64_t generation,
		     unsigned char *ret_bytes);
int metadata_decode(const unsigned char *bytes, size_t length,
		    struct metadata_state *ret_state, uint64_t *ret_generation,
		    struct reason *reason);
/* What metadata_open() would go by, and its errors; the state is untouched if
 * *ret_new, and on failure. */
int metadata_read(struct store *store, struct metadata_state *ret_state,
		  uint64_t *ret_generation, bool *ret_new,
		  struct reason *reason);
/* The first sector only: whole, and of a format that we know. */
int metadata_decode_head(const unsigned char *bytes, size_t length,
			 uint64_t *ret_generation, struct reason *reason);

#endif
