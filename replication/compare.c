/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * compare - see compare.h.
 */
#include "replication/compare.h"

#include <errno.h>

#include "replication/replica_private.h"

bool
compare_is_possible(const struct replica *replica)
{
	return replica->peer_hello.features_compatible & WIRE_FEATURE_VERIFY;
}

static void
done(struct compare *compare, enum compare_result result, int error)
{
	bool barred = compare->state != COMPARE_SENT;
	struct replica *replica = compare->replica;

	list_del(&compare->entry);
	compare->state = COMPARE_FREE;
	compare->on_done(compare, result, error);
	if (barred)
		mirror_unbar(replica);
	replica_poke(replica);
}

static void
on_answered(struct link_send *send, int status)
{
	struct compare *compare = container_of(send, struct compare, send);

	if (status == 0)
		done(compare, COMPARE_EQUAL, 0);
	else if (status == -EILSEQ)
		done(compare, COMPARE_DIFFERENT, 0);
	else if (status == -ENOTCONN)
		done(compare, COMPARE_LOST, 0);
	else
		done(compare, COMPARE_REFUSED, status);
}

static void
on_hashed(struct digest *digest)
{
	struct compare *compare = container_of(digest, struct compare, digest);
	struct replica *replica = compare->replica;

	if (!replica_in_session_of(replica, compare->meeting)) {
		done(compare, COMPARE_LOST, 0);
		return;
	}
	compare->state = COMPARE_SENT;
	compare->begun_ns = loop_now(replica->loop);
	compare->send = (struct link_send){
		.type = WIRE_VERIFY,
		.flags = compare->stamp ? WIRE_FLAG_STAMP : 0,
		.epoch = compare->stamp ? tracker_stamp_of(&replica->tracker,
							   compare->offset)
					: replica_durable(replica)->epoch,
		.offset = compare->offset,
		.length = (uint32_t)compare->length,
		.payload = compare->digest.value,
		.on_ended = on_answered,
	};
	link_send(replica->link, &compare->send);
	mirror_unbar(replica);
}

static void
on_read(struct image_op *op, int error)
{
	struct compare *compare = container_of(op, struct compare, read);

	if (error < 0) {
		done(compare, COMPARE_UNREADABLE, error);
		return;
	}
	compare->state = COMPARE_HASHING;
	compare->digest.on_done = on_hashed;
	digest_start(&compare->replica->digester, &compare->digest,
		     compare->buffer, compare->length);
}

/* CM1 */
static void
try_read(struct compare *compare)
{
	struct replica *replica = compare->replica;

	if (mirror_is_writing(replica, compare->offset, compare->length))
		return;
	compare->state = COMPARE_READING;
	compare->meeting = replica->meetings;
	compare->read = (struct image_op){
		.op = TD_OP_READ,
		.offset = compare->offset,
		.length = compare->length,
		.buffer = compare->buffer,
		.on_done = on_read,
	};
	image_io_start(&replica->io, &compare->read);
}

void
compare_start(struct replica *replica, struct compare *compare, uint64_t offset,
	      uint64_t length, void *buffer)
{
	compare->replica = replica;
	compare->offset = offset;
	compare->length = length;
	compare->buffer = buffer;
	compare->state = COMPARE_BARRING;
	list_add_tail(&compare->entry, &replica->compares);
	try_read(compare);
}

bool
compare_admits(const struct replica *replica, uint64_t offset, uint64_t length)
{
	const struct compare *compare;

	list_for_each_entry (compare, &replica->compares, entry) {
		if (compare->state != COMPARE_SENT &&
		    offset < compare->offset + compare->length &&
		    compare->offset < offset + length)
			return false;
	}
	return true;
}

void
compare_poke(struct replica *replica)
{
	struct compare *compare;

	list_for_each_entry (compare, &replica->compares, entry) {
		if (compare->state == COMPARE_BARRING)
			try_read(compare);
	}
}

void
compare_end(struct replica *replica)
{
	struct compare *compare, *spare;
	LIST_HEAD(over);

	list_for_each_entry_safe (compare, spare, &replica->compares, entry) {
		if (compare->state == COMPARE_BARRING)
			list_move_tail(&compare->entry, &over);
	}
	while (!list_empty(&over)) {
		compare = list_first_entry(&over, struct compare, entry);
		done(compare, COMPARE_LOST, 0);
	}
}

uint64_t
compare_oldest(const struct replica *replica)
{
	const struct compare *compare;
	uint64_t oldest = UINT64_MAX;

	list_for_each_entry (compare, &replica->compares, entry) {
		if (compare->state == COMPARE_SENT &&
		    compare->begun_ns < oldest)
			oldest = compare->begun_ns;
	}
	return oldest;
}
