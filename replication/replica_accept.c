/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica_accept - what a target becomes in one durable step: a copy of the
 * source (M2), or the primary in its place (M6).
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/log.h"
#include "replication/replica_private.h"

static bool
is_null_id(const unsigned char *id)
{
	static const unsigned char none[METADATA_ID];

	return memcmp(id, none, METADATA_ID) == 0;
}

static void
take_over(struct replica *replica)
{
	struct apply_slot *slot = replica->accepting;

	replica->accepting = NULL;
	replica->copying = false;
	apply_accepted(slot, 0);
	link_set_calling(replica->link, true);
	if (slot->meeting != replica->meetings) {
		/* Ours is the disk, and the peer is gone already. */
		replica_set_state(replica, REPLICA_LOST, "the peer is lost");
		return;
	}
	replica->in_sync = true;
	replica->arbiter.listed = true; /* M6 needs both to be */
	replica_set_state(replica, REPLICA_PAIRED, "%s", "");
	resync_begin_equal(replica);
	log_info("replica", "the peer handed the disk over: primary now");
}

/* E1 */
static void
cut(struct replica *replica)
{
	struct apply_slot *slot = replica->accepting;

	replica->accepting = NULL;
	apply_accepted(slot, 0);
}

static void
follow(struct replica *replica)
{
	struct apply_slot *slot = replica->accepting;

	replica->accepting = NULL;
	td_set_size(replica->driver,
		    replica_durable(replica)->size >> SECTOR_SHIFT);
	if (slot->meeting == replica->meetings) {
		replica_set_state(replica, REPLICA_SYNCED, "%s", "");
		log_info("replica", "in sync with the primary");
	}
	apply_accepted(slot, 0);
}

/* The stamps of what was copied are the source's already.  What we have of our
 * own beyond the common position is gone, and what counted for all regions with
 * it. */
static void
accept_map(struct replica *replica, const struct wire_synced *synced)
{
	struct metadata_state *durable = replica_durable(replica);
	struct metadata_map *map = &durable->map;
	uint64_t position = replica->decision.epoch;

	if (map->unknown_epoch > position)
		map->unknown_epoch = 0;
	if (map->wide_epoch > position)
		map->wide_epoch = position;
	if (map->wide_epoch < synced->wide_epoch)
		map->wide_epoch = synced->wide_epoch;
	durable->checkpoints = synced->checkpoints;
	memcpy(durable->checkpoint, synced->checkpoint,
	       sizeof(durable->checkpoint));
}

/* What the source has become, we are in one step. */
static void
accept_synced(struct replica *replica, const struct wire_synced *synced)
{
	struct metadata_state *durable = replica_durable(replica);

	durable->history = synced->history;
	durable->epoch = synced->epoch;
	memcpy(durable->disk_id, synced->disk_id, METADATA_ID);
	durable->size = replica->peer_hello.size;
	durable->consistent = true;
	durable->active = false;
	durable->outdated = false;
	durable->primary_last = false;
	if (durable->incarnation <= replica->remembered) /* H0 */
		durable->incarnation = replica->remembered + 1;
	accept_map(replica, synced);
	tracker_absolve(&replica->tracker);
	for (int i = 0; i < METADATA_PEERS; i++)
		durable->peer[i].may_be_synced = false;
}

static void
accept_handover(struct replica *replica)
{
	struct metadata_state *durable = replica_durable(replica);

	durable->active = true;
	durable->primary_last = true;
	durable->role = METADATA_PRIMARY;
	replica_peer(replica, replica->peer_id)->may_be_synced = true;
}

void
replica_accept(struct apply_slot *slot)
{
	struct replica *replica = slot->replica;

	assert(replica->accepting == NULL);
	replica->accepting = slot;
	replica_poke(replica);
}

void
replica_advance_accept(struct replica *replica)
{
	static struct wire_synced synced;
	struct apply_slot *slot = replica->accepting;
	int r = 0;

	if (slot->meeting != replica->meetings || replica->spoil) {
		r = -ECANCELED; /* H0: of another session, or not ours to keep
				 */
	} else if (slot->header.type == WIRE_CHECKPOINT) {
		r = replica_accept_checkpoint(replica, slot);
		if (r == 0) {
			replica_step(replica, cut);
			return;
		}
	} else if (slot->header.type == WIRE_HANDOVER) {
		accept_handover(replica);
		replica_step(replica, take_over);
		return;
	} else {
		r = wire_decode_synced(slot->payload, slot->header.length,
				       &synced);
	}
	if (r < 0) {
		replica->accepting = NULL;
		apply_accepted(slot, r);
		return;
	}
	if (r == 0 && (synced.history.count == 0 || is_null_id(synced.disk_id)))
		r = -EPROTO;
	if (r == 0)
		r = resync_resize(replica, replica->peer_hello.size);
	if (r < 0) {
		replica->accepting = NULL;
		apply_accepted(slot, r);
		return;
	}
	accept_synced(replica, &synced);
	replica_step(replica, follow);
}
