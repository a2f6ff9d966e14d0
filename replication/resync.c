/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * resync - a source's copying of what the target may lack, beside the guest's
 * writes, and the offer of membership at its end (M1).
 *
 * RS1 A copy of a range and a guest's write into it exclude each other (H7): a
 *     copy first bars new writes of its range, waits for those under way,
 *     reads, enters the stream, and only then lets writes go on.  So the copy
 *     lies before every later write in the stream.
 *     It ends with its session, and so does the bar: what is read still is not
 *     copied in the next one.  A copy has one stamp for all of its regions.
 * RS2 A region is unmarked when a copy claims it, and marked again when that
 *     copy, or a write sent after it, is not acknowledged.
 * RS3 What reads as zero is made zero on the target without being read here,
 *     if the image knows its holes: the scout asks for them ahead of the
 *     copies, and a region that is written to while it counts as zero no
 *     longer does.
 * RS4 With `digest` a region is compared before it is copied, under the same
 *     exclusion (compare.h); what the peer has already is not sent, but takes
 *     our stamp (M2): at a position in between it may have been another.
 * RS5 SYNCED is sent when nothing is marked or under way, and every write that
 *     ended before the peer was a member is acknowledged as done there.  Those
 *     that it acknowledged as received lie before SYNCED in the stream, which
 *     the target applies in order.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/image.h"
#include "core/log.h"
#include "core/pool.h"
#include "replication/replica_private.h"

#define PAUSE_NS (5 * NS_PER_S) /* after a read that failed */

static void pump(struct replica *replica);

/* --- the scout (RS3) --- */

static bool
scouted(const struct resync *resync, uint64_t offset)
{
	return !resync->asking && offset >= resync->scout_offset &&
	       offset - resync->scout_offset < resync->scout_length;
}

static bool
is_zero_region(const struct resync *resync, uint64_t offset)
{
	return scouted(resync, offset) &&
	       resync->zero[(offset - resync->scout_offset) / COPY_REGION] != 0;
}

/* The regions of the window that a range touches are not known to be zero. */
static void
scout_forget(struct resync *resync, uint64_t offset, uint64_t length)
{
	uint64_t begin = resync->scout_offset;
	uint64_t end = begin + resync->scout_length;
	uint64_t last = offset + length;

	if (last <= begin || offset >= end)
		return;
	if (offset < begin)
		offset = begin;
	if (last > end)
		last = end;
	for (uint64_t i = (offset - begin) / COPY_REGION;
	     i <= (last - 1 - begin) / COPY_REGION; i++)
		resync->zero[i] = 0;
}

static void
forget_writing(struct replica *replica, uint64_t offset, uint64_t length)
{
	scout_forget(&replica->resync, offset, length);
}

static void
on_scouted(struct image_op *op, int error)
{
	struct resync *resync = container_of(op, struct resync, ask);
	struct replica *replica = container_of(resync, struct replica, resync);
	struct td_extents *extents = resync->extents;
	uint64_t at = resync->scout_offset;
	uint64_t end = at + resync->scout_length;

	resync->asking = false;
	if (error < 0) {
		scout_forget(resync, at, end - at);
	} else {
		td_extents_settle(extents, at >> SECTOR_SHIFT,
				  (end - at) >> SECTOR_SHIFT);
		for (int i = 0; i < extents->count; i++) {
			const struct td_extent *extent = &extents->extent[i];
			uint64_t bytes = extent->secs << SECTOR_SHIFT;

			if (!(extent->flags & TD_EXTENT_ZERO))
				scout_forget(resync, at, bytes);
			at += bytes;
		}
		if (at < end)
			scout_forget(resync, at, end - at);
	}
	pump(replica);
	replica_poke(replica);
}

static void
scout(struct replica *replica, uint64_t offset)
{
	struct resync *resync = &replica->resync;
	uint64_t length;

	/* The window's parts are COPY_REGIONs of the disk: alike() counts on
	 * it. */
	offset -= offset % COPY_REGION;
	length = resync->map.size - offset;
	if (length > RESYNC_SCOUT_BYTES)
		length = RESYNC_SCOUT_BYTES;
	resync->scout_offset = offset;
	resync->scout_length = length;
	memset(resync->zero, 1, sizeof(resync->zero));
	mirror_each_writing(replica, forget_writing);
	resync->asking = true;
	resync->ask = (struct image_op){
		.op = TD_OP_BLOCK_STATUS,
		.offset = offset,
		.length = length,
		.buffer = resync->extents,
		.on_done = on_scouted,
	};
	image_io_start(&replica->io, &resync->ask);
}

/* --- a copy --- */

static void
copy_free(struct resync_copy *copy)
{
	uint64_t now = loop_now(copy->replica->loop);

	copy->state = COPY_FREE;
	pace_piece(&copy->replica->pace, now - copy->claimed_ns, now);
	replica_poke(copy->replica);
}

/* It did not get there: the region is to be copied (again). */
static void
copy_give_up(struct resync_copy *copy)
{
	copy_map_mark(&copy->replica->resync.map, copy->offset, copy->length);
	copy_free(copy);
	resync_poke(copy->replica);
}

static void
on_copy_ended(struct link_send *send, int status)
{
	struct resync_copy *copy = container_of(send, struct resync_copy, send);
	struct replica *replica = copy->replica;
	struct resync *resync = &replica->resync;

	if (status < 0) {
		if (status != -ENOTCONN)
			replica_break(replica,
				      "the peer's disk failed a copy of %llu "
				      "bytes at offset %llu: %s",
				      (unsigned long long)copy->length,
				      (unsigned long long)copy->offset,
				      strerror(-status));
		copy_give_up(copy);
		return;
	}
	resync->done_bytes += copy->length;
	if (send->type == WIRE_COPY_ZERO)
		resync->zeroed_bytes += copy->length;
	else
		resync->copied_bytes += copy->length;
	copy_free(copy);
	pump(replica);
}

static void
copy_send(struct resync_copy *copy, enum wire_type type)
{
	struct replica *replica = copy->replica;

	copy->state = COPY_SENT;
	copy->begun_ns = loop_now(replica->loop);
	copy->send = (struct link_send){
		.type = type,
		.epoch = tracker_stamp_of(&replica->tracker, copy->offset),
		.offset = copy->offset,
		.length = (uint32_t)copy->length,
		.payload = type == WIRE_COPY ? copy->buffer : NULL,
		.on_ended = on_copy_ended,
	};
	link_send(replica->link, &copy->send);
}

static bool
reads_as_zero(const unsigned char *bytes, uint64_t length)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

static void
read_failed(struct resync_copy *copy, int error)
{
	struct replica *replica = copy->replica;
	struct resync *resync = &replica->resync;

	(void)reason_set(&resync->trouble, error,
			 "%llu bytes at offset %llu of this host's image "
			 "cannot be read to copy them: %s",
			 (unsigned long long)copy->length,
			 (unsigned long long)copy->offset, strerror(-error));
	log_error("replica", "%s; trying again in %llu s", resync->trouble.text,
		  (unsigned long long)(PAUSE_NS / NS_PER_S));
	timer_set(&resync->pause, PAUSE_NS);
}

static void
on_copy_read(struct image_op *op, int error)
{
	struct resync_copy *copy = container_of(op, struct resync_copy, read);
	struct replica *replica = copy->replica;
	struct resync *resync = &replica->resync;

	/* Between two sessions no bar kept the guest out of what was read. */
	if (!resync->running || error < 0 ||
	    !replica_in_session_of(replica, copy->meeting)) {
		if (error < 0 && resync->running)
			read_failed(copy, error);
		copy_give_up(copy);
	} else {
		resync->trouble.text[0] = '\0';
		copy_send(copy, reads_as_zero(copy->buffer, copy->length)
					? WIRE_COPY_ZERO
					: WIRE_COPY);
	}
	mirror_unbar(replica);
}

/* RS1. */
static void
copy_try_read(struct resync_copy *copy)
{
	struct replica *replica = copy->replica;

	if (mirror_is_writing(replica, copy->offset, copy->length))
		return;
	copy->state = COPY_READING;
	copy->meeting = replica->meetings;
	copy->read = (struct image_op){
		.op = TD_OP_READ,
		.offset = copy->offset,
		.length = copy->length,
		.buffer = copy->buffer,
		.on_done = on_copy_read,
	};
	image_io_start(&replica->io, &copy->read);
}

/* A copy carries one stamp, and while its range was compared the guest may have
 * written into it (A10): the rest is for another. */
static void
keep_alike(struct resync_copy *copy)
{
	struct replica *replica = copy->replica;
	uint64_t kept =
		tracker_alike(&replica->tracker, copy->offset, copy->length);

	if (kept == copy->length)
		return;
	copy_map_mark(&replica->resync.map, copy->offset + kept,
		      copy->length - kept);
	copy->length = kept;
	resync_poke(replica);
}

/* RS4.  It may be that the peer cannot read what it is to be given. */
static void
on_compared(struct compare *compare, enum compare_result result, int error)
{
	struct resync_copy *copy =
		container_of(compare, struct resync_copy, compare);
	struct replica *replica = copy->replica;
	struct resync *resync = &replica->resync;

	switch (result) {
	case COMPARE_EQUAL:
		resync->done_bytes += copy->length;
		resync->equal_bytes += copy->length;
		copy_free(copy);
		pump(replica);
		return;
	case COMPARE_DIFFERENT:
	case COMPARE_REFUSED:
		if (!resync->running || !replica_in_session(replica))
			break;
		copy->state = COPY_BARRING;
		keep_alike(copy);
		copy_try_read(copy);
		return;
	case COMPARE_UNREADABLE:
		if (resync->running)
			read_failed(copy, error);
		break;
	case COMPARE_LOST:
		break;
	}
	copy_give_up(copy);
}

/* Bytes from `offset` on that are all known to be zero, or all not. */
static uint64_t
alike(const struct resync *resync, uint64_t offset, uint64_t max)
{
	bool zero = is_zero_region(resync, offset);
	uint64_t end = offset;

	while (end - offset < max && end < resync->map.size &&
	       scouted(resync, end) && is_zero_region(resync, end) == zero)
		end = (end / COPY_REGION + 1) * COPY_REGION;
	return end - offset < max ? end - offset : max;
}

static void
copy_begin(struct resync_copy *copy, uint64_t offset)
{
	struct replica *replica = copy->replica;
	struct resync *resync = &replica->resync;
	bool zero = is_zero_region(resync, offset);
	uint64_t max = zero ? RESYNC_ZERO_BYTES : RESYNC_COPY_BYTES;

	copy->claimed_ns = loop_now(replica->loop);
	max = alike(resync, offset, max);
	max = tracker_alike(&replica->tracker, offset, max);
	copy->offset = offset;
	copy->length = copy_map_run(&resync->map, offset, max);
	copy_map_clear(&resync->map, offset, copy->length);
	resync->cursor = offset + copy->length;
	if (zero) {
		copy_send(copy, WIRE_COPY_ZERO);
		return;
	}
	if (replica->options.digest && compare_is_possible(replica)) {
		copy->state = COPY_COMPARING;
		copy->compare.on_done = on_compared;
		copy->compare.stamp = true;
		compare_start(replica, &copy->compare, copy->offset,
			      copy->length, copy->buffer);
		return;
	}
	copy->state = COPY_BARRING;
	copy_try_read(copy);
}

/* The next marked region at or after the cursor, or from the beginning. */
static uint64_t
next_marked(const struct resync *resync)
{
	uint64_t next = resync->map.size;

	if (resync->cursor < resync->map.size)
		next = copy_map_next(&resync->map, resync->cursor);
	return next < resync->map.size ? next : copy_map_next(&resync->map, 0);
}

static unsigned int
under_way(const struct resync *resync)
{
	unsigned int count = 0;

	for (int i = 0; i < RESYNC_COPIES; i++)
		count += resync->copy[i].state != COPY_FREE;
	return count;
}

static void
pump(struct replica *replica)
{
	struct resync *resync = &replica->resync;

	if (!resync->running || resync->regions_due ||
	    timer_is_set(&resync->pause) || !replica_in_session(replica))
		return;
	for (int i = 0; i < RESYNC_COPIES; i++) {
		struct resync_copy *copy = &resync->copy[i];
		uint64_t offset;

		if (copy->state == COPY_BARRING)
			copy_try_read(copy);
		if (copy->state != COPY_FREE || resync->map.marked == 0 ||
		    !replica_pace_admits(replica, under_way(resync)))
			continue;
		offset = next_marked(resync);
		if (resync->asking)
			continue;
		if (!scouted(resync, offset)) {
			scout(replica, offset);
			continue;
		}
		copy_begin(copy, offset);
	}
}

static void
on_pump(struct task *task)
{
	struct replica *replica =
		container_of(task, struct replica, resync.pump);

	compare_poke(replica);
	pump(replica);
}

static void
on_pause_over(struct timer *timer)
{
	pump(container_of(timer, struct replica, resync.pause));
}

void
resync_poke(struct replica *replica)
{
	if (replica->resync.running)
		task_post(&replica->resync.pump);
}

/* --- guests' writes --- */

bool
resync_admits(const struct replica *replica, uint64_t offset, uint64_t length)
{
	const struct resync *resync = &replica->resync;

	if (!compare_admits(replica, offset, length))
		return false;
	if (!resync->running)
		return true;
	for (int i = 0; i < RESYNC_COPIES; i++) {
		const struct resync_copy *copy = &resync->copy[i];

		if ((copy->state == COPY_BARRING ||
		     copy->state == COPY_READING) &&
		    offset < copy->offset + copy->length &&
		    copy->offset < offset + length)
			return false;
	}
	return true;
}

void
resync_note_write(struct replica *replica, uint64_t offset, uint64_t length,
		  bool sent)
{
	struct resync *resync = &replica->resync;

	if (resync->scout_length > 0)
		scout_forget(resync, offset, length);
	if (!sent && resync->map_valid)
		copy_map_mark(&resync->map, offset, length);
	if (!sent)
		resync_poke(replica);
}

void
resync_repair(struct replica *replica, uint64_t offset, uint64_t length)
{
	log_warn("replica",
		 "a write of %llu bytes at offset %llu failed on this host; "
		 "the peer gets what can be read of them again",
		 (unsigned long long)length, (unsigned long long)offset);
	resync_note_write(replica, offset, length, false);
}

bool
resync_will_copy(const struct replica *replica, uint64_t offset,
		 uint64_t length)
{
	const struct resync *resync = &replica->resync;

	return resync->running && copy_map_covers(&resync->map, offset, length);
}

/* --- a session --- */

/* H8: whether what the target got before still counts. */
bool
resync_can_resume(const struct replica *replica)
{
	const struct resync *resync = &replica->resync;
	const struct wire_hello *peer = &replica->peer_hello;

	return resync->map_whole && (peer->flags & WIRE_COPYING) &&
	       peer->incarnation == resync->map_incarnation &&
	       memcmp(peer->replica_id, resync->map_peer, METADATA_ID) == 0;
}

static void
begin(struct replica *replica)
{
	struct resync *resync = &replica->resync;

	resync->scout_length = 0;
	resync->cursor = 0;
	resync->running = true;
	resync->total_bytes = copy_map_bytes(&resync->map);
	resync->done_bytes = 0;
	resync->begun_ns = loop_now(replica->loop);
	pace_begin(&replica->pace, resync->begun_ns);
	resync->trouble.text[0] = '\0';
	resync_poke(replica);
}

void
resync_begin(struct replica *replica)
{
	replica->resync.offered = false;
	begin(replica);
}

void
resync_begin_equal(struct replica *replica)
{
	copy_map_clear_all(&replica->resync.map);
	union_is_for(replica);
	replica->resync.map_whole = true;
	replica->resync.offered = true;
	replica->resync.regions_due = false;
	begin(replica);
}

void
resync_end(struct replica *replica)
{
	struct resync *resync = &replica->resync;

	resync->running = false;
	task_cancel(&resync->pump);
	timer_clear(&resync->pause);
	for (int i = 0; i < RESYNC_COPIES; i++) {
		if (resync->copy[i].state == COPY_BARRING)
			copy_give_up(&resync->copy[i]);
	}
	compare_end(replica);
	mirror_unbar(replica);
}

void
resync_forget(struct replica *replica)
{
	replica->resync.map_valid = false;
	replica->resync.map_whole = false;
}

bool
resync_is_idle(const struct replica *replica)
{
	const struct resync *resync = &replica->resync;

	if (resync->asking)
		return false;
	for (int i = 0; i < RESYNC_COPIES; i++) {
		if (resync->copy[i].state != COPY_FREE)
			return false;
	}
	return true;
}

bool
resync_is_complete(const struct replica *replica)
{
	return replica->resync.map.marked == 0 &&
	       !replica->resync.regions_due && resync_is_idle(replica);
}

uint64_t
resync_oldest(const struct replica *replica)
{
	uint64_t oldest = UINT64_MAX;

	for (int i = 0; i < RESYNC_COPIES; i++) {
		const struct resync_copy *copy = &replica->resync.copy[i];

		if (copy->state == COPY_SENT && copy->begun_ns < oldest)
			oldest = copy->begun_ns;
	}
	return oldest;
}

/* --- the offer (M1) --- */

static void
on_synced_ended(struct link_send *send, int status)
{
	struct resync *resync = container_of(send, struct resync, synced_send);
	struct replica *replica = container_of(resync, struct replica, resync);

	if (status == 0) {
		replica->in_sync = true;
		replica->checkpoint.member_epoch = send->epoch;
		log_info("replica", "the peer is in sync");
		replica_poke(replica);
	} else if (status != -ENOTCONN) {
		replica_break(replica,
			      "the peer could not take over the history of "
			      "what it was copied: %s",
			      strerror(-status));
	}
}

static void
send_synced(struct replica *replica)
{
	const struct metadata_state *durable = replica_durable(replica);
	struct resync *resync = &replica->resync;
	static struct wire_synced synced;
	size_t length;

	synced.epoch = durable->epoch;
	memcpy(synced.disk_id, durable->disk_id, METADATA_ID);
	synced.history = durable->history;
	synced.wide_epoch = durable->map.wide_epoch;
	synced.checkpoints = durable->checkpoints;
	memcpy(synced.checkpoint, durable->checkpoint,
	       sizeof(synced.checkpoint));
	length = wire_encode_synced(&synced, resync->synced_bytes);
	resync->offered = true;
	resync->synced_send = (struct link_send){
		.type = WIRE_SYNCED,
		.epoch = durable->epoch,
		.length = (uint32_t)length,
		.payload = resync->synced_bytes,
		.on_ended = on_synced_ended,
	};
	link_send(replica->link, &resync->synced_send);
}

/* The peer has what we have (M2, H6). */
static void
absolve(struct replica *replica)
{
	bool all = replica_durable(replica)->map.suspect_all;

	if (!tracker_has_suspects(&replica->tracker))
		return;
	tracker_absolve(&replica->tracker);
	if (all)
		replica_step(replica, NULL);
}

void
resync_advance(struct replica *replica)
{
	struct resync *resync = &replica->resync;

	if (!resync->running || !replica_in_session(replica) ||
	    !resync_is_complete(replica))
		return;
	/* What a failed flush made suspect is about what we have (F3). */
	if (replica->in_sync && replica_durable(replica)->consistent)
		absolve(replica);
	if (resync->offered)
		return;
	if (replica->state == REPLICA_RESYNC) {
		/* From now on W4 waits for the peer; then it may believe. */
		replica_set_state(replica, REPLICA_PAIRED,
				  "the copy is complete, the peer is about to "
				  "take over its history");
		replica_peer(replica, replica->peer_id)->may_be_synced = true;
		replica_step(replica, NULL);
		return;
	}
	if (replica->mirror.ahead_alone == 0 &&
	    replica->mirror.local_alone == 0 && replica_may_offer(replica))
		send_synced(replica); /* RS5 */
}

/* --- life --- */

int
resync_open(struct replica *replica)
{
	struct resync *resync = &replica->resync;

	task_init(&resync->pump, replica->loop, on_pump);
	timer_init(&resync->pause, replica->loop, on_pause_over);
	resync->extents = calloc(1, sizeof(*resync->extents));
	resync->synced_bytes = malloc(WIRE_SYNCED_MAX);
	if (resync->extents == NULL || resync->synced_bytes == NULL)
		return -ENOMEM;
	for (int i = 0; i < RESYNC_COPIES; i++) {
		struct resync_copy *copy = &resync->copy[i];

		copy->replica = replica;
		copy->buffer = pool_get(replica->pool, RESYNC_COPY_BYTES);
		if (copy->buffer == NULL)
			return -ENOMEM;
	}
	return copy_map_open(&resync->map, replica_durable(replica)->size,
			     1u << replica->tracker.map.shift);
}

int
resync_resize(struct replica *replica, uint64_t size)
{
	struct resync *resync = &replica->resync;

	if (size == resync->map.size)
		return 0;
	resync_forget(replica);
	copy_map_close(&resync->map);
	return copy_map_open(&resync->map, size,
			     1u << replica->tracker.map.shift);
}

void
resync_close(struct replica *replica)
{
	struct resync *resync = &replica->resync;

	if (resync->pump.loop != NULL) {
		task_cancel(&resync->pump);
		timer_clear(&resync->pause);
	}
	for (int i = 0; i < RESYNC_COPIES; i++)
		pool_put(replica->pool, resync->copy[i].buffer);
	copy_map_close(&resync->map);
	free(resync->extents);
	free(resync->synced_bytes);
}
