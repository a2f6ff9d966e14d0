/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * apply - a target's side of the stream: what the source sends is done to the
 * image below and acknowledged.
 *
 * AP1 Overlapping changes are applied in the order of the stream (W5); others
 *     in any order.
 * AP2 A flush, SYNCED and HANDOVER wait until all before them is applied; a
 *     flush does not wait for digests, which change nothing.
 * AP3 What was received is applied also when the session ends meanwhile, but
 *     acknowledged only in its own (H0).
 * AP4 A change or flush that fails is acknowledged as failed after this
 *     replica is durably not consistent (F2, F3).
 * AP5 A change touches the image when its extents are in the durable log (W1);
 *     its regions are stamped then, with the epoch that it carries (W2), or,
 *     those of a copy, when it is done (M2).  A write stays in the log until it
 *     is known to be done on the source, too (W3); for those there is a ring of
 *     fixed size, out of which the oldest falls as a suspect.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/pool.h"
#include "replication/replica_private.h"

static void start_flush(struct replica *replica);

static bool
is_barrier(const struct apply_slot *slot)
{
	switch (slot->header.type) {
	case WIRE_FLUSH:
	case WIRE_SYNCED:
	case WIRE_HANDOVER:
	case WIRE_CHECKPOINT:
		return true;
	default:
		return false;
	}
}

static bool
is_zero(const struct apply_slot *slot)
{
	return slot->header.type == WIRE_ZERO ||
	       slot->header.type == WIRE_COPY_ZERO;
}

static bool
overlap(const struct apply_slot *a, const struct apply_slot *b)
{
	return a->header.offset < b->header.offset + b->header.length &&
	       b->header.offset < a->header.offset + a->header.length;
}

static bool
is_verify(const struct apply_slot *slot)
{
	return slot->header.type == WIRE_VERIFY;
}

/* AP1, AP2.  What is written and only wants a flush is applied. */
static bool
may_start(const struct apply_slot *slot)
{
	const struct apply_slot *earlier;

	if (is_verify(slot) && !apply_verify_has_room(slot->replica))
		return false;
	list_for_each_entry (earlier, &slot->replica->apply.unfinished, entry) {
		if (earlier == slot)
			return true;
		if (earlier->state == APPLY_FLUSHING ||
		    (slot->header.type == WIRE_FLUSH && is_verify(earlier)))
			continue;
		if (earlier->header.type == WIRE_CHECKPOINT)
			return false; /* E1 */
		if (is_barrier(slot) ||
		    (!is_barrier(earlier) && overlap(earlier, slot)))
			return false;
	}
	return true;
}

/* --- the end of a message --- */

static void start(struct apply_slot *slot);

static void
start_waiting(struct replica *replica)
{
	struct apply_slot *slot, *spare;

	if (replica->apply.waiting == 0)
		return;
	list_for_each_entry_safe (slot, spare, &replica->apply.unfinished,
				  entry) {
		if (slot->state == APPLY_WAITING && may_start(slot)) {
			replica->apply.waiting--;
			start(slot);
		}
	}
}

static void
finish(struct apply_slot *slot, enum wire_ack_kind kind, int status)
{
	struct replica *replica = slot->replica;

	if (slot->meeting == replica->meetings)
		link_acknowledge(replica->link, slot->header.sequence, kind,
				 status);
	pool_put(replica->pool, slot->payload);
	slot->payload = NULL;
	list_move_tail(&slot->entry, &replica->apply.free);
	start_waiting(replica);
	replica_poke(replica);
}

/* --- what is proven (W3, M4) --- */

static void
drop_oldest(struct apply *apply)
{
	apply->unproven_first =
		(apply->unproven_first + 1) % apply->unproven_max;
	apply->unproven_count--;
}

static void
doubt_oldest(struct replica *replica)
{
	struct apply *apply = &replica->apply;
	const struct apply_unproven *oldest =
		&apply->unproven[apply->unproven_first];

	tracker_suspect(&replica->tracker, oldest->offset, oldest->length);
	tracker_release(&replica->tracker, oldest->offset, oldest->length);
	drop_oldest(apply);
}

/* What is done in [offset, offset + length) stays held, if it must. */
static void
keep_unproven(struct apply_slot *slot, uint64_t offset, uint64_t length)
{
	struct replica *replica = slot->replica;
	struct apply *apply = &replica->apply;
	unsigned int place;

	/* M4 was done when the session ended. */
	if (slot->meeting != replica->meetings ||
	    slot->header.sequence <= apply->proven) {
		tracker_release(&replica->tracker, offset, length);
		return;
	}
	if (apply->unproven_count == apply->unproven_max)
		doubt_oldest(replica);
	place = (apply->unproven_first + apply->unproven_count++) %
		apply->unproven_max;
	apply->unproven[place] = (struct apply_unproven){
		.offset = offset,
		.length = length,
		.sequence = slot->header.sequence,
	};
}

void
apply_proven(struct replica *replica, uint64_t sequence)
{
	struct apply *apply = &replica->apply;

	apply->proven = sequence;
	while (apply->unproven_count > 0) {
		const struct apply_unproven *oldest =
			&apply->unproven[apply->unproven_first];

		if (oldest->sequence > sequence)
			break;
		tracker_release(&replica->tracker, oldest->offset,
				oldest->length);
		drop_oldest(apply);
	}
}

static bool
is_guests(const struct apply_slot *slot)
{
	return slot->header.type == WIRE_WRITE ||
	       slot->header.type == WIRE_ZERO;
}

void
apply_doubt(struct replica *replica)
{
	struct apply *apply = &replica->apply;
	const struct apply_slot *slot;

	while (apply->unproven_count > 0)
		doubt_oldest(replica);
	list_for_each_entry (slot, &apply->unfinished, entry) {
		if (is_guests(slot))
			tracker_suspect(&replica->tracker, slot->header.offset,
					slot->header.length);
	}
	apply->proven = 0;
}

void
apply_drop(struct replica *replica)
{
	struct apply *apply = &replica->apply;
	struct apply_slot *slot, *spare;

	list_for_each_entry_safe (slot, spare, &apply->unfinished, entry) {
		if (slot->state != APPLY_WAITING &&
		    slot->state != APPLY_MARKING)
			continue;
		if (slot->state == APPLY_MARKING)
			tracker_cancel(&replica->tracker, &slot->hold);
		else
			apply->waiting--;
		pool_put(replica->pool, slot->payload);
		slot->payload = NULL;
		list_move_tail(&slot->entry, &apply->free);
	}
}

/* AP4: the acknowledgement waits for the step. */
static void
fail(struct apply_slot *slot, int error)
{
	struct replica *replica = slot->replica;

	log_error("replica",
		  "the copy of the disk on this host failed: %s of %u bytes at "
		  "offset %llu: %s; it is not consistent from now on",
		  wire_type_name(slot->header.type), slot->header.length,
		  (unsigned long long)slot->header.offset, strerror(-error));
	slot->state = APPLY_FAILED;
	slot->error = error;
	replica->spoil = true;
	replica->copying = false;
	replica_poke(replica);
}

void
apply_spoiled(struct replica *replica)
{
	struct apply_slot *slot, *spare;

	list_for_each_entry_safe (slot, spare, &replica->apply.unfinished,
				  entry) {
		if (slot->state == APPLY_FAILED)
			finish(slot, WIRE_ACK_WRITTEN, slot->error);
	}
}

/* --- flushes --- */

static void
on_flushed(struct image_op *op, int error)
{
	struct apply *apply = container_of(op, struct apply, flush);
	struct replica *replica = container_of(apply, struct replica, apply);
	LIST_HEAD(done);

	apply->flush_running = false;
	list_splice_tail_init(&apply->flushing, &done);
	while (!list_empty(&done)) {
		struct apply_slot *slot =
			list_first_entry(&done, struct apply_slot, flush);

		list_del_init(&slot->flush);
		if (error < 0)
			fail(slot, error);
		else if (slot->header.type == WIRE_SYNCED ||
			 slot->header.type == WIRE_HANDOVER)
			replica_accept(slot);
		else
			finish(slot, WIRE_ACK_DURABLE, 0);
	}
	start_flush(replica);
	replica_poke(replica);
}

/* One flush covers all that was written before it began. */
static void
start_flush(struct replica *replica)
{
	struct apply *apply = &replica->apply;

	if (apply->flush_running || list_empty(&apply->written))
		return;
	list_splice_tail_init(&apply->written, &apply->flushing);
	apply->flush_running = true;
	apply->flush =
		(struct image_op){ .op = TD_OP_FLUSH, .on_done = on_flushed };
	image_io_start(&replica->io, &apply->flush);
}

static void
want_flush(struct apply_slot *slot)
{
	list_add_tail(&slot->flush, &slot->replica->apply.written);
	start_flush(slot->replica);
}

/* --- changes --- */

static void mark(struct apply_slot *slot);

/* The range that was held is done. */
static void
note_done(struct apply_slot *slot, int error)
{
	struct replica *replica = slot->replica;
	uint64_t offset = slot->hold.offset, length = slot->hold.length;

	if (error == 0 && is_guests(slot)) {
		keep_unproven(slot, offset, length);
		return;
	}
	if (error == 0)
		tracker_copied(&replica->tracker, offset, length,
			       slot->header.epoch);
	else
		tracker_suspect(&replica->tracker, offset, length);
	tracker_release(&replica->tracker, offset, length);
}

static void
on_applied(struct image_op *op, int error)
{
	struct apply_slot *slot = container_of(op, struct apply_slot, op);
	struct apply *apply = &slot->replica->apply;

	note_done(slot, error);
	if (error < 0) {
		fail(slot, error);
		return;
	}
	slot->done += slot->hold.length;
	if (slot->done < slot->header.length) {
		mark(slot);
		return;
	}
	if (slot->header.type == WIRE_COPY)
		apply->copied_bytes += slot->header.length;
	else if (slot->header.type == WIRE_COPY_ZERO)
		apply->zeroed_bytes += slot->header.length;
	if (slot->header.flags & WIRE_FLAG_DURABLE) {
		slot->state = APPLY_FLUSHING;
		want_flush(slot);
		start_waiting(slot->replica);
		return;
	}
	finish(slot, WIRE_ACK_WRITTEN, 0);
}

static void
on_marked(struct tracker_hold *hold)
{
	struct apply_slot *slot = container_of(hold, struct apply_slot, hold);
	struct replica *replica = slot->replica;

	slot->state = APPLY_RUNNING;
	if (is_guests(slot))
		tracker_stamp(&replica->tracker, hold->offset, hold->length,
			      slot->header.epoch);
	slot->op = (struct image_op){
		.op = is_zero(slot) ? TD_OP_WRITE_ZEROES : TD_OP_WRITE,
		.offset = hold->offset,
		.length = hold->length,
		.buffer = slot->payload == NULL
				  ? NULL
				  : (char *)slot->payload + slot->done,
		.on_done = on_applied,
	};
	image_io_start(&replica->io, &slot->op);
}

/* W1, for as much as the log can hold at once. */
static void
mark(struct apply_slot *slot)
{
	struct tracker *tracker = &slot->replica->tracker;
	uint64_t length = slot->header.length - slot->done;

	if (length > tracker_max_length(tracker))
		length = tracker_max_length(tracker);
	slot->state = APPLY_MARKING;
	slot->hold = (struct tracker_hold){
		.offset = slot->header.offset + slot->done,
		.length = length,
		.on_held = on_marked,
	};
	if (tracker_hold(tracker, &slot->hold))
		on_marked(&slot->hold);
}

static void
start(struct apply_slot *slot)
{
	slot->state = APPLY_RUNNING;
	if (slot->header.type == WIRE_CHECKPOINT)
		replica_accept(slot);
	else if (is_barrier(slot))
		want_flush(slot);
	else if (is_verify(slot))
		apply_verify_start(slot);
	else
		mark(slot);
}

/* --- messages --- */

/* A change is made in some epoch; what was never changed is copied, too.  They
 * are far from wrapping round. */
static bool
is_epoch(const struct wire_header *header)
{
	bool changes = header->type == WIRE_WRITE || header->type == WIRE_ZERO;

	return header->epoch < UINT64_MAX / 2 &&
	       (!changes || header->epoch > 0);
}

/* What the peer may say now, and of which range. */
static bool
check(struct replica *replica, const struct wire_header *header)
{
	const struct metadata_state *durable = replica_durable(replica);
	uint64_t size = replica->peer_hello.size;

	switch (header->type) {
	case WIRE_FLUSH:
	case WIRE_SYNCED:
	case WIRE_CHECKPOINT:
		break;
	case WIRE_HANDOVER:
		if (replica->state != REPLICA_SYNCED)
			goto out_of_turn;
		break;
	case WIRE_WRITE:
	case WIRE_ZERO:
	case WIRE_COPY:
	case WIRE_COPY_ZERO:
	case WIRE_VERIFY:
		if (header->length > 0 && header->offset < size &&
		    is_epoch(header) &&
		    header->length <= size - header->offset &&
		    header->offset % durable->sector_size == 0 &&
		    header->length % durable->sector_size == 0)
			break;
		replica_break(replica,
			      "the peer sent a %s of %u bytes at offset %llu, "
			      "which this disk of %llu bytes has not, or in an "
			      "impossible epoch",
			      wire_type_name(header->type), header->length,
			      (unsigned long long)header->offset,
			      (unsigned long long)size);
		return false;
	default:
		goto out_of_turn;
	}
	if (replica->state == REPLICA_TARGET ||
	    replica->state == REPLICA_SYNCED)
		return true;
out_of_turn:
	replica_break(replica, "the peer sent a %s while this replica is %s",
		      wire_type_name(header->type),
		      replica_state_name(replica->state));
	return false;
}

void
apply_message(struct replica *replica, const struct wire_header *header,
	      void *payload)
{
	struct apply *apply = &replica->apply;
	struct apply_slot *slot;

	if (apply->deaf || replica->state == REPLICA_FAILED ||
	    !check(replica, header)) {
		pool_put(replica->pool, payload);
		return;
	}
	if (list_empty(&apply->free)) {
		replica_break(replica,
			      "the peer sent more than %d messages "
			      "without an acknowledgement",
			      APPLY_SLOTS);
		pool_put(replica->pool, payload);
		return;
	}
	slot = list_first_entry(&apply->free, struct apply_slot, entry);
	slot->header = *header;
	slot->payload = payload;
	slot->meeting = replica->meetings;
	slot->done = 0;
	slot->state = APPLY_WAITING;
	list_move_tail(&slot->entry, &apply->unfinished);
	if (header->flags & WIRE_FLAG_RECEIVED)
		link_acknowledge(replica->link, header->sequence,
				 WIRE_ACK_RECEIVED, 0);
	if (may_start(slot))
		start(slot);
	else
		apply->waiting++;
}

void
apply_accepted(struct apply_slot *slot, int status)
{
	finish(slot, WIRE_ACK_DURABLE, status);
}

static void
on_stamp_held(struct tracker_hold *hold)
{
	struct apply_slot *slot = container_of(hold, struct apply_slot, hold);

	note_done(slot, 0);
	finish(slot, WIRE_ACK_WRITTEN, 0);
}

/* A digest that stands for a copy: equal, and still a change of the stamp. */
static void
take_stamp(struct apply_slot *slot)
{
	slot->state = APPLY_MARKING;
	slot->hold = (struct tracker_hold){
		.offset = slot->header.offset,
		.length = slot->header.length,
		.on_held = on_stamp_held,
	};
	if (tracker_hold(&slot->replica->tracker, &slot->hold))
		on_stamp_held(&slot->hold);
}

void
apply_verified(struct apply_slot *slot, int status)
{
	if (status == 0 && (slot->header.flags & WIRE_FLAG_STAMP))
		take_stamp(slot);
	else
		finish(slot, WIRE_ACK_WRITTEN, status);
}

bool
apply_is_idle(const struct replica *replica)
{
	return list_empty(&replica->apply.unfinished) &&
	       !replica->apply.flush_running;
}

/* --- life --- */

int
apply_open(struct replica *replica)
{
	struct apply *apply = &replica->apply;

	INIT_LIST_HEAD(&apply->free);
	INIT_LIST_HEAD(&apply->unfinished);
	INIT_LIST_HEAD(&apply->written);
	INIT_LIST_HEAD(&apply->flushing);
	if (apply_verify_open(replica) < 0)
		return -ENOMEM;
	apply->slots = calloc(APPLY_SLOTS, sizeof(*apply->slots));
	/* What is unproven must leave room for what comes. */
	apply->unproven_max = replica->tracker.intent.capacity / 4;
	if (apply->unproven_max > APPLY_UNPROVEN_MAX)
		apply->unproven_max = APPLY_UNPROVEN_MAX;
	apply->unproven = calloc(apply->unproven_max, sizeof(*apply->unproven));
	if (apply->slots == NULL || apply->unproven == NULL)
		return -ENOMEM;
	for (unsigned int i = 0; i < APPLY_SLOTS; i++) {
		apply->slots[i].replica = replica;
		INIT_LIST_HEAD(&apply->slots[i].flush);
		list_add_tail(&apply->slots[i].entry, &apply->free);
	}
	return 0;
}

void
apply_close(struct replica *replica)
{
	struct apply *apply = &replica->apply;

	assert(apply->slots == NULL || apply_is_idle(replica));
	apply_verify_close(replica);
	free(apply->slots);
	free(apply->unproven);
	apply->slots = NULL;
}
