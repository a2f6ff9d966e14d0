/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica_rollback - whose metadata were rolled back, that is, are an older
 * copy than the other replica remembers (H0).
 *
 * Each remembers of the other the highest incarnation, and two numbers of their
 * meetings: `met`, of the last that it has recorded, and `stood`, of the last
 * of which it knows that the other has recorded it, too.  The hello says all
 * three.  Who says of a meeting less than the other knows it to have recorded
 * has forgotten it: its metadata are from before.
 *
 * R1  The source records a meeting before it says BEGIN, the target before it
 *     says BEGUN.  So the target knows at BEGIN, and the source at BEGUN, that
 *     the other has; the source serves and copies when that is durable.
 * R2  Both reckon the number of a meeting from the two hellos, and it is above
 *     all that they have said.
 * R3  What was written after the last meeting, and rolled back, nobody else can
 *     know.
 * R4  An older source is refused.  An older target is copied to as a whole,
 *     unless it was an author then: it may have gone on as one since, and only
 *     the operator gives that up.
 */
#include <errno.h>
#include <string.h>

#include "core/log.h"
#include "core/reason.h"
#include "replication/replica_private.h"

static bool
same_id(const unsigned char *a, const unsigned char *b)
{
	return memcmp(a, b, METADATA_ID) == 0;
}

/* Whom we met last, NULL if nobody: rows are in that order. */
static const struct metadata_peer *
last_met(const struct metadata_state *durable)
{
	static const unsigned char none[METADATA_ID];
	int i = METADATA_PEERS;

	while (i > 0 && same_id(durable->peer[i - 1].replica_id, none))
		i--;
	return i == 0 ? NULL : &durable->peer[i - 1];
}

/* It is durable what the hello says; so it holds while nothing steps. */
void
rollback_greet(const struct replica *replica, struct wire_hello *ret_hello)
{
	const struct metadata_state *durable = replica_durable(replica);
	const struct metadata_peer *row = last_met(durable);

	ret_hello->incarnation = durable->incarnation;
	if (row == NULL)
		return;
	memcpy(ret_hello->partner, row->replica_id, METADATA_ID);
	ret_hello->peer_incarnation = row->incarnation;
	ret_hello->met = row->met;
	ret_hello->stood = row->stood;
}

/* What one said of the other; zeros if it spoke of somebody else. */
struct memory {
	uint64_t incarnation, met, stood;
};

static struct memory
memory_of_us(const struct replica *replica, const struct wire_hello *peer)
{
	if (!same_id(peer->partner, replica_durable(replica)->replica_id))
		return (struct memory){ .met = 0 };
	return (struct memory){ peer->peer_incarnation, peer->met,
				peer->stood };
}

static struct memory
row_of(const struct replica *replica, const struct wire_hello *peer)
{
	const struct metadata_peer *row =
		replica_find_peer(replica, peer->replica_id);

	if (row == NULL)
		return (struct memory){ .met = 0 };
	return (struct memory){ row->incarnation, row->met, row->stood };
}

/* Whether it spoke of us; who never met anybody has nothing to say of us. */
static bool
speaks_of_us(const struct replica *replica, const struct wire_hello *peer)
{
	static const unsigned char none[METADATA_ID];

	return same_id(peer->partner, none) ||
	       same_id(peer->partner, replica_durable(replica)->replica_id);
}

bool
rollback_of_peer(const struct replica *replica, const struct wire_hello *peer)
{
	struct memory ours = row_of(replica, peer);

	return peer->incarnation < ours.incarnation ||
	       (speaks_of_us(replica, peer) &&
		memory_of_us(replica, peer).met < ours.stood);
}

static bool
is_of_us(const struct replica *replica, const struct wire_hello *peer)
{
	struct memory theirs = memory_of_us(replica, peer);

	return replica_durable(replica)->incarnation < theirs.incarnation ||
	       row_of(replica, peer).met < theirs.stood;
}

/* R4 */
int
rollback_check(const struct replica *replica, const struct wire_hello *peer,
	       bool we_are_source, struct reason *reason)
{
	bool ours = is_of_us(replica, peer);
	bool theirs = rollback_of_peer(replica, peer);
	bool given_up =
		we_are_source
			? (peer->flags & WIRE_DISCARD) || replica->discard_peer
			: replica->discard || (peer->flags & WIRE_DISCARD_PEER);
	bool author = we_are_source ? (peer->flags & WIRE_ACTIVE)
				    : replica_durable(replica)->active;

	if (we_are_source && ours)
		return reason_set(reason, -ESTALE,
				  "the metadata of the primary are older than "
				  "what its peer remembers of them: they were "
				  "rolled back, restore them, or promote the "
				  "peer");
	if (!we_are_source && theirs)
		return reason_set(reason, -ESTALE,
				  "the metadata of the primary are older than "
				  "what this replica remembers of them: they "
				  "were rolled back, restore them, or promote "
				  "this one");
	if ((we_are_source ? theirs : ours) && author && !given_up)
		return reason_set(reason, -ESTALE,
				  "the metadata of the secondary were rolled "
				  "back to when it was the primary, and it may "
				  "have written since: if what it has may go, "
				  "say tap-ctl resync --discard there");
	return 0;
}

/* R2 */
static uint64_t
number_of_meeting(const struct replica *replica, const struct wire_hello *peer)
{
	const struct metadata_peer *last = last_met(replica_durable(replica));
	uint64_t said =
		last != NULL && same_id(last->replica_id, peer->replica_id)
			? last->met
			: 0;
	uint64_t heard = memory_of_us(replica, peer).met;

	return 1 + (said > heard ? said : heard);
}

/* It is the last that was met from now on. */
static struct metadata_peer *
move_to_end(struct replica *replica, const unsigned char *id)
{
	struct metadata_state *durable = replica_durable(replica);
	struct metadata_peer *row = replica_peer(replica, id);
	struct metadata_peer copy = *row;
	const struct metadata_peer *last = last_met(durable);
	size_t behind = (size_t)(last - row);

	memmove(row, row + 1, behind * sizeof(*row));
	row[behind] = copy;
	return &row[behind];
}

void
rollback_note(struct replica *replica)
{
	const struct wire_hello *peer = &replica->peer_hello;
	uint64_t number = number_of_meeting(replica, peer);
	struct metadata_peer *row = move_to_end(replica, peer->replica_id);

	if (row->incarnation < peer->incarnation)
		row->incarnation = peer->incarnation;
	if (row->met < number)
		row->met = number;
	replica->meeting_number = number;
}

void
rollback_stood(struct replica *replica)
{
	struct metadata_peer *row = replica_peer(replica, replica->peer_id);

	if (row->stood < replica->meeting_number)
		row->stood = replica->meeting_number;
}
