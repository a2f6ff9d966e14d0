/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica_union - what a resync copies (H6): the union, over both replicas, of
 * the regions stamped above the common position and of suspects.
 *
 * U1  Each side looks through its own map before the session stands, so what
 *     the session brings is not taken for what was before it.
 * U2  Both use resync.map: the source for what is to be copied, the target for
 *     what it is to name.
 * U3  A write while the source looks is marked by whoever makes it: a region is
 *     looked at before or after, and counts in either case.
 * U4  The map is whole, and a resync may go on with it (H8), only when both
 *     sides' parts are in it.
 * U5  What the target names may come before we have begun to copy (H10).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/pool.h"
#include "replication/replica_private.h"

/* --- looking through the map --- */

static uint64_t
size_of(const struct replica *replica)
{
	return replica->resync.map.size;
}

/* The next slice; true at the end. */
static bool
look(struct replica *replica)
{
	struct replica_union *part = &replica->part;
	uint64_t budget = TRACKER_REGIONS / 4, from = part->at;
	struct dirty_map_run run;

	while (part->at < size_of(replica)) {
		uint64_t end;

		if ((part->at - from) >> replica->tracker.map.shift >= budget)
			return false;
		tracker_next_doubtful(&replica->tracker, part->since, part->at,
				      budget, &run);
		end = run.offset + run.length;
		if (end > size_of(replica))
			end = size_of(replica);
		if (run.offset < end)
			copy_map_mark(&replica->resync.map, run.offset,
				      end - run.offset);
		part->at = run.next;
	}
	return true;
}

static void
on_scan(struct task *task)
{
	struct replica *replica = container_of(task, struct replica, part.scan);
	void (*then)(struct replica *) = replica->part.then;

	if (replica->state == REPLICA_FAILED)
		return;
	switch (replica->part.what) {
	case UNION_ALL:
		copy_map_mark_all(&replica->resync.map);
		break;
	case UNION_SUSPECTS:
	case UNION_SINCE:
		if (!look(replica)) {
			task_post(task);
			return;
		}
		break;
	case UNION_NOTHING:
		break;
	}
	replica->stepping = false;
	then(replica);
	replica_poke(replica);
}

void
union_is_for(struct replica *replica)
{
	struct resync *resync = &replica->resync;

	resync->map_valid = true;
	memcpy(resync->map_peer, replica->peer_hello.replica_id, METADATA_ID);
	resync->map_incarnation = replica->peer_hello.incarnation;
}

void
union_scan(struct replica *replica, enum union_part part, uint64_t since,
	   void (*then)(struct replica *))
{
	struct resync *resync = &replica->resync;

	replica->stepping = true;
	replica->part.what = part;
	replica->part.since = part == UNION_SUSPECTS ? UINT64_MAX : since;
	replica->part.at = 0;
	replica->part.then = then;
	if (part != UNION_SUSPECTS) {
		copy_map_clear_all(&resync->map);
		resync->map_whole = false;
	}
	union_is_for(replica);
	task_post(&replica->part.scan);
}

/* --- the target names its part --- */

static void
on_sent(struct link_send *send, int status)
{
	struct replica *replica = container_of(send, struct replica, part.send);

	(void)status; /* a source that refuses ends the session */
	replica->part.sending = false;
	if (status == 0 && !replica->part.sent)
		union_send(replica);
}

void
union_send(struct replica *replica)
{
	struct replica_union *part = &replica->part;
	const struct copy_map *map = &replica->resync.map;
	unsigned int count = 0;

	if (part->sending || !replica_in_session(replica))
		return;
	while (count < WIRE_REGIONS_MAX) {
		uint64_t offset = copy_map_next(map, part->send_at);

		part->send_at = map->size;
		if (offset >= map->size)
			break;
		part->regions[count].offset = offset;
		part->regions[count].length =
			copy_map_run(map, offset, UINT64_MAX);
		part->send_at = offset + part->regions[count++].length;
	}
	part->sent = part->send_at >= map->size;
	part->sending = true;
	part->send = (struct link_send){
		.type = WIRE_REGIONS,
		.epoch = replica->epoch,
		.length = (uint32_t)wire_encode_regions(
			part->regions, count, part->sent, part->bytes),
		.payload = part->bytes,
		.on_ended = on_sent,
	};
	link_send(replica->link, &part->send);
}

/* --- the source hears it --- */

static bool
mark(struct replica *replica, const struct wire_region *region)
{
	uint64_t size = size_of(replica);

	if (region->offset >= size || region->length > size - region->offset)
		return false;
	copy_map_mark(&replica->resync.map, region->offset, region->length);
	return true;
}

static int
take(struct replica *replica, const struct wire_header *header,
     const void *payload)
{
	struct resync *resync = &replica->resync;
	uint64_t before = copy_map_bytes(&resync->map);
	bool last = false;
	int count = wire_decode_regions(payload, header->length,
					replica->part.regions, &last);

	if (count < 0 || !resync->regions_due)
		return -EPROTO;
	for (int i = 0; i < count; i++) {
		if (!mark(replica, &replica->part.regions[i]))
			return -EPROTO;
	}
	resync->total_bytes += copy_map_bytes(&resync->map) - before;
	if (!last)
		return 0;
	resync->regions_due = false;
	resync->map_whole = true;
	log_info("replica", "copying %llu of %llu MiB to the peer",
		 (unsigned long long)(resync->total_bytes >> 20),
		 (unsigned long long)(resync->map.size >> 20));
	resync_poke(replica);
	replica_poke(replica);
	return 0;
}

void
union_message(struct replica *replica, const struct wire_header *header,
	      void *payload)
{
	int r = take(replica, header, payload);

	pool_put(replica->pool, payload);
	if (r < 0)
		replica_break(replica, "the peer named regions that this disk "
				       "has not, or out of turn");
	else
		link_acknowledge(replica->link, header->sequence,
				 WIRE_ACK_WRITTEN, 0);
}

/* --- life --- */

int
union_open(struct replica *replica)
{
	struct replica_union *part = &replica->part;

	task_init(&part->scan, replica->loop, on_scan);
	part->regions = calloc(WIRE_REGIONS_MAX, sizeof(*part->regions));
	part->bytes = malloc(WIRE_REGIONS_BYTES);
	return part->regions == NULL || part->bytes == NULL ? -ENOMEM : 0;
}

void
union_close(struct replica *replica)
{
	struct replica_union *part = &replica->part;

	if (part->scan.loop != NULL)
		task_cancel(&part->scan);
	free(part->regions);
	free(part->bytes);
}
