/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mirror_state - a primary's requests seen as a whole: what is proven of them,
 * what is under way, and their life.  What happens to each stands in mirror.c.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "replication/replica_private.h"

static bool
overlap(const struct mirror_request *request, uint64_t offset, uint64_t length)
{
	return request->offset < offset + length &&
	       offset < request->offset + request->length;
}

/* --- what is proven (W3, M0) --- */

void
mirror_doubt(struct replica *replica)
{
	struct mirror_request *request;
	bool suspect = replica_may_be_synced(replica);

	/* All pieces have come back, see doubt_piece(). */
	list_for_each_entry (request, &replica->mirror.active, entry) {
		request->sequence = 0; /* of that session */
		if (suspect && mirror_changes(request))
			tracker_suspect(&replica->tracker, request->offset,
					request->length);
	}
}

/* All before the first that is not done here, or there: of requests with a
 * piece that has ended, and of pieces that have not.  Both lists are in the
 * order in which they began, and so in that of the stream. */
void
mirror_tell_proven(struct replica *replica)
{
	const struct mirror *mirror = &replica->mirror;
	const struct mirror_request *request;
	const struct mirror_piece *piece;
	uint64_t first;

	if (!replica_has_member(replica) || !replica_in_session(replica))
		return;
	first = link_last_sequence(replica->link) + 1;
	list_for_each_entry (request, &mirror->active, entry) {
		if (request->sequence == 0)
			continue;
		if (request->sequence < first)
			first = request->sequence;
		break;
	}
	list_for_each_entry (piece, &mirror->pieces, entry) {
		if (piece->send.sequence == 0)
			continue;
		if (piece->send.sequence < first)
			first = piece->send.sequence;
		break;
	}
	link_set_proven(replica->link, first - 1);
}

uint64_t
mirror_oldest_epoch(const struct replica *replica)
{
	const struct mirror_request *request;
	const struct mirror_piece *piece;
	uint64_t oldest = UINT64_MAX;

	list_for_each_entry (request, &replica->mirror.active, entry) {
		if (mirror_changes(request) && request->epoch < oldest)
			oldest = request->epoch;
	}
	list_for_each_entry (piece, &replica->mirror.pieces, entry) {
		if (piece->send.type != WIRE_FLUSH &&
		    piece->send.epoch < oldest)
			oldest = piece->send.epoch;
	}
	return oldest;
}

/* --- questions --- */

bool
mirror_is_idle(const struct replica *replica)
{
	const struct mirror *mirror = &replica->mirror;

	return list_empty(&mirror->held) && list_empty(&mirror->marking) &&
	       list_empty(&mirror->barred) && list_empty(&mirror->active);
}

bool
mirror_is_writing(const struct replica *replica, uint64_t offset,
		  uint64_t length)
{
	const struct mirror_request *request;

	list_for_each_entry (request, &replica->mirror.active, entry) {
		if (!request->local_done && mirror_changes(request) &&
		    overlap(request, offset, length))
			return true;
	}
	return false;
}

void
mirror_each_writing(struct replica *replica,
		    void (*visit)(struct replica *replica, uint64_t offset,
				  uint64_t length))
{
	const struct mirror_request *request;

	list_for_each_entry (request, &replica->mirror.active, entry) {
		if (!request->local_done && mirror_changes(request))
			visit(replica, request->offset, request->length);
	}
}

uint64_t
mirror_oldest(const struct replica *replica)
{
	const struct mirror_piece *piece;

	/* They are in the order in which they began. */
	list_for_each_entry (piece, &replica->mirror.pieces, entry)
		return piece->begun_ns;
	return UINT64_MAX;
}

/* --- life --- */

int
mirror_open(struct replica *replica)
{
	struct mirror *mirror = &replica->mirror;

	INIT_LIST_HEAD(&mirror->free);
	INIT_LIST_HEAD(&mirror->held);
	INIT_LIST_HEAD(&mirror->marking);
	INIT_LIST_HEAD(&mirror->barred);
	INIT_LIST_HEAD(&mirror->active);
	INIT_LIST_HEAD(&mirror->unsent);
	INIT_LIST_HEAD(&mirror->free_pieces);
	INIT_LIST_HEAD(&mirror->pieces);
	INIT_LIST_HEAD(&mirror->written);
	INIT_LIST_HEAD(&mirror->flushing);
	mirror->requests = calloc(MIRROR_REQUESTS, sizeof(*mirror->requests));
	mirror->piece_array =
		calloc(MIRROR_PIECES, sizeof(*mirror->piece_array));
	if (mirror->requests == NULL || mirror->piece_array == NULL)
		return -ENOMEM;
	for (int i = 0; i < MIRROR_REQUESTS; i++) {
		mirror->requests[i].replica = replica;
		list_add_tail(&mirror->requests[i].entry, &mirror->free);
	}
	for (int i = 0; i < MIRROR_PIECES; i++) {
		mirror->piece_array[i].replica = replica;
		list_add_tail(&mirror->piece_array[i].entry,
			      &mirror->free_pieces);
	}
	return 0;
}

void
mirror_close(struct replica *replica)
{
	struct mirror *mirror = &replica->mirror;

	assert(mirror->requests == NULL || mirror_is_idle(replica));
	free(mirror->requests);
	free(mirror->piece_array);
	mirror->requests = NULL;
	mirror->piece_array = NULL;
}
