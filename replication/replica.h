/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica - one host's copy of a disk: its role, its durable state, its
 * meetings with the peer, and what that lets a guest's request do.  The rules
 * that its comments cite (W, M, C, H, F) are docs/replication.md's.
 *
 * It does no I/O of its own: the image below is reached through image_io, the
 * peer through link, what must not be forgotten through metadata, time through
 * the loop.  remus.c makes a driver of it.
 *
 *  primary    WAITING -> SOLO -> RESYNC -> PAIRED -> LOST -> SOLO
 *  secondary  SECONDARY -> TARGET -> SYNCED -> SECONDARY
 *
 * P1  One durable step at a time; what follows from it waits for it.
 * P2  A request is answered by the rules of the state it ends in, not of the
 *     one it came in.
 * P3  What has no answer yet is held, never failed, except where the replica
 *     ceases to be the primary.
 */
#ifndef REPLICATION_REPLICA_H
#define REPLICATION_REPLICA_H

#include "core/tapdisk-interface.h"
#include "replication/arbiter.h"
#include "replication/link.h"
#include "replication/metadata.h"
#include "replication/tracked.h"

struct json_t;
struct loop;
struct pool;
struct reason;
struct replica;

/* When a write counts as acknowledged by the peer (A1). */
enum replica_ack {
	REPLICA_ACK_RECEIVED,
	REPLICA_ACK_WRITTEN,
	REPLICA_ACK_DURABLE,
};

enum replica_on_loss {
	REPLICA_CONTINUE, /* go on alone (M3) */
	REPLICA_FREEZE,	  /* hold the guest's requests until told */
};

/* All borrowed until replica_close(), but the arbiter. */
struct replica_options {
	enum metadata_role role;
	enum replica_ack ack;
	enum replica_on_loss on_loss;
	unsigned int ack_limit_ms; /* the peer's disk hangs after; 0: 30000 */
	unsigned int retry_ms;	   /* after a refusal; 0: 10000 */
	unsigned int resync_latency_ms; /* budget of the guest; 0: none */
	bool digest;		 /* a resync skips what is equal by SHA-256 */
	struct arbiter *arbiter; /* taken, on failure too */
	struct link_options link;
	struct tracker_options tracking;
	/* The file of the image as it is now; false, or NULL: it is none. */
	tracked_look *look_at_image;
	const char *image_path;
};

/*
 * Over the image below `driver`, with `store` for the metadata (taken, on
 * failure too).  Fills driver->info.  NULL and a reason on failure.
 */
struct replica *replica_open(td_driver_t *driver, struct store *store,
			     const struct replica_options *options,
			     int *ret_error, struct reason *reason);

/* Why its metadata cannot be kept, so that it serves nobody; NULL: they can.
 * Known when its first step has ended. */
const char *replica_failure(const struct replica *replica);

/* Takes NULL.  After replica_leave() a clean end, else as if it had died. */
struct replica *replica_close(struct replica *replica);

/* The last flush before the end (M7); completes the request when done. */
void replica_leave(struct replica *replica, td_request_t treq);

/* Requests of the guest: read, write, write-zeroes, discard, flush, status. */
void replica_queue(struct replica *replica, td_request_t treq);

/* "promote [--alone] [--force]", "demote", "resync [--discard]", "verify
 * [--repair | --stop]".  What takes
 * longer is told in the status as "change" until it ends. */
int replica_command(struct replica *replica, const char *command,
		    struct json_t *result, struct reason *reason);

/* Adds the members that docs/tap-ctl.8 lists under "replica". */
void replica_status(const struct replica *replica, struct json_t *object);

#endif
