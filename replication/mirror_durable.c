/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mirror_durable - at level `durable` a change ends when it is durable on this
 * host, too, and not only on the peer: were this host to lose power and to come
 * back as the source, it would undo on the peer what it has lost itself (I3).
 *
 * One flush is under way at a time and covers all that was written before it
 * began; what is written meanwhile waits for the next, as in apply.c.
 */
#include <string.h>

#include "core/log.h"
#include "replication/replica_private.h"

static void start_flush(struct replica *replica);

void
mirror_flush_failed(struct replica *replica, int error)
{
	log_error("replica",
		  "a flush of this host's image failed: %s; what was written "
		  "since the one before may not be durable here, so this "
		  "replica is not consistent from now on",
		  strerror(-error));
	replica->spoil = true;
}

static void
on_flushed(struct image_op *op, int error)
{
	struct mirror *mirror = container_of(op, struct mirror, flush);
	struct replica *replica = container_of(mirror, struct replica, mirror);
	LIST_HEAD(done);

	mirror->flush_running = false;
	list_splice_tail_init(&mirror->flushing, &done);
	if (error < 0)
		mirror_flush_failed(replica, error);
	while (!list_empty(&done)) {
		struct mirror_request *request =
			list_first_entry(&done, struct mirror_request, flush);

		list_del_init(&request->flush);
		request->flushing = false;
		if (request->local_error == 0)
			request->local_error = error;
		mirror_try_end(request);
	}
	start_flush(replica);
	replica_poke(replica);
}

static void
start_flush(struct replica *replica)
{
	struct mirror *mirror = &replica->mirror;

	if (mirror->flush_running || list_empty(&mirror->written))
		return;
	list_splice_tail_init(&mirror->written, &mirror->flushing);
	mirror->flush_running = true;
	mirror->flush =
		(struct image_op){ .op = TD_OP_FLUSH, .on_done = on_flushed };
	image_io_start(&replica->io, &mirror->flush);
}

void
mirror_make_durable(struct mirror_request *request)
{
	request->flushing = true;
	list_add_tail(&request->flush, &request->replica->mirror.written);
	start_flush(request->replica);
}
