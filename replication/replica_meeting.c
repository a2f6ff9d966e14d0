/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica_meeting - what the link tells of: hellos, meetings, the session that
 * stands, and its end.
 *
 *            we are the source                we are the target
 *   on_meet  decide; step; link_begin         decide; wait
 *   on_begin                                  step (not consistent); accept
 *   on_up    step (active, R1); serve, copy   apply what comes
 *   on_lost  LOST -> M3, or as before         SECONDARY
 *
 * What was said in the hello must hold until the meeting has ended (H0): while
 * anything is under way that it does not tell of, a meeting is refused, and
 * tried again soon.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/pool.h"
#include "replication/replica_private.h"

static const unsigned char no_id[METADATA_ID];

#define GREETED_BUSY UINT64_MAX /* no number of changes */

static bool
same_id(const unsigned char *a, const unsigned char *b)
{
	return memcmp(a, b, METADATA_ID) == 0;
}

static bool
is_null_id(const unsigned char *id)
{
	return same_id(id, no_id);
}

/* Wait a while before the next attempt. */
static void
back_off(struct replica *replica)
{
	link_set_calling(replica->link, false);
	timer_set(&replica->retry, replica->options.retry_ms * NS_PER_MS);
}

void
replica_break(struct replica *replica, const char *format, ...)
{
	struct reason reason;
	va_list args;

	va_start(args, format);
	(void)vsnprintf(reason.text, sizeof(reason.text), format, args);
	va_end(args);
	if (!replica_in_session(replica) || replica->broken)
		return;
	replica->broken = true;
	link_drop(replica->link, &reason);
	back_off(replica);
}

/* --- hello --- */

static uint64_t
on_greet(struct link *link, struct wire_hello *ret_hello)
{
	struct replica *replica = link_owner(link);
	const struct metadata_state *durable = replica_durable(replica);

	/* What was asked for counts, not what was recorded. */
	ret_hello->role =
		replica_is_primary(replica) ? WIRE_PRIMARY : WIRE_SECONDARY;
	ret_hello->flags = (durable->active ? WIRE_ACTIVE : 0) |
			   (durable->consistent ? WIRE_CONSISTENT : 0) |
			   (durable->outdated ? WIRE_OUTDATED : 0) |
			   (replica->copying ? WIRE_COPYING : 0) |
			   (replica->discard ? WIRE_DISCARD : 0) |
			   (replica->discard_peer ? WIRE_DISCARD_PEER : 0);
	fork_say(replica, &ret_hello->fork);
	/* H2: the configured source is who was started as primary. */
	if (replica_is_primary(replica))
		ret_hello->flags |= WIRE_PRIMARY_LAST;
	memcpy(ret_hello->disk_id, durable->disk_id, METADATA_ID);
	memcpy(ret_hello->replica_id, durable->replica_id, METADATA_ID);
	ret_hello->size = durable->size;
	ret_hello->sector_size = durable->sector_size;
	rollback_greet(replica, ret_hello);
	ret_hello->epoch = durable->epoch;
	ret_hello->history = durable->history;
	/* H0: what is under way ends first, and nothing counts as told. */
	if (replica->stepping || replica->opening || replica->settle ||
	    !apply_is_idle(replica))
		return GREETED_BUSY;
	return replica->changes;
}

/* --- a meeting --- */

static struct meeting_side
side_of(const struct replica *replica, const struct wire_hello *hello)
{
	return (struct meeting_side){
		.history = &hello->history,
		.epoch = hello->epoch,
		.active = hello->flags & WIRE_ACTIVE,
		.consistent = hello->flags & WIRE_CONSISTENT,
		.primary_last = hello->flags & WIRE_PRIMARY_LAST,
		.discard =
			(hello->flags & WIRE_DISCARD) || replica->discard_peer,
	};
}

static struct meeting_side
our_side(const struct replica *replica, const struct wire_hello *peer)
{
	const struct metadata_state *durable = replica_durable(replica);

	return (struct meeting_side){
		.history = &durable->history,
		.epoch = durable->epoch,
		.active = durable->active,
		.consistent = durable->consistent,
		.primary_last = replica_is_primary(replica),
		.discard =
			replica->discard || (peer->flags & WIRE_DISCARD_PEER),
	};
}

static bool
we_are_source(const struct meeting *meeting)
{
	return meeting->outcome == MEETING_WE_SOURCE ||
	       meeting->outcome == MEETING_EQUAL_WE_SOURCE;
}

static bool
is_equal(const struct meeting *meeting)
{
	return meeting->outcome == MEETING_EQUAL_WE_SOURCE ||
	       meeting->outcome == MEETING_EQUAL_PEER_SOURCE;
}

/* Whether the two can be partners at all. */
static int
check_partner(const struct replica *replica, const struct wire_hello *peer,
	      struct reason *reason)
{
	const struct metadata_state *durable = replica_durable(replica);

	if (!is_null_id(durable->disk_id) && !is_null_id(peer->disk_id) &&
	    !same_id(durable->disk_id, peer->disk_id))
		return reason_set(reason, -EMEDIUMTYPE,
				  "the two are replicas of different disks: "
				  "check the addresses, or remove the metadata "
				  "of the one that is to become a copy");
	if (same_id(durable->replica_id, peer->replica_id))
		return reason_set(reason, -EMEDIUMTYPE,
				  "both have the identity of one replica: the "
				  "metadata of one were copied to the other, "
				  "remove those of the one that is to become a "
				  "copy");
	if (durable->sector_size != peer->sector_size)
		return reason_set(reason, -EMEDIUMTYPE,
				  "one has sectors of %u bytes and the other "
				  "of %u: give both images the same",
				  durable->sector_size, peer->sector_size);
	return 0;
}

/* Whether one of them serves and the other is to be a copy. */
static int
check_roles(const struct replica *replica, const struct wire_hello *peer,
	    struct reason *reason)
{
	if (replica_is_primary(replica) == (peer->role == WIRE_PRIMARY))
		return reason_set(
			reason, -EEXIST,
			replica_is_primary(replica)
				? "both were started as primary: stop the one "
				  "whose changes are to go and start it with "
				  "--role secondary"
				: "both are secondary: promote the one that "
				  "is to serve (tap-ctl promote)");
	return 0;
}

/* A member that is elsewhere may believe to be in sync (M1). */
static int
check_third(const struct replica *replica, const struct wire_hello *peer,
	    struct reason *reason)
{
	const struct metadata_state *durable = replica_durable(replica);

	for (int i = 0; i < METADATA_PEERS; i++) {
		const struct metadata_peer *row = &durable->peer[i];

		if (row->may_be_synced &&
		    !same_id(row->replica_id, peer->replica_id))
			return reason_set(
				reason, -EEXIST,
				"this disk had another partner, which "
				"may be in sync: bring that one "
				"back, or part from it with tap-ctl "
				"promote --alone on the primary");
	}
	return 0;
}

static int
check_sizes(const struct replica *replica, const struct wire_hello *peer,
	    const struct meeting *meeting, struct reason *reason)
{
	uint64_t ours = replica_durable(replica)->size;
	uint64_t source = we_are_source(meeting) ? ours : peer->size;
	uint64_t target = we_are_source(meeting) ? peer->size : ours;
	const struct history *history =
		we_are_source(meeting) ? &peer->history
				       : &replica_durable(replica)->history;

	if (target == source || (history->count == 0 && target > source))
		return 0;
	return reason_set(reason, -EMEDIUMTYPE,
			  "the disk has %" PRIu64 " bytes and the copy's image "
			  "%" PRIu64 ": make it %s",
			  source, target,
			  history->count == 0 ? "as large as the disk"
					      : "of the same size");
}

static int
check_source(const struct replica *replica, const struct meeting *meeting,
	     struct reason *reason)
{
	if (we_are_source(meeting) != replica_is_primary(replica))
		return reason_set(
			reason, -ESTALE,
			replica_is_primary(replica)
				? "the peer has the newer data but is a "
				  "secondary, so nothing is overwritten: "
				  "promote the peer (tap-ctl promote) and "
				  "start this host with --role secondary"
				: "this replica has the newer data but is a "
				  "secondary, so nothing is overwritten: "
				  "promote it (tap-ctl promote) and start the "
				  "other host with --role secondary");
	if (is_equal(meeting) &&
	    (replica->state == REPLICA_SOLO ||
	     (replica->state == REPLICA_WAITING && replica->arbiter.sole)))
		return reason_set(reason, -ESTALE,
				  "the peer has the history of a replica that "
				  "went on alone: its metadata are a copy, "
				  "remove them");
	return 0;
}

static int
decide(struct replica *replica, const struct wire_hello *peer,
       struct reason *reason)
{
	struct meeting_side we = our_side(replica, peer);
	struct meeting_side they = side_of(replica, peer);
	struct meeting *meeting = &replica->decision;
	int r = check_partner(replica, peer, reason);

	if (r == 0)
		r = check_third(replica, peer, reason);
	if (r < 0)
		return r;
	*meeting = meeting_decide(&we, &they, reason);
	replica->diverged = meeting->outcome == MEETING_DIVERGED;
	if (replica->diverged) {
		fork_found(replica, meeting->timeline, meeting->epoch);
		fork_hear(replica, &peer->fork);
	}
	if (meeting->outcome == MEETING_REFUSE || replica->diverged)
		return -ESTALE;
	r = check_roles(replica, peer, reason);
	if (r == 0)
		r = check_source(replica, meeting, reason);
	if (r == 0)
		r = check_sizes(replica, peer, meeting, reason);
	if (r == 0)
		r = rollback_check(replica, peer, we_are_source(meeting),
				   reason);
	return r;
}

/* The hello no longer tells all: an attempt later will. */
static bool
is_busy(const struct replica *replica, struct reason *reason)
{
	if (!replica->stepping &&
	    link_greeting(replica->link) == replica->changes &&
	    replica->change == CHANGE_NONE && !replica->spoil)
		return false;
	(void)reason_set(reason, -EBUSY,
			 apply_is_idle(replica)
				 ? "the peer is changing its state: trying "
				   "again"
				 : "writes that the peer received earlier are "
				   "still on their way to its disk: trying "
				   "again");
	return true;
}

static void
begin_as_source(struct replica *replica)
{
	struct wire_begin begin = {
		.outcome = replica->decision.outcome,
		.timeline = replica->decision.timeline,
		.epoch = replica->decision.epoch,
		.incarnation =
			replica_peer(replica, replica->peer_id)->incarnation,
		.resume_copy = replica->resume_copy,
		.clean = replica->resync.map.marked == 0,
	};

	if (!replica->meeting)
		return;
	replica->resync.regions_due = true;
	link_begin(replica->link, &begin);
}

/* What we bring to the union as the source. */
static enum union_part
source_part(struct replica *replica)
{
	const struct wire_hello *peer = &replica->peer_hello;

	replica->resume_copy = false;
	if (peer->history.count == 0)
		return UNION_ALL; /* H1 */
	if (rollback_of_peer(replica, peer)) {
		log_warn("replica",
			 "the metadata of %s are older than what is known of "
			 "them, so they were rolled back: all of the disk is "
			 "copied to it",
			 peer->name);
		return UNION_ALL;
	}
	replica->resume_copy = resync_can_resume(replica);
	return replica->resume_copy ? UNION_SUSPECTS : UNION_SINCE;
}

/* Our part is known; what the meeting asks for becomes durable. */
static void
prepare_as_source(struct replica *replica)
{
	if (!replica->meeting)
		return;
	rollback_note(replica);
	if (is_equal(&replica->decision)) {
		/* H2: it waits for the peer from now on. */
		replica_peer(replica, replica->peer_id)->may_be_synced = true;
		replica_durable(replica)->active = true;
		replica_durable(replica)->outdated = false; /* no more */
		replica_durable(replica)->role = METADATA_PRIMARY;
	}
	replica_step(replica, begin_as_source);
}

static void
on_meet(struct link *link, const struct wire_hello *peer)
{
	struct replica *replica = link_owner(link);
	struct reason reason = { "" };
	int r;

	replica->meetings++;
	replica->broken = false;
	if (is_busy(replica, &reason)) {
		link_refuse(link, &reason);
		return;
	}
	replica->peer_hello = *peer;
	memcpy(replica->peer_id, peer->replica_id, METADATA_ID);
	r = decide(replica, peer, &reason);
	if (r < 0) {
		replica->trouble = reason;
		replica->judged = true;
		log_warn("replica", "not replicating with %s: %s", peer->name,
			 reason.text);
		link_refuse(link, &reason);
		back_off(replica);
		return;
	}
	replica->trouble.text[0] = '\0';
	replica->meeting = true;
	replica_arbiter_void(replica);
	if (!we_are_source(&replica->decision))
		return;
	union_scan(replica, source_part(replica), replica->decision.epoch,
		   prepare_as_source);
}

/* --- target: the source began --- */

static void
accept_as_target(struct replica *replica)
{
	if (replica->meeting)
		link_accept(replica->link);
}

/* H6: not consistent, unless there is nothing to copy. */
static void
prepare_as_target(struct replica *replica)
{
	if (!replica->meeting)
		return;
	rollback_note(replica);
	rollback_stood(replica);
	if (!replica->clean || replica->resync.map.marked > 0) {
		replica->copying = true;
		replica_durable(replica)->consistent = false;
	}
	replica_durable(replica)->role = METADATA_SECONDARY;
	replica_step(replica, accept_as_target);
}

static void
on_begin(struct link *link, const struct wire_begin *begin)
{
	struct replica *replica = link_owner(link);
	const struct meeting *ours = &replica->decision;
	enum union_part part = UNION_SINCE;
	struct reason reason = { "" };

	if (!replica->meeting || replica->stepping || we_are_source(ours) ||
	    meeting_mirror(begin->outcome) != ours->outcome ||
	    begin->timeline != ours->timeline || begin->epoch != ours->epoch ||
	    (begin->resume_copy && !replica->copying)) {
		(void)reason_set(&reason, -EPROTO,
				 "the peer decided the meeting otherwise (%s): "
				 "trying again",
				 meeting_name(begin->outcome));
		replica->meeting = false;
		link_refuse(link, &reason);
		return;
	}
	replica->remembered = begin->incarnation;
	replica->clean = begin->clean && is_equal(ours);
	replica->resync.regions_due = false;
	if (replica_durable(replica)->history.count == 0)
		part = UNION_NOTHING;
	else if (begin->resume_copy)
		part = UNION_SUSPECTS;
	copy_map_clear_all(&replica->resync.map);
	union_scan(replica, part, ours->epoch, prepare_as_target);
}

/* --- the session stands --- */

static void
serve_as_source(struct replica *replica)
{
	bool equal = is_equal(&replica->decision);

	if (!replica_in_session(replica) || !replica->meeting)
		return;
	replica->meeting = false;
	replica_set_state(replica, equal ? REPLICA_PAIRED : REPLICA_RESYNC,
			  "the peer is being copied to");
	resync_begin(replica);
	mirror_resend(replica);
	mirror_release(replica);
	replica_poke(replica);
}

/* The source has nothing beyond the position: the target is what had gone on,
 * and was given up (H4). */
static bool
goes_on_from_there(const struct replica *replica)
{
	const struct history_entry *last =
		history_last(&replica_durable(replica)->history);

	return replica->decision.outcome == MEETING_WE_SOURCE && last != NULL &&
	       last->timeline == replica->decision.timeline;
}

/* What it writes now and the target may never get lies above the position of
 * their next meeting on a timeline of its own only.  It is the operator's word
 * by which it goes on, not the arbiter's. */
static void
begin_apart(struct replica *replica)
{
	replica_new_timeline(replica, replica->options.arbiter->decides
					      ? HISTORY_FORCED
					      : 0);
}

static void
on_up(struct link *link)
{
	struct replica *replica = link_owner(link);

	replica->up_ns = loop_now(replica->loop);
	replica->in_sync = false;
	replica_arbiter_void(replica); /* asked while they met */
	replica->goodbye = false;
	replica->alone = false;
	replica->loss.text[0] = '\0';
	replica->discard = replica->discard_peer = false;
	fork_forget(replica);
	if (!we_are_source(&replica->decision)) {
		replica->meeting = false;
		replica_set_state(replica, REPLICA_TARGET,
				  "this replica is being copied to");
		replica->part.send_at = 0;
		union_send(replica);
		return;
	}
	replica->up_due = true;
	replica_poke(replica);
}

void
replica_advance_up(struct replica *replica)
{
	struct metadata_state *durable = replica_durable(replica);

	replica->up_due = false;
	if (!replica_in_session(replica) || !replica->meeting)
		return;
	if (goes_on_from_there(replica))
		begin_apart(replica);
	rollback_stood(replica);
	durable->active = true;	   /* H10 */
	durable->outdated = false; /* it is what the peer becomes (M7) */
	durable->role = METADATA_PRIMARY;
	replica_step(replica, serve_as_source);
}

/* --- the end --- */

static void
on_broken(struct link *link, const struct reason *reason)
{
	(void)link;
	log_warn("replica", "the connection with the peer broke: %s",
		 reason->text);
}

static void
on_resumed(struct link *link)
{
	struct replica *replica = link_owner(link);

	log_info("replica", "the connection with the peer is back");
	replica->up_ns = loop_now(replica->loop);
	mirror_release(replica);
	replica_poke(replica);
}

static void
primary_lost(struct replica *replica)
{
	resync_end(replica);
	if (replica_may_be_synced(replica)) {
		replica_set_state(replica, REPLICA_LOST,
				  "the peer, which may be in sync, is lost: %s",
				  replica->loss.text);
		return;
	}
	/* M3: it was alone on its timeline, and still is. */
	replica_set_state(replica, REPLICA_SOLO, "the peer is lost: %s",
			  replica->loss.text);
	mirror_excuse(replica);
	mirror_release(replica);
}

static void
on_lost(struct link *link, const struct reason *reason)
{
	struct replica *replica = link_owner(link);

	replica->meetings++;
	replica->meeting = false;
	replica->in_sync = false;
	replica_arbiter_void(replica);
	replica->loss = *reason;
	replica->checkpoint.member_epoch = 0;
	replica_doubt(replica);
	log_warn("replica", "the session with the peer has ended: %s",
		 reason->text);
	switch (replica->state) {
	case REPLICA_RESYNC:
	case REPLICA_PAIRED:
		primary_lost(replica);
		break;
	case REPLICA_TARGET:
	case REPLICA_SYNCED:
		replica_set_state(replica, REPLICA_SECONDARY,
				  "the primary is lost: %s", reason->text);
		break;
	case REPLICA_WAITING: /* before it began to serve (H10) */
	case REPLICA_SOLO:
	case REPLICA_LOST:
	case REPLICA_SECONDARY:
	case REPLICA_FAILED:
		break;
	}
	replica_poke(replica);
}

static void
on_refused(struct link *link, bool refused, const struct reason *reason)
{
	struct replica *replica = link_owner(link);

	replica->meetings++;
	replica->meeting = false;
	if (refused && !replica->judged)
		replica->trouble = *reason; /* the last that was said */
	replica->judged = false;
	log_info("replica", "no session with the peer: %s", reason->text);
	replica_poke(replica);
}

static void
on_goodbye(struct link *link, const struct reason *reason)
{
	struct replica *replica = link_owner(link);

	log_info("replica", "the peer leaves: %s", reason->text);
	replica->goodbye = true;
}

static void
on_message(struct link *link, const struct wire_header *header, void *payload)
{
	if (header->type == WIRE_REGIONS)
		union_message(link_owner(link), header, payload);
	else
		apply_message(link_owner(link), header, payload);
}

static void
on_proven(struct link *link, uint64_t sequence)
{
	apply_proven(link_owner(link), sequence);
}

const struct link_events replica_link_events = {
	.on_greet = on_greet,
	.on_meet = on_meet,
	.on_begin = on_begin,
	.on_up = on_up,
	.on_broken = on_broken,
	.on_resumed = on_resumed,
	.on_lost = on_lost,
	.on_refused = on_refused,
	.on_goodbye = on_goodbye,
	.on_message = on_message,
	.on_proven = on_proven,
};

/* --- M3 --- */

static void
went_solo(struct replica *replica)
{
	replica->alone = false;
	replica->goodbye = false;
	if (replica->state != REPLICA_LOST && replica->state != REPLICA_WAITING)
		return;
	replica->mirror.alone_bytes = 0;
	replica->mirror.alone_ns = loop_now(replica->loop);
	replica_set_state(replica, REPLICA_SOLO, "the peer is lost: %s",
			  replica->loss.text);
	log_warn("replica",
		 "going on alone, with a timeline of its own from epoch "
		 "%" PRIu64 " on",
		 replica_durable(replica)->epoch);
	mirror_excuse(replica);
	mirror_release(replica);
}

/* H0. */
static void
close_meeting(struct replica *replica)
{
	struct reason reason;

	if (!replica->meeting)
		return;
	(void)reason_set(&reason, -EBUSY, "going on alone");
	replica->meeting = false;
	link_refuse(replica->link, &reason);
}

void
replica_serve_alone(struct replica *replica)
{
	struct reason why = replica->why; /* stays the same */

	close_meeting(replica);
	replica->arbiter.sole = false;
	replica_set_state(replica, REPLICA_SOLO, "%s", why.text);
	mirror_release(replica);
}

void
replica_go_solo(struct replica *replica)
{
	struct metadata_state *durable = replica_durable(replica);
	bool word;

	if (!durable->consistent) {
		replica_explain(replica,
				"the peer is lost, and a flush failed here: "
				"this replica may not go on alone, promote the "
				"peer");
		return;
	}
	if (!replica->goodbye && !replica->alone &&
	    replica->options.on_loss == REPLICA_FREEZE) {
		replica_explain(replica,
				"the peer is lost (%s) and on-peer-loss is "
				"freeze: the guest waits until the peer comes "
				"back, or for tap-ctl promote --alone",
				replica->loss.text);
		return;
	}
	word = replica_may_go_alone(replica);
	if (!word &&
	    !(replica->alone && replica->force && replica->arbiter.failed)) {
		replica_explain(replica,
				"the peer is lost (%s), and the arbiter (%s) "
				"has not agreed that this host goes on alone: "
				"%s",
				replica->loss.text,
				replica->options.arbiter->name,
				replica->arbiter.says.text);
		return;
	}
	close_meeting(replica);
	replica_new_timeline(replica, word ? 0 : HISTORY_FORCED);
	replica_clear_may_be_synced(replica);
	durable->active = true;
	replica_step(replica, went_solo);
}
