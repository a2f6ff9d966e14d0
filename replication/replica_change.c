/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica_change - what the operator orders: promotion (M5), hand-over and
 * demotion (M6), the clean end (M7).
 *
 * A change goes in stages; each is taken by advance() when what it waits for
 * has come.  One is under way at a time, and the end takes the place of any
 * other.
 */
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "replication/replica_private.h"

#define LEAVE_LIMIT_NS (10 * NS_PER_S) /* for a peer that does not answer */
#define PART_LIMIT_NS  (1 * NS_PER_S)  /* for the goodbye to leave */

enum {
	STAGE_DRAIN,  /* what is under way ends */
	STAGE_FLUSH,  /* waits for change_flush */
	STAGE_REMOTE, /* waits for change_send */
	STAGE_STEP,   /* the state is made durable */
	STAGE_PART,   /* goodbye is on its way */
};

const char *
replica_change_name(enum replica_change change)
{
	switch (change) {
	case CHANGE_NONE:
		return "";
	case CHANGE_PROMOTE:
		return "promote";
	case CHANGE_DEMOTE:
		return "demote";
	case CHANGE_LEAVE:
		return "leave";
	}
	return "?";
}

static void
begin(struct replica *replica, enum replica_change change)
{
	replica->change = change;
	replica->change_stage = STAGE_DRAIN;
	replica->change_error.text[0] = '\0';
	replica_poke(replica);
}

/* Unless the end has taken its place. */
static void
end(struct replica *replica, enum replica_change change)
{
	replica_poke(replica);
	if (replica->change != change)
		return;
	timer_clear(&replica->change_limit);
	replica->change = CHANGE_NONE;
}

static void end_with(struct replica *replica, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void
end_with(struct replica *replica, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(replica->change_error.text,
			sizeof(replica->change_error.text), format, args);
	va_end(args);
	log_warn("replica", "%s: %s", replica_change_name(replica->change),
		 replica->change_error.text);
	end(replica, replica->change);
}

/* Nothing of a guest's or of ours is with the image. */
static bool
is_drained(const struct replica *replica)
{
	return mirror_is_idle(replica) && apply_is_idle(replica) &&
	       replica->io.pending == 0;
}

/* H0: an order closes what a meeting may be deciding on. */
static void
close_session(struct replica *replica, const char *why)
{
	struct reason reason;

	(void)reason_set(&reason, -ECANCELED, "%s", why);
	if (replica_in_session(replica)) {
		replica->broken = true;
		link_drop(replica->link, &reason);
	} else if (replica->meeting) {
		replica->meeting = false;
		link_refuse(replica->link, &reason);
	}
}

/* --- the image's flush and the peer's --- */

static void
on_flushed(struct image_op *op, int error)
{
	struct replica *replica =
		container_of(op, struct replica, change_flush);

	if (error < 0) {
		replica->spoil = true;
		replica->leave_error = error;
	}
	replica->change_stage = STAGE_REMOTE;
	replica_poke(replica);
}

static void
flush(struct replica *replica)
{
	replica->change_stage = STAGE_FLUSH;
	replica->leave_error = 0;
	replica->change_flush =
		(struct image_op){ .op = TD_OP_FLUSH, .on_done = on_flushed };
	image_io_start(&replica->io, &replica->change_flush);
}

/* --- promotion (M5) --- */

static void
promoted(struct replica *replica)
{
	replica->copying = false;
	replica->discard = false;
	replica->mirror.alone_bytes = 0;
	replica->mirror.alone_ns = loop_now(replica->loop);
	replica->trouble.text[0] = '\0';
	resync_forget(replica);
	replica_set_state(replica, REPLICA_SOLO, "promoted");
	log_warn("replica", "promoted: this host is the primary now");
	link_set_calling(replica->link, true);
	end(replica, CHANGE_PROMOTE);
}

static void
advance_promote(struct replica *replica)
{
	struct metadata_state *durable = replica_durable(replica);
	bool sound = durable->consistent, forced, word;

	if (replica_in_session(replica) || replica->meeting ||
	    !apply_is_idle(replica))
		return; /* all that it acknowledged is to be in the image */
	if (!sound && !replica->force) {
		end_with(replica, "this replica is not consistent");
		return;
	}
	word = replica_may_go_alone(replica);
	if (!word && !replica->arbiter.failed)
		return;
	if (!word && !replica->force) {
		end_with(replica,
			 "the arbiter (%s) does not agree: %s; where it cannot "
			 "be right, promote --force goes on without it",
			 replica->options.arbiter->name,
			 replica->arbiter.says.text);
		return;
	}
	/* Without the word the other may go on, too: at their next meeting the
	 * operator is asked. */
	forced = !sound || !word;
	replica_new_timeline(replica, forced ? HISTORY_FORCED : 0);
	/* A copy that did not end has left what was written on the source's
	 * timeline, with stamps of that or none; a flush that failed has left
	 * who knows what. */
	if (!sound)
		tracker_forget(&replica->tracker, durable->epoch);
	replica_clear_may_be_synced(replica);
	durable->consistent = true;
	durable->active = true;
	durable->outdated = false;
	durable->primary_last = true;
	durable->role = METADATA_PRIMARY;
	replica->change_stage = STAGE_STEP;
	replica_step(replica, promoted);
}

/* Whether it may be, from what is known now. */
static int
check_promote(const struct replica *replica, struct reason *reason)
{
	const struct metadata_state *durable = replica_durable(replica);

	if (durable->history.count == 0)
		return reason_set(reason, -ENODATA,
				  "this replica is empty: no copy to it was "
				  "ever completed, bring the primary back");
	if (link_state(replica->link) == LINK_UP)
		return reason_set(reason, -EBUSY,
				  "the primary is alive: tap-ctl demote there "
				  "hands the disk over to this host");
	if (replica->force)
		return 0;
	if (!durable->consistent)
		return reason_set(reason, -ESTALE,
				  "this replica is not consistent, since its "
				  "copy is unfinished or its image failed: "
				  "bring the primary back, or take the loss "
				  "with promote --force");
	if (durable->outdated)
		return reason_set(reason, -ESTALE,
				  "this replica left while the primary went "
				  "on, so it is out of date: bring the primary "
				  "back, or take the loss with promote "
				  "--force");
	return 0;
}

static int
command_promote(struct replica *replica, bool alone, struct reason *reason)
{
	int r;

	switch (replica->state) {
	case REPLICA_SOLO:
	case REPLICA_RESYNC:
	case REPLICA_PAIRED:
		return reason_set(reason, -EALREADY,
				  "this host is the primary already");
	case REPLICA_LOST:
	case REPLICA_WAITING:
		if (!alone)
			return reason_set(reason, -EAGAIN,
					  "this primary waits for its peer: if "
					  "that is dead and was not promoted, "
					  "say promote --alone");
		break;
	case REPLICA_FAILED:
		return reason_set(reason, -EIO, "%s", replica->why.text);
	case REPLICA_SECONDARY:
	case REPLICA_TARGET:
	case REPLICA_SYNCED:
		break;
	}
	if (replica->state == REPLICA_LOST &&
	    replica_durable(replica)->consistent) {
		replica->alone = true;
		replica_arbiter_again(replica);
		replica->change_error.text[0] = '\0'; /* of another order */
		replica_poke(replica);
		return 0;
	}
	r = check_promote(replica, reason);
	if (r < 0)
		return r;
	replica_arbiter_again(replica);
	begin(replica, CHANGE_PROMOTE);
	close_session(replica, "this host is being promoted");
	return 0;
}

/* --- demotion and hand-over (M6) --- */

static void
demoted(struct replica *replica)
{
	replica_set_handing_over(replica, false);
	resync_end(replica);
	resync_forget(replica);
	replica_set_state(replica, REPLICA_SECONDARY, "demoted");
	link_set_calling(replica->link, false);
	close_session(replica, "this host was demoted");
	end(replica, CHANGE_DEMOTE);
}

static void
on_handed_over(struct link_send *send, int status)
{
	struct replica *replica =
		container_of(send, struct replica, change_send);

	replica->change_send.on_ended = NULL;
	/* F3: for the peer to fall back on it must be copied to again. */
	if (status == 0 && !replica_durable(replica)->consistent)
		close_session(replica, "a flush of its image had failed, so it "
				       "is to be copied to again");
	if (status == 0 || replica->change != CHANGE_DEMOTE)
		end(replica, CHANGE_DEMOTE);
	else
		end_with(replica,
			 "the hand-over broke off (%s): look at the peer's "
			 "status, and promote one of the two if neither is "
			 "primary",
			 strerror(-status));
}

/* We are secondary, durable; now the peer may be primary. */
static void
send_handover(struct replica *replica)
{
	replica_set_handing_over(replica, false);
	resync_end(replica);
	resync_forget(replica);
	link_set_calling(replica->link, false);
	replica_set_state(replica, REPLICA_SECONDARY,
			  "handing over to the peer");
	if (replica->change != CHANGE_DEMOTE)
		return; /* this host stops: whoever is promoted has it all */
	if (!replica_in_session(replica)) {
		end_with(replica,
			 "the session ended in the hand-over: promote one of "
			 "the two");
		return;
	}
	replica->in_sync = true;
	replica_set_state(replica, REPLICA_SYNCED, "handing over to the peer");
	replica->change_stage = STAGE_REMOTE;
	replica->change_send = (struct link_send){
		.type = WIRE_HANDOVER,
		.epoch = replica_durable(replica)->epoch,
		.on_ended = on_handed_over,
	};
	link_send(replica->link, &replica->change_send);
}

static void
step_down(struct replica *replica, bool handover)
{
	struct metadata_state *durable = replica_durable(replica);

	/* Who went on alone stays the author of what it wrote. */
	if (handover)
		durable->active = false;
	durable->role = METADATA_SECONDARY;
	durable->primary_last = !handover;
	replica->change_stage = STAGE_STEP;
	replica_step(replica, handover ? send_handover : demoted);
}

static void
advance_demote(struct replica *replica)
{
	bool handover = replica->handover;

	if (handover && replica->state != REPLICA_PAIRED &&
	    replica->change_stage != STAGE_STEP &&
	    replica->change_stage != STAGE_REMOTE) {
		replica_set_handing_over(replica, false);
		end_with(replica,
			 "the peer was lost in the hand-over, so this host is "
			 "still the primary");
		return;
	}
	switch (replica->change_stage) {
	case STAGE_DRAIN:
		if (is_drained(replica) && replica->mirror.ahead == 0 &&
		    (!handover || resync_is_complete(replica)))
			flush(replica);
		break;
	case STAGE_REMOTE: /* or: the flush is done */
		if (replica->change_send.on_ended != NULL)
			break;
		if (replica->spoil || replica->leave_error < 0) {
			replica_set_handing_over(replica, false);
			end_with(replica, "the last flush failed here");
			break;
		}
		step_down(replica, handover);
		break;
	case STAGE_FLUSH:
	case STAGE_STEP:
	case STAGE_PART:
		break;
	}
}

static int
command_demote(struct replica *replica, struct reason *reason)
{
	switch (replica->state) {
	case REPLICA_SECONDARY:
	case REPLICA_TARGET:
	case REPLICA_SYNCED:
		return reason_set(reason, -EALREADY,
				  "this host is secondary already");
	case REPLICA_FAILED:
		return reason_set(reason, -EIO, "%s", replica->why.text);
	case REPLICA_RESYNC:
		return reason_set(reason, -EAGAIN,
				  "the peer is still being copied to: wait "
				  "until it is in sync");
	case REPLICA_PAIRED:
		if (!replica->in_sync || !replica->arbiter.listed ||
		    !resync_is_complete(replica) ||
		    link_state(replica->link) != LINK_UP)
			return reason_set(reason, -EAGAIN,
					  "the peer is not in sync yet: wait");
		break;
	case REPLICA_LOST:
	case REPLICA_WAITING:
	case REPLICA_SOLO:
		break;
	}
	replica->handover = replica->state == REPLICA_PAIRED;
	replica->change_send.on_ended = NULL;
	begin(replica, CHANGE_DEMOTE);
	replica_set_handing_over(replica, true);
	if (!replica->handover) {
		close_session(replica, "this host is being demoted");
		mirror_fail_all(replica, -ESHUTDOWN);
	}
	return 0;
}

/* --- the end (M7) --- */

static void
stopped(void *owner)
{
	struct replica *replica = owner;

	if (replica->ended)
		return;
	replica->ended = true;
	td_complete_request(replica->leave_treq, replica->leave_error);
}

void
replica_advance_end(struct replica *replica)
{
	if (replica->state != REPLICA_FAILED || replica->io.pending > 0)
		return;
	replica->leave_error = -EIO;
	stopped(replica);
}

static void
leave_done(struct replica *replica)
{
	replica->left = true; /* first: nothing may follow, no M3 either */
	end(replica, CHANGE_LEAVE);
	link_stop(replica->link);
	if (replica->state != REPLICA_FAILED)
		replica_tracking_stop(replica, stopped);
	replica_poke(replica);
}

static void
part(struct replica *replica)
{
	replica->change_stage = STAGE_PART;
	if (!replica_in_session(replica)) {
		leave_done(replica);
		return;
	}
	link_goodbye(replica->link, replica_is_primary(replica)
					    ? "the primary was stopped"
					    : "the secondary was stopped");
	timer_set(&replica->change_limit, PART_LIMIT_NS);
}

static void
leave_step(struct replica *replica)
{
	struct metadata_state *durable = replica_durable(replica);

	replica->change_stage = STAGE_STEP;
	if (replica->state == REPLICA_PAIRED)
		durable->active = false;
	else if (replica->state == REPLICA_SYNCED &&
		 replica_in_session(replica))
		durable->outdated = true;
	else {
		part(replica);
		return;
	}
	replica_step(replica, part);
}

static void
on_remote_flushed(struct link_send *send, int status)
{
	struct replica *replica =
		container_of(send, struct replica, change_send);

	(void)status; /* an error ends the session, see the caller */
	replica->change_send.on_ended = NULL;
	if (status < 0 && status != -ENOTCONN)
		replica_break(replica, "the peer's disk failed a flush: %s",
			      strerror(-status));
	replica_poke(replica);
}

/* A member is to hold durably what we do. */
static void
flush_remote(struct replica *replica)
{
	replica->remote_asked = true;
	replica->change_send = (struct link_send){
		.type = WIRE_FLUSH,
		.epoch = replica_durable(replica)->epoch,
		.on_ended = on_remote_flushed,
	};
	link_send(replica->link, &replica->change_send);
}

static void
advance_leave(struct replica *replica)
{
	switch (replica->change_stage) {
	case STAGE_DRAIN:
		/* Copies in the stream end with the session. */
		if (is_drained(replica))
			flush(replica);
		break;
	case STAGE_REMOTE:
		if (replica->change_send.on_ended != NULL || replica->spoil)
			break;
		if (replica->state == REPLICA_PAIRED && !replica->remote_asked)
			flush_remote(replica);
		else
			leave_step(replica);
		break;
	case STAGE_PART:
		if (!replica_in_session(replica) &&
		    !link_is_parting(replica->link))
			leave_done(replica);
		break;
	case STAGE_FLUSH:
	case STAGE_STEP:
		break;
	}
}

static void
on_change_limit(struct timer *timer)
{
	struct replica *replica =
		container_of(timer, struct replica, change_limit);

	if (replica->change_stage == STAGE_PART) {
		leave_done(replica);
		return;
	}
	close_session(replica, "it did not answer while this host stopped");
}

void
replica_leave(struct replica *replica, td_request_t treq)
{
	if (replica->change == CHANGE_DEMOTE)
		replica_set_handing_over(replica, false);
	replica->leave_treq = treq;
	replica->remote_asked = false;
	replica->apply.deaf = true;
	resync_end(replica);
	/* What a change before it waits for is not waited for any more; its
	 * step or its message may still end. */
	if (replica->change == CHANGE_NONE)
		replica->change_send.on_ended = NULL;
	begin(replica, CHANGE_LEAVE);
	timer_set(&replica->change_limit, LEAVE_LIMIT_NS);
}

/* --- resync by order --- */

static int
command_resync(struct replica *replica, bool discard, struct reason *reason)
{
	if (discard && replica_is_primary(replica))
		return reason_set(reason, -EBUSY,
				  "this host is primary: what it wrote can be "
				  "given up after tap-ctl demote only");
	if (replica->state == REPLICA_FAILED)
		return reason_set(reason, -EIO, "%s", replica->why.text);
	if (replica_in_session(replica))
		return reason_set(reason, -EALREADY,
				  replica->in_sync || replica->state ==
							      REPLICA_SYNCED
					  ? "the two are in sync already"
					  : "a resync is under way already");
	replica->discard = discard;
	close_session(replica, "the operator asked for a resync");
	timer_clear(&replica->retry);
	if (replica_is_primary(replica))
		link_set_calling(replica->link, true);
	return 0;
}

/* H4: the operator names the side whose changes are to go. */
static int
command_resolve(struct replica *replica, const char *words,
		struct reason *reason)
{
	char side[8] = "", rest[2] = "";

	if (sscanf(words, " --discard %7s %1s", side, rest) != 1 ||
	    (strcmp(side, "local") != 0 && strcmp(side, "peer") != 0))
		return reason_set(reason, -EINVAL,
				  "say resolve --discard local, or --discard "
				  "peer");
	if (!replica->diverged)
		return reason_set(reason, -ESTALE,
				  "the two have not diverged, as far as their "
				  "last meeting told: there is nothing to "
				  "resolve");
	replica->discard = strcmp(side, "local") == 0;
	replica->discard_peer = !replica->discard;
	timer_clear(&replica->retry);
	if (replica->discard && replica_is_primary(replica))
		return command_demote(replica, reason);
	close_session(replica, "the operator gave a side up");
	if (replica_is_primary(replica))
		link_set_calling(replica->link, true);
	return 0;
}

/* --- commands --- */

struct words {
	bool alone, force, discard, repair, stop;
};

static int
parse_words(const char *text, struct words *ret_words, struct reason *reason)
{
	static const char separators[] = " ";
	char copy[128], *rest = copy, *word;

	*ret_words = (struct words){ .alone = false };
	if (strlen(text) >= sizeof(copy))
		return reason_set(reason, -EINVAL, "the command is too long");
	(void)snprintf(copy, sizeof(copy), "%s", text);
	while ((word = strsep(&rest, separators)) != NULL) {
		if (*word == '\0')
			continue;
		if (strcmp(word, "--alone") == 0)
			ret_words->alone = true;
		else if (strcmp(word, "--force") == 0)
			ret_words->force = true;
		else if (strcmp(word, "--discard") == 0)
			ret_words->discard = true;
		else if (strcmp(word, "--repair") == 0)
			ret_words->repair = true;
		else if (strcmp(word, "--stop") == 0)
			ret_words->stop = true;
		else
			return reason_set(reason, -EINVAL, "unknown word '%s'",
					  word);
	}
	return 0;
}

static bool
is_command(const char *command, size_t length, const char *word)
{
	return strlen(word) == length && strncmp(command, word, length) == 0;
}

int
replica_command(struct replica *replica, const char *command,
		struct json_t *result, struct reason *reason)
{
	size_t length = strcspn(command, " ");
	struct words words = { .alone = false };
	bool asks = is_command(command, length, "checkpoint") ||
		    is_command(command, length, "changed");
	bool resolves = is_command(command, length, "resolve");
	int r = asks || resolves
			? 0
			: parse_words(command + length, &words, reason);

	if (r < 0)
		return r;
	if (asks && !replica->opening && result != NULL)
		return is_command(command, length, "changed")
			       ? replica_command_changed(replica,
							 command + length,
							 result, reason)
			       : replica_command_checkpoint(replica,
							    command + length,
							    result, reason);
	if (replica->opening || replica->change != CHANGE_NONE)
		return reason_set(reason, -EBUSY,
				  "another change is under way (%s): try again",
				  replica->opening ? "opening"
						   : replica_change_name(
							     replica->change));
	replica->force = words.force;
	if (length == 7 && strncmp(command, "promote", length) == 0)
		r = command_promote(replica, words.alone, reason);
	else if (length == 6 && strncmp(command, "demote", length) == 0)
		r = command_demote(replica, reason);
	else if (length == 6 && strncmp(command, "resync", length) == 0)
		r = command_resync(replica, words.discard, reason);
	else if (resolves)
		r = command_resolve(replica, command + length, reason);
	else if (length == 6 && strncmp(command, "verify", length) == 0)
		r = verify_command(replica, words.repair, words.stop, reason);
	else
		r = reason_set(reason, -EINVAL,
			       "'%s' is no command: promote, demote, resync, "
			       "resolve, verify, checkpoint and changed are",
			       command);
	if (r == 0 && result != NULL)
		(void)json_object_set_new(
			result, "change",
			json_string(replica_change_name(replica->change)));
	return r;
}

void
replica_advance_change(struct replica *replica)
{
	bool failed = replica->state == REPLICA_FAILED;

	switch (replica->change) {
	case CHANGE_NONE:
		break;
	case CHANGE_PROMOTE:
		if (failed)
			end_with(replica, "%s", replica->why.text);
		else if (replica->change_stage == STAGE_DRAIN)
			advance_promote(replica);
		break;
	case CHANGE_DEMOTE:
		if (failed)
			end_with(replica, "%s", replica->why.text);
		else
			advance_demote(replica);
		break;
	case CHANGE_LEAVE:
		if (failed && is_drained(replica)) {
			replica->leave_error = -EIO;
			leave_done(replica);
		} else if (!failed) {
			advance_leave(replica);
		}
		break;
	}
}

void
replica_change_init(struct replica *replica)
{
	timer_init(&replica->change_limit, replica->loop, on_change_limit);
}

void
replica_change_done(struct replica *replica)
{
	timer_clear(&replica->change_limit);
}
