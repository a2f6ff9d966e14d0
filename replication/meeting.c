/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * meeting - which of two replicas is the source, and from where on they
 * differ: rules H1 to H5 as one pure function, see history.h.
 *
 * S1  Symmetric: what is said of (a, b) is the mirror image of what is said of
 *     (b, a).  A choice looks at what tells the sides apart, never at which of
 *     them asks; only the words do.
 * S2  An inconsistent replica, or one with a null history, is never a source:
 *     all outcomes with a source are made by from(), which asserts it.
 * S3  Nothing that a guest may have been told is given up unless the rules say
 *     that it cannot have been, or the operator did.  Rule H5 alone would copy
 *     over the longer of two histories when that side's disk failed a flush
 *     while it was alone (F3): I3 wins, and the operator is asked.
 */
#include <assert.h>
#include <string.h>

#include "core/reason.h"
#include "replication/history.h"
#include "replication/history_private.h"

enum relation {
	RELATION_NONE,	  /* no common entry */
	RELATION_UNKNOWN, /* they part among the dropped ones */
	RELATION_EQUAL,
	RELATION_WE_SHORTER, /* ours is a proper prefix of the peer's */
	RELATION_PEER_SHORTER,
	RELATION_FORKED,
};

/* A meeting while it is decided. */
struct pair {
	const struct meeting_side *we, *peer;
	uint64_t common; /* k: equal leading entries, by absolute index */
	struct reason *reason;
};

static uint64_t
total(const struct history *history)
{
	return history->dropped + history->count;
}

/* Entry by absolute index; NULL if it was dropped or is not there yet. */
static const struct history_entry *
entry_at(const struct history *history, uint64_t index)
{
	if (index < history->dropped || index >= total(history))
		return NULL;
	return &history->entry[index - history->dropped];
}

/* The digest of the entries before `index`; false if it cannot be told. */
static bool
digest_at(const struct history *history, uint64_t index,
	  unsigned char ret_digest[HISTORY_DIGEST])
{
	if (index < history->dropped || index > total(history))
		return false;
	memcpy(ret_digest, history->digest, HISTORY_DIGEST);
	for (uint64_t i = history->dropped; i < index; i++)
		history_digest_add(ret_digest, entry_at(history, i));
	return true;
}

static enum relation
relate(const struct history *we, const struct history *peer, uint64_t *ret_k)
{
	unsigned char ours[HISTORY_DIGEST], theirs[HISTORY_DIGEST];
	uint64_t k = we->dropped > peer->dropped ? we->dropped : peer->dropped;
	const struct history_entry *a, *b;

	if (!digest_at(we, k, ours) || !digest_at(peer, k, theirs) ||
	    memcmp(ours, theirs, HISTORY_DIGEST) != 0)
		return RELATION_UNKNOWN;
	for (;; k++) {
		a = entry_at(we, k);
		b = entry_at(peer, k);
		if (a == NULL || b == NULL || !history_same_entry(a, b))
			break;
	}
	*ret_k = k;
	if (k == 0)
		return RELATION_NONE;
	if (entry_at(we, k - 1) == NULL && entry_at(peer, k - 1) == NULL)
		return RELATION_UNKNOWN; /* nobody has the position's name */
	if (a == NULL && b == NULL)
		return RELATION_EQUAL;
	if (a == NULL)
		return RELATION_WE_SHORTER;
	return b == NULL ? RELATION_PEER_SHORTER : RELATION_FORKED;
}

static uint64_t
smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The last epoch of the common history that `side` has seen. */
static uint64_t
common_end(const struct pair *pair, const struct meeting_side *side)
{
	const struct history_entry *next =
		entry_at(side->history, pair->common);

	return next == NULL ? side->epoch : next->first_epoch - 1;
}

/* One formula for H2, H3 and H4: the last common timeline, and the smaller of
 * what each has seen of it. */
static struct meeting
at_position(const struct pair *pair)
{
	const struct history_entry *last =
		entry_at(pair->we->history, pair->common - 1);

	if (last == NULL)
		last = entry_at(pair->peer->history, pair->common - 1);
	return (struct meeting){
		.timeline = last->timeline,
		.epoch = smaller(common_end(pair, pair->we),
				 common_end(pair, pair->peer)),
	};
}

static struct meeting
refuse(const struct pair *pair, const char *sentence)
{
	(void)reason_set(pair->reason, -1, "%s", sentence);
	return (struct meeting){ .outcome = MEETING_REFUSE };
}

static struct meeting
from(const struct pair *pair, const struct meeting_side *source,
     struct meeting meeting)
{
	assert(source->consistent && source->history->count > 0);
	meeting.outcome =
		source == pair->we ? MEETING_WE_SOURCE : MEETING_PEER_SOURCE;
	return meeting;
}

static const struct meeting_side *
other(const struct pair *pair, const struct meeting_side *side)
{
	return side == pair->we ? pair->peer : pair->we;
}

/* The side of which `we_do` or `peer_does` holds; NULL if of both or none. */
static const struct meeting_side *
only(const struct pair *pair, bool we_do, bool peer_does)
{
	if (we_do == peer_does)
		return NULL;
	return we_do ? pair->we : pair->peer;
}

/* H2: nobody completed a write alone, so either side would do. */
static struct meeting
decide_equal(const struct pair *pair)
{
	const struct meeting_side *we = pair->we, *peer = pair->peer;
	const struct meeting_side *source, *discarded;
	struct meeting meeting = at_position(pair);

	source = only(pair, we->consistent, peer->consistent);
	if (source == NULL)
		source = only(pair, we->active, peer->active);
	if (source == NULL)
		source = only(pair, we->primary_last, peer->primary_last);
	discarded = only(pair, we->discard, peer->discard);
	if (source == NULL && discarded != NULL)
		source = other(pair, discarded);
	if (source == NULL)
		source = only(pair, we->epoch > peer->epoch,
			      peer->epoch > we->epoch);
	if (source == NULL)
		return refuse(pair,
			      "both replicas have the same history and neither "
			      "was the primary last: name the one to be copied "
			      "over with resync --discard");
	meeting = from(pair, source, meeting);
	meeting.outcome = source == we ? MEETING_EQUAL_WE_SOURCE
				       : MEETING_EQUAL_PEER_SOURCE;
	return meeting;
}

/* H4, and what else only the operator may decide.  `sentence` is for when he
 * has not. */
static struct meeting
ask(const struct pair *pair, const char *sentence)
{
	const struct meeting_side *target =
		only(pair, pair->we->discard, pair->peer->discard);
	struct meeting meeting = at_position(pair);

	if (target != NULL && other(pair, target)->consistent)
		return from(pair, other(pair, target), meeting);
	if (target != NULL)
		sentence = target == pair->we
				   ? "this replica is to be discarded, but the "
				     "peer is not consistent and cannot be the "
				     "source: take that back"
				   : "the peer is to be discarded, but this "
				     "replica is not consistent and cannot be "
				     "the source: take that back";
	else if (pair->we->discard)
		sentence = "both sides' changes are to be discarded: one side "
			   "must be the source, take it back there";
	(void)reason_set(pair->reason, -1, "%s", sentence);
	meeting.outcome = MEETING_DIVERGED;
	return meeting;
}

/* H3. */
static struct meeting
decide_prefix(const struct pair *pair, const struct meeting_side *longer)
{
	const struct meeting_side *shorter = other(pair, longer);
	bool forced = false;

	for (uint64_t i = pair->common; i < total(longer->history); i++) {
		if (entry_at(longer->history, i)->flags & HISTORY_FORCED)
			forced = true;
	}
	if (longer->consistent && (!forced || !shorter->consistent))
		return from(pair, longer, at_position(pair));
	/* Not consistent: it was made the target by an answer given before. */
	if (!longer->consistent && forced)
		return from(pair, shorter, at_position(pair));
	if (!longer->consistent)
		return ask(pair, longer == pair->we
					 ? "this replica went on alone and is "
					   "not consistent now, the peer lacks "
					   "what it wrote: save what you need, "
					   "then resync --discard here"
					 : "the peer went on alone and is not "
					   "consistent now, this replica lacks "
					   "what it wrote: save what you need, "
					   "then resync --discard there");
	return ask(pair,
		   longer == pair->we
			   ? "this replica was promoted by force from an "
			     "unfinished copy: name the side whose changes are "
			     "to go with resync --discard, here or on the peer"
			   : "the peer was promoted by force from an "
			     "unfinished copy: name the side whose changes are "
			     "to go with resync --discard, here or on the "
			     "peer");
}

/* H4, H5. */
static struct meeting
decide_forked(const struct pair *pair)
{
	const struct meeting_side *source =
		only(pair, pair->we->consistent, pair->peer->consistent);

	if (source != NULL)
		return from(pair, source, at_position(pair));
	return ask(pair, "both replicas were written to since they last met: "
			 "name the side whose changes are to go with resync "
			 "--discard, here or on the peer");
}

/* H1's second half. */
static struct meeting
decide_null(const struct pair *pair)
{
	const struct meeting_side *source =
		only(pair, pair->we->history->count > 0,
		     pair->peer->history->count > 0);

	if (source == NULL)
		return refuse(pair,
			      "both replicas are new and empty: start the one "
			      "that holds the disk as primary first");
	if (!source->consistent)
		return refuse(pair,
			      source == pair->we
				      ? "the peer is new and this replica is "
					"not consistent: it cannot be copied "
					"from, promote it with --force if "
					"nothing better is left"
				      : "this replica is new and the peer is "
					"not consistent: it cannot be copied "
					"from, promote it with --force if "
					"nothing better is left");
	return from(pair, source, (struct meeting){ .timeline = 0 });
}

struct meeting
meeting_decide(const struct meeting_side *we, const struct meeting_side *peer,
	       struct reason *reason)
{
	struct pair pair = { .we = we, .peer = peer, .reason = reason };
	enum relation relation;

	if (we->history->count == 0 || peer->history->count == 0)
		return decide_null(&pair);
	relation = relate(we->history, peer->history, &pair.common);
	if (relation == RELATION_NONE)
		return refuse(&pair,
			      "the replicas have nothing in common: check the "
			      "names and addresses, or remove the metadata of "
			      "the one that is to become a copy");
	if (relation == RELATION_UNKNOWN)
		return refuse(&pair,
			      "the replicas parted longer ago than their "
			      "histories reach: remove the metadata of the one "
			      "that is to become a copy");
	if (!we->consistent && !peer->consistent)
		return refuse(&pair,
			      "neither replica is consistent: promote the "
			      "better one with --force, a primary after "
			      "tap-ctl demote");
	switch (relation) {
	case RELATION_EQUAL:
		return decide_equal(&pair);
	case RELATION_WE_SHORTER:
		return decide_prefix(&pair, peer);
	case RELATION_PEER_SHORTER:
		return decide_prefix(&pair, we);
	case RELATION_FORKED:
	case RELATION_NONE:
	case RELATION_UNKNOWN:
		break;
	}
	return decide_forked(&pair);
}

enum meeting_outcome
meeting_mirror(enum meeting_outcome outcome)
{
	switch (outcome) {
	case MEETING_WE_SOURCE:
		return MEETING_PEER_SOURCE;
	case MEETING_PEER_SOURCE:
		return MEETING_WE_SOURCE;
	case MEETING_EQUAL_WE_SOURCE:
		return MEETING_EQUAL_PEER_SOURCE;
	case MEETING_EQUAL_PEER_SOURCE:
		return MEETING_EQUAL_WE_SOURCE;
	case MEETING_REFUSE:
	case MEETING_DIVERGED:
		break;
	}
	return outcome;
}

const char *
meeting_name(enum meeting_outcome outcome)
{
	switch (outcome) {
	case MEETING_REFUSE:
		return "refused";
	case MEETING_WE_SOURCE:
		return "source";
	case MEETING_PEER_SOURCE:
		return "target";
	case MEETING_EQUAL_WE_SOURCE:
		return "source, equal histories";
	case MEETING_EQUAL_PEER_SOURCE:
		return "target, equal histories";
	case MEETING_DIVERGED:
		return "diverged";
	}
	return "?";
}
