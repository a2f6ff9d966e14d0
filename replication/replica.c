/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica - opening and closing, the states, and the durable steps.
 *
 * Events only note what has happened.  What is to follow is decided in one
 * place, advance(), which runs from the loop while no step is under way (P1).
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/image.h"
#include "core/log.h"
#include "core/pool.h"
#include "replication/replica_private.h"

#define ACK_LIMIT_MS 30000
#define RETRY_MS     10000
#define WATCH_NS     (1 * NS_PER_S)

/* --- questions --- */

struct metadata_state *
replica_durable(const struct replica *replica)
{
	return metadata_state(replica->metadata);
}

bool
replica_is_primary(const struct replica *replica)
{
	switch (replica->state) {
	case REPLICA_WAITING:
	case REPLICA_SOLO:
	case REPLICA_RESYNC:
	case REPLICA_PAIRED:
	case REPLICA_LOST:
		return true;
	case REPLICA_SECONDARY:
	case REPLICA_TARGET:
	case REPLICA_SYNCED:
	case REPLICA_FAILED:
		break;
	}
	return false;
}

bool
replica_serves(const struct replica *replica)
{
	return replica->state == REPLICA_SOLO ||
	       replica->state == REPLICA_RESYNC ||
	       replica->state == REPLICA_PAIRED;
}

bool
replica_has_member(const struct replica *replica)
{
	return replica->state == REPLICA_PAIRED;
}

bool
replica_may_be_synced(const struct replica *replica)
{
	const struct metadata_state *durable = replica_durable(replica);

	for (int i = 0; i < METADATA_PEERS; i++) {
		if (durable->peer[i].may_be_synced)
			return true;
	}
	return false;
}

void
replica_clear_may_be_synced(struct replica *replica)
{
	struct metadata_state *durable = replica_durable(replica);

	for (int i = 0; i < METADATA_PEERS; i++)
		durable->peer[i].may_be_synced = false;
}

bool
replica_in_session(const struct replica *replica)
{
	enum link_state state = link_state(replica->link);

	return state == LINK_UP || state == LINK_BROKEN;
}

bool
replica_in_session_of(const struct replica *replica, uint64_t meeting)
{
	return replica_in_session(replica) && meeting == replica->meetings;
}

static bool
is_zero_id(const unsigned char *id)
{
	static const unsigned char zero[METADATA_ID];

	return memcmp(id, zero, METADATA_ID) == 0;
}

struct metadata_peer *
replica_find_peer(const struct replica *replica,
		  const unsigned char *replica_id)
{
	struct metadata_state *durable = replica_durable(replica);

	for (int i = 0; i < METADATA_PEERS; i++) {
		struct metadata_peer *row = &durable->peer[i];

		if (!is_zero_id(row->replica_id) &&
		    memcmp(row->replica_id, replica_id, METADATA_ID) == 0)
			return row;
	}
	return NULL;
}

struct metadata_peer *
replica_peer(struct replica *replica, const unsigned char *replica_id)
{
	struct metadata_state *durable = replica_durable(replica);
	struct metadata_peer *row = replica_find_peer(replica, replica_id);
	size_t place;

	if (row != NULL)
		return row;
	/* A free row, or that of the partner longest gone; never of one that
	 * may believe to be in sync, with which no other is met. */
	for (place = 0; place < METADATA_PEERS; place++) {
		if (is_zero_id(durable->peer[place].replica_id))
			break;
	}
	if (place == METADATA_PEERS) {
		for (place = 0; place < METADATA_PEERS; place++) {
			if (!durable->peer[place].may_be_synced)
				break;
		}
		assert(place < METADATA_PEERS);
		memmove(&durable->peer[place], &durable->peer[place + 1],
			(METADATA_PEERS - 1 - place) *
				sizeof(durable->peer[0]));
		place = METADATA_PEERS - 1;
	}
	row = &durable->peer[place];
	*row = (struct metadata_peer){ .incarnation = 0 };
	memcpy(row->replica_id, replica_id, METADATA_ID);
	return row;
}

uint64_t
replica_random(struct replica *replica)
{
	const struct link_options *link = &replica->options.link;
	uint64_t number = 0;

	if (link->random != NULL)
		return link->random(link->random_arg);
	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		abort(); /* ids that are not unique would be a lie */
	return number;
}

void
replica_new_timeline(struct replica *replica, uint32_t flags)
{
	struct metadata_state *durable = replica_durable(replica);

	durable->epoch++;
	durable->incarnation++;
	history_append(&durable->history, replica_random(replica),
		       durable->epoch, flags);
}

/* --- states --- */

const char *
replica_state_name(enum replica_state state)
{
	switch (state) {
	case REPLICA_WAITING:
		return "waiting";
	case REPLICA_SOLO:
		return "solo";
	case REPLICA_RESYNC:
		return "resync";
	case REPLICA_PAIRED:
		return "paired";
	case REPLICA_LOST:
		return "lost";
	case REPLICA_SECONDARY:
		return "secondary";
	case REPLICA_TARGET:
		return "target";
	case REPLICA_SYNCED:
		return "synced";
	case REPLICA_FAILED:
		return "failed";
	}
	return "?";
}

/* Whether guests may have the disk, as the state has it. */
static void
set_service(struct replica *replica)
{
	const char *why = replica->why.text;

	if (replica->opening &&
	    (replica_serves(replica) || replica->arbiter.sole)) {
		td_set_service(replica->driver, TD_SERVICE_HELD,
			       "it is being opened");
		return;
	}
	switch (replica->state) {
	case REPLICA_SOLO:
	case REPLICA_RESYNC:
	case REPLICA_PAIRED:
		if (replica->handing_over)
			break;
		td_set_service(replica->driver, TD_SERVICE_OPEN, "");
		return;
	case REPLICA_LOST:
		td_set_service(replica->driver, TD_SERVICE_HELD, why);
		return;
	case REPLICA_SECONDARY:
	case REPLICA_TARGET:
	case REPLICA_SYNCED:
		why = "this host is secondary and serves nobody: use the "
		      "primary, or promote this one if that is dead "
		      "(tap-ctl promote)";
		break;
	case REPLICA_WAITING:
	case REPLICA_FAILED:
		break;
	}
	if (replica->handing_over)
		why = "the disk is being handed over to the other host";
	td_set_service(replica->driver, TD_SERVICE_REFUSED, why);
}

void
replica_explain(struct replica *replica, const char *format, ...)
{
	struct reason why;
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why.text, sizeof(why.text), format, args);
	va_end(args);
	if (strcmp(why.text, replica->why.text) == 0)
		return;
	replica->why = why;
	if (why.text[0] != '\0')
		log_info("replica", "%s: %s",
			 replica_state_name(replica->state), why.text);
	set_service(replica);
}

void
replica_set_state(struct replica *replica, enum replica_state state,
		  const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(replica->why.text, sizeof(replica->why.text), format,
			args);
	va_end(args);
	if (replica->state != state)
		replica->since_ns = loop_now(replica->loop);
	replica->state = state;
	log_info("replica", "%s%s%s", replica_state_name(state),
		 replica->why.text[0] != '\0' ? ": " : "", replica->why.text);
	set_service(replica);
}

void
replica_set_handing_over(struct replica *replica, bool handing_over)
{
	replica->handing_over = handing_over;
	set_service(replica);
}

/* --- steps (P1) --- */

void
replica_poke(struct replica *replica)
{
	task_post(&replica->advance);
}

void
replica_fail(struct replica *replica, int error)
{
	if (replica->state == REPLICA_FAILED) {
		replica_poke(replica);
		return;
	}
	replica->opening = false;
	replica->stepping = false; /* what is under way is waited for no more */
	replica->after_step = NULL;
	log_error("replica", "the metadata cannot be written: %s",
		  strerror(-error));
	link_stop(replica->link);
	resync_end(replica);
	replica_set_state(replica, REPLICA_FAILED,
			  "its metadata cannot be written (%s): make room or "
			  "replace the disk they are on, and start it again",
			  strerror(-error));
	mirror_fail_all(replica, -EIO);
	apply_drop(replica);
	replica_poke(replica);
}

static void
on_committed(struct metadata_commit *commit, int error)
{
	struct replica *replica = container_of(commit, struct replica, commit);
	void (*after)(struct replica *) = replica->after_step;

	replica->stepping = false;
	replica->after_step = NULL;
	if (error < 0) {
		replica_fail(replica, error);
		return;
	}
	if (replica->state == REPLICA_FAILED)
		return;
	replica->epoch = replica_durable(replica)->epoch;
	if (after != NULL)
		after(replica);
	replica_poke(replica);
}

void
replica_step(struct replica *replica, void (*after)(struct replica *))
{
	assert(!replica->stepping);
	replica->stepping = true;
	replica->after_step = after;
	replica->changes++;
	replica->commit.on_done = on_committed;
	metadata_commit(replica->metadata, &replica->commit);
}

/* F2, F3: it is durably not consistent, so what failed may be told. */
static void
spoiled(struct replica *replica)
{
	replica->spoil = false;
	replica->copying = false;
	tracker_distrust(&replica->tracker);
	replica->settle = true;
	apply_spoiled(replica);
	/* A9: a source it is no more; a member has it all already. */
	if (replica_is_primary(replica) && !replica->in_sync)
		replica_break(replica, "a flush of this host's image failed "
				       "while it was being copied");
	if (replica_is_primary(replica))
		replica_explain(replica,
				"a flush of this host's image failed, so it "
				"is not consistent: hand over to the peer "
				"(tap-ctl demote) and replace its disk");
	else
		replica_explain(replica,
				"this host's image failed, so it is not "
				"consistent: replace its disk");
}

static void
spoil(struct replica *replica)
{
	if (!replica_durable(replica)->consistent) {
		spoiled(replica);
		return;
	}
	replica_durable(replica)->consistent = false;
	replica_step(replica, spoiled);
}

static void
on_advance(struct task *task)
{
	struct replica *replica = container_of(task, struct replica, advance);

	if (replica->left)
		replica_advance_end(replica);
	if (replica->stepping || replica->left)
		return;
	if (replica->state != REPLICA_FAILED) {
		if (replica->settle && !replica->opening)
			replica_settle(replica);
		if (!replica->stepping && replica->up_due)
			replica_advance_up(replica);
		if (!replica->stepping && replica->spoil)
			spoil(replica);
		if (!replica->stepping && replica->accepting != NULL)
			replica_advance_accept(replica);
		if (!replica->stepping && replica->state == REPLICA_LOST &&
		    replica->change == CHANGE_NONE)
			replica_go_solo(replica);
		if (!replica->stepping)
			replica_arbiter_advance(replica);
		if (!replica->stepping)
			resync_advance(replica);
		if (!replica->stepping)
			replica_advance_checkpoint(replica);
		verify_advance(replica);
		mirror_tell_proven(replica);
	}
	if (!replica->stepping)
		replica_advance_change(replica);
}

/* --- timers --- */

static void
on_retry(struct timer *timer)
{
	struct replica *replica = container_of(timer, struct replica, retry);

	if (replica_is_primary(replica))
		link_set_calling(replica->link, true);
}

/* A peer that answers and does not write would hold the guest for ever. */
static void
on_watch(struct timer *timer)
{
	struct replica *replica = container_of(timer, struct replica, watch);
	uint64_t now = loop_now(replica->loop);
	uint64_t oldest = mirror_oldest(replica);
	uint64_t limit = replica->options.ack_limit_ms * NS_PER_MS;

	timer_set(timer, WATCH_NS);
	if (replica->state == REPLICA_WAITING)
		replica_poke(replica); /* for an arbiter's word, in time */
	if (link_state(replica->link) != LINK_UP)
		return;
	if (resync_oldest(replica) < oldest)
		oldest = resync_oldest(replica);
	if (compare_oldest(replica) < oldest)
		oldest = compare_oldest(replica);
	if (oldest < replica->up_ns)
		oldest = replica->up_ns;
	if (now > oldest && now - oldest > limit)
		replica_break(replica,
			      "the peer answers but has not finished a write "
			      "for %u s: its disk hangs",
			      replica->options.ack_limit_ms / 1000);
}

bool
replica_pace_admits(struct replica *replica, unsigned int under_way)
{
	uint64_t now = loop_now(replica->loop);

	if (pace_admits(&replica->pace, under_way, now))
		return true;
	if (!timer_is_set(&replica->pace_timer))
		timer_set(&replica->pace_timer,
			  pace_next(&replica->pace, now) - now);
	return false;
}

static void
on_pace(struct timer *timer)
{
	struct replica *replica =
		container_of(timer, struct replica, pace_timer);

	resync_poke(replica);
	replica_poke(replica);
}

/* --- opening --- */

static void
make_id(struct replica *replica, unsigned char *ret_id)
{
	uint64_t half[METADATA_ID / sizeof(uint64_t)];

	for (size_t i = 0; i < METADATA_ID / sizeof(uint64_t); i++)
		half[i] = replica_random(replica);
	memcpy(ret_id, half, METADATA_ID);
}

/* A replica that never was one: the disk itself, or an empty copy (H1). */
static void
begin_new(struct replica *replica)
{
	const td_disk_info_t *info = &replica->io.image->info;
	struct metadata_state *durable = replica_durable(replica);

	make_id(replica, durable->replica_id);
	durable->role = replica->options.role;
	durable->size = info->size << SECTOR_SHIFT;
	durable->sector_size = (uint32_t)info->sector_size;
	if (replica->options.role != METADATA_PRIMARY)
		return;
	make_id(replica, durable->disk_id);
	durable->consistent = true;
	durable->active = true;
	durable->primary_last = true;
	replica_new_timeline(replica, 0);
}

static int
check_image(const struct replica *replica, struct reason *reason)
{
	const td_disk_info_t *info = &replica->io.image->info;
	const struct metadata_state *durable = replica_durable(replica);

	if (durable->sector_size != info->sector_size)
		return reason_set(reason, -EMEDIUMTYPE,
				  "the disk has sectors of %u bytes and the "
				  "image of %" PRIu64
				  ": is it the disk's image?",
				  durable->sector_size, info->sector_size);
	if (info->size << SECTOR_SHIFT < durable->size)
		return reason_set(reason, -EMEDIUMTYPE,
				  "the disk has %" PRIu64 " bytes and the "
				  "image %" PRIu64 ": is it the disk's image?",
				  durable->size,
				  (uint64_t)info->size << SECTOR_SHIFT);
	if (replica->options.role == METADATA_PRIMARY &&
	    durable->history.count == 0)
		return reason_set(reason, -ENODATA,
				  "this replica is a secondary that was never "
				  "copied to: start it with --role secondary, "
				  "or remove its metadata if its image is the "
				  "disk");
	return 0;
}

/* For sentences: whom it waits for. */
static const char *
peer_address(const struct replica *replica)
{
	const char *first = replica->options.link.peers[0];

	return first != NULL ? first : "its peer";
}

/* C2: who may serve at once, and who waits for whom. */
static void
set_first_primary(struct replica *replica, bool is_new)
{
	const struct metadata_state *durable = replica_durable(replica);
	const char *peer = peer_address(replica);

	if (replica_is_sole_author(replica)) {
		/* SOLO with the arbiter's word, before anybody sees it */
		replica->arbiter.sole = true;
		replica_set_state(replica, REPLICA_WAITING,
				  is_new ? "new: no peer yet"
					 : "no peer since it went on alone");
	} else if (durable->role != METADATA_PRIMARY)
		replica_set_state(replica, REPLICA_WAITING,
				  "it was secondary when it stopped: waiting "
				  "for %s, which may have gone on; if that is "
				  "dead, tap-ctl promote --alone",
				  peer);
	else if (!durable->consistent)
		replica_set_state(replica, REPLICA_WAITING,
				  "a flush failed here before, so it is not "
				  "consistent: promote %s, or this one with "
				  "tap-ctl promote --alone --force",
				  peer);
	else if (replica_may_be_synced(replica))
		replica_set_state(replica, REPLICA_WAITING,
				  "the peer may be in sync and may have gone "
				  "on: waiting for %s; if it is dead and was "
				  "not promoted, tap-ctl promote --alone",
				  peer);
	else
		replica_set_state(replica, REPLICA_WAITING,
				  "it had ended its part as primary: waiting "
				  "for %s; if that is dead, tap-ctl promote "
				  "--alone",
				  peer);
}

static void
set_first_state(struct replica *replica, bool is_new)
{
	const struct metadata_state *durable = replica_durable(replica);

	if (replica->options.role == METADATA_PRIMARY) {
		set_first_primary(replica, is_new);
		return;
	}
	replica_set_state(replica, REPLICA_SECONDARY, "%s",
			  durable->history.count == 0
				  ? "new and empty: waiting for the primary"
			  : !durable->consistent
				  ? "its copy is unfinished: waiting for the "
				    "primary"
				  : "waiting for the primary");
}

static void
opened(struct replica *replica)
{
	replica->opening = false;
	replica_arbiter_advance(replica);
	set_service(replica);
	if (replica_is_primary(replica))
		link_set_calling(replica->link, true);
	mirror_release(replica);
}

static int
open_link(struct replica *replica, struct reason *reason)
{
	replica->link = link_new(&replica->options.link, &replica_link_events,
				 replica, reason);
	if (replica->link == NULL)
		return -EINVAL;
	return link_start(replica->link, false, reason);
}

static int
open_parts(struct replica *replica)
{
	int r = digester_open(&replica->digester, replica->loop);

	if (r == 0)
		r = mirror_open(replica);
	if (r == 0)
		r = apply_open(replica);
	if (r == 0)
		r = resync_open(replica);
	if (r == 0)
		r = union_open(replica);
	if (r == 0)
		r = verify_open(replica);
	return r;
}

/* A change of role waits for it, whoever used the image last: us, or the
 * tracker. */
static void
on_image_idle(struct image_io *io)
{
	replica_poke(container_of(io, struct replica, io));
}

static void
init(struct replica *replica, td_driver_t *driver,
     const struct replica_options *options)
{
	replica->driver = driver;
	replica->loop = driver->image->stack->loop;
	replica->pool = td_pool(driver);
	replica->options = *options;
	replica->opening = true;
	replica->since_ns = loop_now(replica->loop);
	if (replica->options.ack_limit_ms == 0)
		replica->options.ack_limit_ms = ACK_LIMIT_MS;
	if (replica->options.retry_ms == 0)
		replica->options.retry_ms = RETRY_MS;
	image_io_init(&replica->io, replica->loop, td_image_below(driver));
	replica->io.on_idle = on_image_idle;
	INIT_LIST_HEAD(&replica->compares);
	task_init(&replica->advance, replica->loop, on_advance);
	timer_init(&replica->retry, replica->loop, on_retry);
	timer_init(&replica->watch, replica->loop, on_watch);
	timer_init(&replica->pace_timer, replica->loop, on_pace);
	pace_init(&replica->pace, options->resync_latency_ms * NS_PER_MS,
		  RESYNC_COPIES);
	replica_arbiter_init(replica);
	fork_init(replica);
	replica_change_init(replica);
}

struct replica *
replica_open(td_driver_t *driver, struct store *store,
	     const struct replica_options *options, int *ret_error,
	     struct reason *reason)
{
	struct replica *replica = calloc(1, sizeof(*replica));
	bool is_new = false;
	int r = -ENOMEM;

	if (replica == NULL) {
		store->ops->close(store);
		(void)arbiter_close(options->arbiter);
		goto failed;
	}
	init(replica, driver, options);
	replica->metadata =
		metadata_open(replica->loop, store, &is_new, reason);
	if (replica->metadata == NULL) {
		r = -EBADMSG;
		goto failed;
	}
	if (is_new)
		begin_new(replica);
	r = check_image(replica, reason);
	if (r == 0)
		r = replica_tracking_open(replica, is_new, reason);
	if (r == 0)
		r = open_parts(replica);
	if (r < 0)
		goto failed;
	driver->info.size = replica_durable(replica)->size >> SECTOR_SHIFT;
	driver->info.sector_size = replica_durable(replica)->sector_size;
	set_first_state(replica, is_new);
	r = open_link(replica, reason);
	if (r < 0)
		goto failed;
	set_service(replica);
	replica_durable(replica)->incarnation++;
	replica_tracking_start(replica, opened);
	timer_set(&replica->watch, WATCH_NS);
	return replica;

failed:
	replica_close(replica);
	*ret_error = r;
	return NULL;
}

const char *
replica_failure(const struct replica *replica)
{
	return replica->state == REPLICA_FAILED ? replica->why.text : NULL;
}

struct replica *
replica_close(struct replica *replica)
{
	if (replica == NULL)
		return NULL;
	if (replica->link != NULL)
		link_stop(replica->link);
	task_cancel(&replica->advance);
	timer_clear(&replica->retry);
	timer_clear(&replica->watch);
	timer_clear(&replica->pace_timer);
	replica_change_done(replica);
	fork_forget(replica);
	replica_arbiter_done(replica);
	mirror_close(replica);
	apply_close(replica);
	if (replica->metadata != NULL) {
		resync_close(replica);
		union_close(replica);
		metadata_close(replica->metadata);
		tracker_close(&replica->tracker);
	}
	verify_close(replica);
	digester_close(&replica->digester);
	link_free(replica->link);
	image_io_done(&replica->io);
	free(replica);
	return NULL;
}

void
replica_queue(struct replica *replica, td_request_t treq)
{
	mirror_queue(replica, treq);
}
