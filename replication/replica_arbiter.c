/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica_arbiter - what a replica asks its arbiter, and what an answer allows
 * (M8).
 *
 *   to go on alone    read; if we are listed (or nobody is, and we were the
 *                     author or have the operator's word): list us alone
 *   to offer (M1)     read: the revision before SYNCED
 *   after SYNCED      list both, if that revision still stands
 *
 * AQ1 A word is void once its holder has met the peer, and an answer counts in
 *     the session in which it was asked for (H0): replica_arbiter_void().
 * AQ2 One question at a time; after one without an answer, or with a no, there
 *     is a pause before the next.
 * AQ3 Without an arbiter all answers come from inside the question, so that
 *     nobody waits.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "replication/replica_private.h"

#define PAUSE_NS (1 * NS_PER_S)
/* A peer that is there is to come before the arbiter is asked at start. */
#define START_NS (10 * NS_PER_S)

static void
end_question(struct replica *replica, bool failed, const char *says)
{
	struct replica_arbiter *asked = &replica->arbiter;

	asked->question = ARBITER_NOTHING;
	asked->failed = failed;
	if (strcmp(asked->says.text, says) != 0)
		log_info("replica", "the arbiter (%s): %s",
			 replica->options.arbiter->name, says);
	(void)snprintf(asked->says.text, sizeof(asked->says.text), "%s", says);
	if (failed)
		timer_set(&asked->pause, PAUSE_NS);
	replica_poke(replica);
}

static void
no_answer(struct replica *replica, int error)
{
	char text[REASON_MAX];

	(void)snprintf(text, sizeof(text), "it does not answer (%s)",
		       strerror(-error));
	end_question(replica, true, text);
}

static bool
lists_both(const struct replica *replica, const struct arbiter_record *record)
{
	return arbiter_record_lists(record,
				    replica_durable(replica)->replica_id) &&
	       arbiter_record_lists(record, replica->peer_id);
}

/* --- answers --- */

static void
on_alone(struct arbiter_call *call, int error)
{
	struct replica *replica =
		container_of(call, struct replica, arbiter.call);

	if (error == -EAGAIN) {
		end_question(replica, true, "its list changed meanwhile");
	} else if (error < 0) {
		no_answer(replica, error);
	} else {
		replica->arbiter.word = true;
		end_question(replica, false, "this host may go on alone");
	}
}

/* A record that nobody has begun is begun by the author of the disk, or by
 * the operator's word. */
static bool
may_be_alone(const struct replica *replica, const struct arbiter_record *record)
{
	const struct metadata_state *durable = replica_durable(replica);

	if (record->revision > 0)
		return arbiter_record_lists(record, durable->replica_id);
	return durable->active || replica->alone ||
	       replica->change == CHANGE_PROMOTE;
}

static void
on_read_to_go_alone(struct arbiter_call *call, int error)
{
	struct replica *replica =
		container_of(call, struct replica, arbiter.call);

	if (error < 0) {
		no_answer(replica, error);
	} else if (!may_be_alone(replica, &call->record)) {
		end_question(replica, true,
			     "it does not list this host as up to date");
	} else {
		call->record.count = 0;
		arbiter_record_add(&call->record,
				   replica_durable(replica)->replica_id);
		call->on_done = on_alone;
		replica->options.arbiter->ops->swap(replica->options.arbiter,
						    call);
	}
}

static void
on_read_to_offer(struct arbiter_call *call, int error)
{
	struct replica *replica =
		container_of(call, struct replica, arbiter.call);

	if (error < 0) {
		no_answer(replica, error);
		return;
	}
	replica->arbiter.has_revision = true;
	replica->arbiter.revision = call->record.revision;
	end_question(replica, false, "it is known who is listed");
}

static void
on_both(struct arbiter_call *call, int error)
{
	struct replica *replica =
		container_of(call, struct replica, arbiter.call);

	/* An earlier attempt, whose answer was lost, may have done it. */
	if (error == -EAGAIN && lists_both(replica, &call->record))
		error = 0;
	if (error == 0) {
		replica->arbiter.listed = true;
		end_question(replica, false, "both hosts are listed");
	} else if (error == -EAGAIN) {
		end_question(replica, true, "its list changed meanwhile");
		replica_break(replica, "the arbiter's list changed while the "
				       "two came in sync");
	} else {
		no_answer(replica, error);
	}
}

/* --- questions --- */

static bool
may_ask(const struct replica *replica)
{
	return replica->arbiter.question == ARBITER_NOTHING &&
	       !timer_is_set(&replica->arbiter.pause);
}

/* What is believed stands in the record, for an arbiter that has none. */
static struct arbiter_call *
prepare(struct replica *replica, enum arbiter_question question,
	void (*on_done)(struct arbiter_call *call, int error))
{
	struct arbiter_call *call = &replica->arbiter.call;

	replica->arbiter.question = question;
	*call = (struct arbiter_call){ .on_done = on_done };
	arbiter_record_add(&call->record, replica_durable(replica)->replica_id);
	arbiter_record_add(&call->record, replica->peer_id);
	return call;
}

bool
replica_may_go_alone(struct replica *replica)
{
	struct arbiter *arbiter = replica->options.arbiter;

	if (!replica->arbiter.word && may_ask(replica))
		arbiter->ops->read(arbiter, prepare(replica, ARBITER_ALONE,
						    on_read_to_go_alone));
	return replica->arbiter.word;
}

bool
replica_may_offer(struct replica *replica)
{
	struct arbiter *arbiter = replica->options.arbiter;

	if (!replica->arbiter.has_revision && may_ask(replica))
		arbiter->ops->read(arbiter, prepare(replica, ARBITER_OFFER,
						    on_read_to_offer));
	return replica->arbiter.has_revision;
}

static void
list_both(struct replica *replica)
{
	struct arbiter *arbiter = replica->options.arbiter;
	struct arbiter_call *call;

	if (!may_ask(replica))
		return;
	call = prepare(replica, ARBITER_BOTH, on_both);
	call->record.revision = replica->arbiter.revision;
	arbiter->ops->swap(arbiter, call);
}

void
replica_arbiter_again(struct replica *replica)
{
	timer_clear(&replica->arbiter.pause);
	replica->arbiter.failed = false;
}

void
replica_arbiter_void(struct replica *replica)
{
	struct replica_arbiter *asked = &replica->arbiter;
	struct arbiter *arbiter = replica->options.arbiter;

	if (asked->question != ARBITER_NOTHING)
		arbiter->ops->cancel(arbiter, &asked->call);
	asked->question = ARBITER_NOTHING;
	asked->word = false;
	asked->has_revision = false;
	asked->listed = false;
	replica_arbiter_again(replica);
}

/* --- at start --- */

/* C2: the sole author of its timeline. */
bool
replica_is_sole_author(const struct replica *replica)
{
	const struct metadata_state *durable = replica_durable(replica);

	return durable->role == METADATA_PRIMARY && durable->active &&
	       durable->consistent && !replica_may_be_synced(replica);
}

static void
start_alone(struct replica *replica)
{
	uint64_t waited = loop_now(replica->loop) - replica->since_ns;
	struct arbiter *arbiter = replica->options.arbiter;

	if (replica->arbiter.sole) {
		if (!replica_is_sole_author(replica))
			replica->arbiter.sole = false; /* it met the peer */
		else if (replica_may_go_alone(replica))
			replica_serve_alone(replica);
		else
			replica_explain(
				replica, "waiting for the arbiter (%s): %s",
				arbiter->name, replica->arbiter.says.text);
		return;
	}
	/* `continue` speaks of a peer met in this run; here the arbiter's word
	 * stands for that, since it knows who is up to date. */
	if (arbiter->decides && !replica->meeting &&
	    replica->options.on_loss == REPLICA_CONTINUE &&
	    replica_durable(replica)->role == METADATA_PRIMARY &&
	    waited >= START_NS)
		replica_go_solo(replica);
}

void
replica_arbiter_advance(struct replica *replica)
{
	if (replica->change != CHANGE_NONE || replica->opening)
		return;
	if (replica->state == REPLICA_WAITING && !replica_in_session(replica))
		start_alone(replica);
	else if (replica->state == REPLICA_PAIRED && replica->in_sync &&
		 !replica->arbiter.listed)
		list_both(replica);
}

/* --- life --- */

static void
on_pause_over(struct timer *timer)
{
	replica_poke(container_of(timer, struct replica, arbiter.pause));
}

void
replica_arbiter_init(struct replica *replica)
{
	timer_init(&replica->arbiter.pause, replica->loop, on_pause_over);
}

void
replica_arbiter_done(struct replica *replica)
{
	if (replica->options.arbiter == NULL)
		return;
	replica_arbiter_void(replica);
	replica->options.arbiter = arbiter_close(replica->options.arbiter);
}
