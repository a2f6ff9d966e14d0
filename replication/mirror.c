/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mirror - a primary's requests: each goes to the image and, in step with it,
 * to the peer; it ends when both are done as the rules ask (A1, W4).
 *
 *   queue -> [held: the state] -> [marking: its intents]
 *         -> [barred: a copy of its range] -> active -> end
 *
 * MI1 A request is answered when the image has ended it, and the peer has
 *     acknowledged every piece at the level, or need not.
 * MI2 The guest's bytes are taken where they lie.  A piece that may outlive
 *     its request (at level received, or before the peer is a member) has a
 *     copy of its own; where there is no room for one, the request waits for
 *     the final acknowledgement, or the range is left to the resync.
 * MI3 A request whose session ended is unproven: it waits for M3, or for a
 *     meeting that makes us the source.
 * MI4 A change is stamped when it enters the stream (W2), and stays in the log
 *     of intents until it is known to be done here and there (W3): by its
 *     request, and by each piece that goes on without it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/pool.h"
#include "replication/replica_private.h"

/* --- the end of a request --- */

static void
give_back(struct mirror_request *request, int error)
{
	struct mirror *mirror = &request->replica->mirror;
	uint64_t now = loop_now(request->replica->loop);
	td_request_t treq = request->treq;

	if (request->begun_ns > 0)
		pace_note(&request->replica->pace, now - request->begun_ns,
			  now);
	if (request->marked)
		tracker_release(&request->replica->tracker, request->offset,
				request->length);
	request->marked = false;
	list_move_tail(&request->entry, &mirror->free);
	td_complete_request(treq, error);
}

/* MI4 */
static void
hold_piece(struct mirror_piece *piece)
{
	if (piece->send.type == WIRE_FLUSH)
		return;
	tracker_hold_again(&piece->replica->tracker, piece->send.offset,
			   piece->send.length);
	piece->held = true;
}

/* What is left on the way when a request ends goes on without it. */
static void
let_go(struct mirror_request *request)
{
	struct mirror *mirror = &request->replica->mirror;
	struct mirror_piece *piece, *spare;

	if (request->out == 0)
		return;
	list_for_each_entry_safe (piece, spare, &mirror->pieces, entry) {
		if (piece->request == request) {
			hold_piece(piece);
			piece->request = NULL;
			mirror->ahead++;
			request->out--;
		}
	}
	assert(request->out == 0);
}

/* MI1. */
void
mirror_try_end(struct mirror_request *request)
{
	struct replica *replica = request->replica;

	if (!request->local_done || request->flushing)
		return;
	switch (request->remote) {
	case MIRROR_NOT_NEEDED:
		if (request->out > 0) /* the link still borrows the bytes */
			return;
		break;
	case MIRROR_SENDING:
		if (request->next < request->offset + request->length ||
		    request->awaiting > 0)
			return;
		request->remote = MIRROR_DONE;
		break;
	case MIRROR_DONE:
		break;
	case MIRROR_UNPROVEN:
		return;
	}
	let_go(request);
	give_back(request, request->local_error);
	replica_poke(replica);
}

/* --- the image's side --- */

static void
on_local_done(struct image_op *op, int error)
{
	struct mirror_request *request =
		container_of(op, struct mirror_request, local);
	struct replica *replica = request->replica;

	request->local_done = true;
	if (request->local_error == 0)
		request->local_error = error;
	if (mirror_changes(request) && request->remote == MIRROR_NOT_NEEDED)
		replica->mirror.local_alone--;
	if (error < 0 && mirror_changes(request)) { /* F1 */
		tracker_suspect(&replica->tracker, request->offset,
				request->length);
		resync_repair(replica, request->offset, request->length);
	}
	if (error < 0 && request->treq.op == TD_OP_FLUSH)
		mirror_flush_failed(replica, error);
	if (error == 0 && mirror_changes(request) &&
	    replica->options.ack == REPLICA_ACK_DURABLE)
		mirror_make_durable(request);
	if (mirror_changes(request))
		resync_poke(replica); /* a copy may wait for the range */
	mirror_try_end(request);
	replica_poke(replica);
}

static void
start_local(struct mirror_request *request)
{
	struct replica *replica = request->replica;
	const td_request_t *treq = &request->treq;

	request->local_done = false;
	request->flushing = false;
	request->local_error = 0;
	request->local = (struct image_op){
		.op = treq->op,
		.offset = request->offset,
		.length = request->length,
		.buffer = treq->buf,
		.flags = treq->flags & TD_REQUEST_NO_UNMAP,
		.on_done = on_local_done,
	};
	/* Both sides are to read the same afterwards. */
	if (treq->op == TD_OP_DISCARD)
		request->local.op = TD_OP_WRITE_ZEROES;
	image_io_start(&replica->io, &request->local);
}

/* --- the peer's side --- */

/* A piece counts once for the level: as received if its bytes are not the
 * guest's, else when it ended. */
static bool
received_counts(const struct mirror_piece *piece)
{
	return piece->copy != NULL || piece->send.payload == NULL;
}

static void
on_piece_received(struct link_send *send)
{
	struct mirror_piece *piece =
		container_of(send, struct mirror_piece, send);
	struct mirror_request *request = piece->request;

	if (piece->received || request == NULL || !received_counts(piece))
		return;
	piece->received = true;
	request->awaiting--;
	mirror_try_end(request);
}

static void send_unsent(struct replica *replica);

static void
piece_failed(struct mirror_piece *piece, int status)
{
	struct replica *replica = piece->replica;

	if (status == -ENOTCONN)
		return;
	replica_break(replica,
		      "the peer's disk failed a %s of %u bytes at offset %llu: "
		      "%s",
		      piece->send.type == WIRE_FLUSH ? "flush" : "write",
		      piece->send.length,
		      (unsigned long long)piece->send.offset,
		      strerror(-status));
}

/* The peer may have it or not. */
static void
doubt_piece(struct mirror_piece *piece)
{
	struct replica *replica = piece->replica;

	resync_note_write(replica, piece->send.offset, piece->send.length,
			  false);
	if (!replica_may_be_synced(replica))
		return;
	tracker_suspect(&replica->tracker, piece->send.offset,
			piece->send.length); /* M0 */
	replica->settle = true;
}

static void
on_piece_ended(struct link_send *send, int status)
{
	struct mirror_piece *piece =
		container_of(send, struct mirror_piece, send);
	struct mirror_request *request = piece->request;
	struct replica *replica = piece->replica;
	struct mirror *mirror = &replica->mirror;

	if (status < 0) {
		piece_failed(piece, status);
		if (send->type != WIRE_FLUSH)
			doubt_piece(piece);
	}
	if (piece->held)
		tracker_release(&replica->tracker, send->offset, send->length);
	piece->held = false;
	pool_put(replica->pool, piece->copy);
	piece->copy = NULL;
	list_move_tail(&piece->entry, &mirror->free_pieces);
	if (piece->alone)
		mirror->ahead_alone--;
	if (request == NULL) {
		mirror->ahead--;
	} else {
		if (request->sequence == 0 ||
		    send->sequence < request->sequence)
			request->sequence = send->sequence;
		request->out--;
		if (!piece->received)
			request->awaiting--;
		if (status < 0 && request->remote == MIRROR_SENDING)
			request->remote = MIRROR_UNPROVEN;
		mirror_try_end(request);
	}
	send_unsent(replica);
	replica_poke(replica);
}

static struct mirror_piece *
take_piece(struct mirror_request *request, uint64_t offset, uint64_t length)
{
	struct replica *replica = request->replica;
	struct mirror *mirror = &replica->mirror;
	struct mirror_piece *piece;

	if (list_empty(&mirror->free_pieces))
		return NULL;
	piece = list_first_entry(&mirror->free_pieces, struct mirror_piece,
				 entry);
	list_move_tail(&piece->entry, &mirror->pieces);
	piece->request = request;
	piece->begun_ns = loop_now(replica->loop);
	piece->received = false;
	piece->alone = false;
	piece->held = false;
	piece->copy = NULL;
	piece->send = (struct link_send){
		.type = WIRE_ZERO,
		.epoch = request->epoch,
		.offset = offset,
		.length = (uint32_t)length,
		.on_received = on_piece_received,
		.on_ended = on_piece_ended,
	};
	if (request->treq.op == TD_OP_WRITE) {
		piece->send.type = WIRE_WRITE;
		piece->send.payload =
			request->treq.buf + (offset - request->offset);
	} else if (request->treq.op == TD_OP_FLUSH) {
		piece->send.type = WIRE_FLUSH;
		piece->send.offset = 0;
		piece->send.length = 0;
	}
	return piece;
}

static void
put_piece(struct mirror_piece *piece)
{
	pool_put(piece->replica->pool, piece->copy);
	piece->copy = NULL;
	list_move_tail(&piece->entry, &piece->replica->mirror.free_pieces);
}

static uint64_t
piece_max(const struct mirror_request *request)
{
	return request->treq.op == TD_OP_WRITE
		       ? link_piece_max(request->replica->link)
		       : MIRROR_ZERO_MAX;
}

/* Give a piece bytes of its own.  False if there is no room. */
static bool
copy_payload(struct mirror_piece *piece)
{
	if (piece->send.payload == NULL)
		return true;
	piece->copy = pool_get(piece->replica->pool, piece->send.length);
	if (piece->copy == NULL)
		return false;
	memcpy(piece->copy, piece->send.payload, piece->send.length);
	piece->send.payload = piece->copy;
	return true;
}

/* Send what can be sent of a request that waits for the peer. */
static bool
send_pieces(struct mirror_request *request)
{
	struct replica *replica = request->replica;
	uint64_t end = request->offset + request->length;

	while (request->next < end) {
		uint64_t length = end - request->next;
		struct mirror_piece *piece;

		if (length > piece_max(request))
			length = piece_max(request);
		piece = take_piece(request, request->next, length);
		if (piece == NULL)
			return false;
		if (piece->send.type == WIRE_FLUSH) {
			/* always durable, whatever the level (A1) */
		} else if (replica->options.ack == REPLICA_ACK_RECEIVED) {
			piece->send.flags = WIRE_FLAG_RECEIVED;
			(void)copy_payload(piece);
		} else if (replica->options.ack == REPLICA_ACK_DURABLE) {
			piece->send.flags = WIRE_FLAG_DURABLE;
		}
		request->next += length;
		request->out++;
		request->awaiting++;
		link_send(replica->link, &piece->send);
	}
	return true;
}

static void
send_unsent(struct replica *replica)
{
	struct mirror *mirror = &replica->mirror;
	struct mirror_request *request, *spare;

	if (!replica_in_session(replica))
		return;
	list_for_each_entry_safe (request, spare, &mirror->unsent, unsent) {
		if (request->remote == MIRROR_SENDING && !send_pieces(request))
			return;
		list_del_init(&request->unsent);
	}
}

/* W4: the peer is to acknowledge it. */
static void
start_remote(struct mirror_request *request)
{
	request->remote = MIRROR_SENDING;
	request->next = request->offset;
	request->awaiting = 0;
	if (!send_pieces(request))
		list_add_tail(&request->unsent,
			      &request->replica->mirror.unsent);
}

/*
 * The peer is being copied to and is no member: nobody waits for it, so all
 * pieces go at once with bytes of their own, or none.
 */
static bool
send_ahead(struct mirror_request *request)
{
	struct replica *replica = request->replica;
	struct mirror *mirror = &replica->mirror;
	uint64_t at = request->offset, end = at + request->length;
	struct mirror_piece *piece, *spare;
	LIST_HEAD(ready);

	while (at < end) {
		uint64_t length = end - at;

		if (length > piece_max(request))
			length = piece_max(request);
		piece = link_has_room(replica->link)
				? take_piece(request, at, length)
				: NULL;
		if (piece != NULL)
			list_move_tail(&piece->entry, &ready);
		if (piece == NULL || !copy_payload(piece))
			break;
		at += length;
	}
	list_for_each_entry_safe (piece, spare, &ready, entry) {
		if (at < end) {
			put_piece(piece);
			continue;
		}
		list_move_tail(&piece->entry, &mirror->pieces);
		hold_piece(piece);
		piece->request = NULL;
		piece->alone = true;
		mirror->ahead++;
		mirror->ahead_alone++;
		link_send(replica->link, &piece->send);
	}
	return at == end;
}

/* --- the begin of a request --- */

static void
start_change(struct mirror_request *request)
{
	struct replica *replica = request->replica;
	bool sent = true;

	request->epoch = replica->epoch;
	tracker_stamp(&replica->tracker, request->offset, request->length,
		      request->epoch);
	if (replica_has_member(replica)) {
		start_remote(request);
	} else {
		request->remote = MIRROR_NOT_NEEDED;
		replica->mirror.local_alone++;
		replica->mirror.alone_bytes += request->length;
		sent = replica->state == REPLICA_RESYNC &&
		       !resync_will_copy(replica, request->offset,
					 request->length) &&
		       send_ahead(request);
	}
	resync_note_write(replica, request->offset, request->length, sent);
	start_local(request);
}

static void
start_flush(struct mirror_request *request)
{
	struct replica *replica = request->replica;

	if (!replica_durable(replica)->consistent) {
		/* F3: what one flush lost, no later one makes good. */
		give_back(request, -EIO);
		return;
	}
	if (replica_has_member(replica))
		start_remote(request);
	else
		request->remote = MIRROR_NOT_NEEDED;
	start_local(request);
}

/* The resync wants to know how long it takes. */
static void
start_read(struct mirror_request *request)
{
	request->remote = MIRROR_NOT_NEEDED;
	start_local(request);
}

static bool
is_read(const td_request_t *treq)
{
	return treq->op == TD_OP_READ || treq->op == TD_OP_BLOCK_STATUS;
}

/* Whether the budget of a resync or verification counts it. */
static bool
is_paced(const struct replica *replica, const td_request_t *treq)
{
	return treq->op == TD_OP_READ && replica->pace.budget_ns > 0 &&
	       (replica->state == REPLICA_RESYNC ||
		replica->verify.state == VERIFY_RUNNING);
}

/* A broken connection may mean a new primary elsewhere: nothing begins and
 * nothing is read until it is known to be whole (A8).  While the disk is handed
 * over, what was taken before goes on: the hand-over waits for it. */
static bool
may_start(const struct replica *replica)
{
	if (!replica_serves(replica) || replica->opening)
		return false;
	return !replica_has_member(replica) ||
	       link_state(replica->link) == LINK_UP;
}

static void start_all(struct replica *replica, struct list_head *list);

static void
on_marked(struct tracker_hold *hold)
{
	struct mirror_request *request =
		container_of(hold, struct mirror_request, hold);
	LIST_HEAD(one);

	request->marked = true;
	list_move_tail(&request->entry, &one);
	start_all(request->replica, &one);
}

/* W1.  False: it goes on later. */
static bool
mark(struct mirror_request *request)
{
	struct replica *replica = request->replica;

	if (request->marked)
		return true;
	request->hold = (struct tracker_hold){ .offset = request->offset,
					       .length = request->length,
					       .on_held = on_marked };
	request->marked = tracker_hold(&replica->tracker, &request->hold);
	if (!request->marked)
		list_move_tail(&request->entry, &replica->mirror.marking);
	return request->marked;
}

static void
start(struct mirror_request *request)
{
	struct replica *replica = request->replica;
	struct mirror *mirror = &replica->mirror;

	if (request->begun_ns == 0)
		request->begun_ns = loop_now(replica->loop);
	if (is_read(&request->treq) && !is_paced(replica, &request->treq)) {
		td_request_t treq = request->treq;

		list_move_tail(&request->entry, &mirror->free);
		td_forward_request(treq);
		return;
	}
	if (mirror_changes(request) && !mark(request))
		return;
	if (mirror_changes(request) &&
	    !resync_admits(replica, request->offset, request->length)) {
		list_move_tail(&request->entry, &mirror->barred);
		return;
	}
	request->out = 0;
	list_move_tail(&request->entry, &mirror->active);
	if (is_read(&request->treq))
		start_read(request);
	else if (request->treq.op == TD_OP_FLUSH)
		start_flush(request);
	else
		start_change(request);
}

static struct mirror_request *
take_request(struct replica *replica, const td_request_t *treq)
{
	struct mirror *mirror = &replica->mirror;
	struct mirror_request *request;

	if (list_empty(&mirror->free))
		return NULL;
	request = list_first_entry(&mirror->free, struct mirror_request, entry);
	request->treq = *treq;
	request->begun_ns = 0;
	request->offset = treq->sec << SECTOR_SHIFT;
	request->length = (uint64_t)treq->secs << SECTOR_SHIFT;
	if (treq->op == TD_OP_FLUSH) {
		request->offset = 0;
		request->length = 1; /* one message, no range */
	}
	INIT_LIST_HEAD(&request->unsent);
	request->marked = false;
	request->epoch = replica->epoch;
	request->sequence = 0;
	return request;
}

/* One that the log of intents could not hold at once goes in parts. */
static void
queue_in_parts(struct replica *replica, td_request_t treq)
{
	int most = (int)(tracker_max_length(&replica->tracker) >> SECTOR_SHIFT);
	int left = treq.secs;

	while (left > 0) {
		treq.secs = left < most ? left : most;
		left -= treq.secs;
		mirror_queue(replica, treq);
		treq.sec += (td_sector_t)treq.secs;
		if (treq.op == TD_OP_WRITE)
			treq.buf += (size_t)treq.secs << SECTOR_SHIFT;
	}
}

static bool
is_too_long(const struct replica *replica, const td_request_t *treq)
{
	return (treq->op == TD_OP_WRITE || treq->op == TD_OP_WRITE_ZEROES ||
		treq->op == TD_OP_DISCARD) &&
	       (uint64_t)treq->secs << SECTOR_SHIFT >
		       tracker_max_length(&replica->tracker);
}

void
mirror_queue(struct replica *replica, td_request_t treq)
{
	struct mirror *mirror = &replica->mirror;
	struct mirror_request *request;

	if (!(replica_serves(replica) || replica->state == REPLICA_LOST) ||
	    replica->handing_over) {
		td_complete_request(treq, -ESHUTDOWN);
		return;
	}
	if (treq.op == TD_OP_WRITE_ZEROES && (treq.flags & TD_REQUEST_FAST)) {
		td_complete_request(treq, -EOPNOTSUPP);
		return;
	}
	if (may_start(replica) && is_read(&treq) && !is_paced(replica, &treq)) {
		td_forward_request(treq);
		return;
	}
	if (is_too_long(replica, &treq)) {
		queue_in_parts(replica, treq);
		return;
	}
	request = take_request(replica, &treq);
	if (request == NULL) {
		td_complete_request(treq, -EBUSY);
		return;
	}
	if (may_start(replica))
		start(request);
	else
		list_move_tail(&request->entry, &mirror->held);
}

/* --- changes of the state --- */

static void
start_all(struct replica *replica, struct list_head *list)
{
	LIST_HEAD(due);

	list_splice_tail_init(list, &due);
	while (!list_empty(&due)) {
		struct mirror_request *request =
			list_first_entry(&due, struct mirror_request, entry);

		if (may_start(replica))
			start(request);
		else
			list_move_tail(&request->entry, &replica->mirror.held);
	}
}

void
mirror_release(struct replica *replica)
{
	start_all(replica, &replica->mirror.held);
}

void
mirror_unbar(struct replica *replica)
{
	start_all(replica, &replica->mirror.barred);
}

/* A request is the image's business alone from now on. */
static void
excuse(struct mirror_request *request)
{
	struct replica *replica = request->replica;

	list_del_init(&request->unsent);
	request->remote = MIRROR_NOT_NEEDED;
	if (mirror_changes(request)) {
		resync_note_write(replica, request->offset, request->length,
				  false);
		if (!request->local_done)
			replica->mirror.local_alone++;
	}
	mirror_try_end(request);
}

void
mirror_excuse(struct replica *replica)
{
	struct mirror_request *request, *spare;

	list_for_each_entry_safe (request, spare, &replica->mirror.active,
				  entry) {
		if (request->remote == MIRROR_UNPROVEN ||
		    request->remote == MIRROR_SENDING)
			excuse(request);
	}
}

void
mirror_resend(struct replica *replica)
{
	struct mirror_request *request, *spare;

	list_for_each_entry_safe (request, spare, &replica->mirror.active,
				  entry) {
		if (request->remote != MIRROR_UNPROVEN &&
		    request->remote != MIRROR_SENDING)
			continue;
		list_del_init(&request->unsent);
		if (replica_has_member(replica))
			start_remote(request);
		else
			excuse(request);
	}
}

void
mirror_fail_all(struct replica *replica, int error)
{
	struct mirror *mirror = &replica->mirror;
	struct mirror_request *request, *spare;

	list_for_each_entry (request, &mirror->marking, entry)
		tracker_cancel(&replica->tracker, &request->hold);
	list_splice_tail_init(&mirror->marking, &mirror->held);
	list_splice_tail_init(&mirror->barred, &mirror->held);
	list_for_each_entry_safe (request, spare, &mirror->held, entry)
		give_back(request, error);
	list_for_each_entry_safe (request, spare, &mirror->active, entry) {
		request->local_error = error;
		if (request->remote == MIRROR_UNPROVEN ||
		    request->remote == MIRROR_SENDING)
			excuse(request);
	}
}
