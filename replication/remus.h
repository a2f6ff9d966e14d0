/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remus - the filter that makes an image one of two replicas.
 *
 * Its name is a list of options joined by ',':
 *
 *   role=primary|secondary   required; never inferred
 *   listen=URL               where the peer may call; several are possible
 *   peer=URL                 where it is; several, the best first.  A bare URL
 *                            means the same.
 *   ack=received|written|durable    (written)
 *   on-peer-loss=continue|freeze    (continue; with an arbiter, freeze)
 *   arbiter=NAME[:TEXT]      who agrees to going on alone (none: the operator)
 *   key=FILE                 the shared key
 *   meta=FILE                its metadata (the image's path and ".meta")
 *   name=NAME                of the disk, as the peer is told
 *   region=, extent=, extents=     see tracked.h
 *   ping-ms=, dead-ms=, grace-ms=, connect-ms=, ack-limit-ms=, retry-ms=
 *   insecure-network         without a key beyond this host
 *
 * Commands: see replica_command().
 */
#ifndef REPLICATION_REMUS_H
#define REPLICATION_REMUS_H

#include "core/tapdisk.h"

struct arbiter_type;
struct io;
struct reason;
struct store;
struct transport;

extern struct tap_disk tapdisk_remus;

/* What replicas need of the program they are in; it defines it. */
struct remus_program {
	const struct transport *const *transports;  /* NULL ends */
	const struct arbiter_type *const *arbiters; /* the same; NULL: none */
	/* As store_open_file(). */
	struct store *(*open_store)(struct io *io, const char *path,
				    bool create, struct reason *reason);
	/* The path is there, and is a regular file: metadata lie beside it,
	 * and remember what it looked like at the end.  NULL without files. */
	bool (*look_at_image)(const char *path, uint64_t *ret_size,
			      uint64_t *ret_time_ns);
	uint64_t (*random)(void *arg); /* NULL: the kernel's */
	void *random_arg;
};

extern const struct remus_program remus_program;

#endif
