/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * apply_verify - a target's answer to a digest: whether its own bytes of the
 * range have the same one.
 *
 * A verify takes its place in the order of the stream as a write of its range
 * would (AP1), and changes nothing; only APPLY_DIGESTS are read and hashed at
 * once, the others wait.  An image that cannot be read is not our failure to
 * apply (F2): the source is told the errno.
 */
#include <errno.h>
#include <string.h>

#include "core/pool.h"
#include "replication/replica_private.h"

bool
apply_verify_has_room(const struct replica *replica)
{
	for (int i = 0; i < APPLY_DIGESTS; i++) {
		if (replica->apply.digests[i].slot == NULL)
			return true;
	}
	return false;
}

static void
answer(struct apply_digest *digest, int status)
{
	struct apply_slot *slot = digest->slot;

	digest->slot = NULL;
	apply_verified(slot, status);
}

static void
on_hashed(struct digest *job)
{
	struct apply_digest *digest =
		container_of(job, struct apply_digest, digest);

	answer(digest,
	       memcmp(job->value, digest->slot->payload, WIRE_DIGEST) == 0
		       ? 0
		       : -EILSEQ);
}

static void
on_read(struct image_op *op, int error)
{
	struct apply_slot *slot = container_of(op, struct apply_slot, op);
	struct replica *replica = slot->replica;
	struct apply_digest *digest = replica->apply.digests;

	while (digest->slot != slot)
		digest++;
	if (error < 0) {
		answer(digest, error);
		return;
	}
	digest->digest.on_done = on_hashed;
	digest_start(&replica->digester, &digest->digest, digest->buffer,
		     slot->header.length);
}

void
apply_verify_start(struct apply_slot *slot)
{
	struct replica *replica = slot->replica;
	struct apply_digest *digest = replica->apply.digests;

	while (digest->slot != NULL)
		digest++;
	digest->slot = slot;
	slot->op = (struct image_op){
		.op = TD_OP_READ,
		.offset = slot->header.offset,
		.length = slot->header.length,
		.buffer = digest->buffer,
		.on_done = on_read,
	};
	image_io_start(&replica->io, &slot->op);
}

int
apply_verify_open(struct replica *replica)
{
	for (int i = 0; i < APPLY_DIGESTS; i++) {
		struct apply_digest *digest = &replica->apply.digests[i];

		digest->buffer = pool_get(replica->pool, WIRE_VERIFY_MAX);
		if (digest->buffer == NULL)
			return -ENOMEM;
	}
	return 0;
}

void
apply_verify_close(struct replica *replica)
{
	for (int i = 0; i < APPLY_DIGESTS; i++)
		pool_put(replica->pool, replica->apply.digests[i].buffer);
}
