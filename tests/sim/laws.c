/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * laws - see sim.h: what must be true of the durable states whenever one
 * changes, and of the queues at any time.
 *
 *  A3, M8  a timeline that begins has the arbiter's word, or is marked forced
 *  A8, I4  two replicas are never both the active primary of one timeline (who
 *	    is not consistent is none that goes on alone, F3), and
 *	    with an arbiter two histories never part, unless force was used
 *  A9, M5  a replica that is not consistent, or is out of date, begins a
 *	    timeline by force only, and the entry says so
 *  H0	    incarnations do not fall
 *  M2	    who accepts is active no more
 *  A11	    no queue is longer than its maximum; and nothing of them is lost
 *  A5	    a verification finds no difference that there is not
 *  I6	    nobody waits for a peer that is well: a session that is given up for
 *	    that, and made anew, would hide what was lost in it
 */
#include <inttypes.h>
#include <string.h>

#include "replication/link_private.h"
#include "replication/replica_private.h"
#include "tests/sim/sim.h"

/* --- durable states --- */

static bool
has_timeline(const struct metadata_state *state, uint64_t timeline)
{
	for (uint32_t i = 0; i < state->history.count; i++) {
		if (state->history.entry[i].timeline == timeline)
			return true;
	}
	return false;
}

static void
begins_timeline(const struct node *node, const struct metadata_state *before)
{
	const struct history_entry *last = history_last(&node->durable.history);
	const struct node *peer = node_peer(node);
	bool forced = last->flags & HISTORY_FORCED;
	bool word = !sim->has_arbiter ||
		    sim_arbiter_lists_alone(&sim->arbiter, node);

	if (!before->consistent && (!forced || !node->forcing))
		world_fail("A9: %s begins a timeline without force, and was "
			   "not consistent",
			   node->name);
	/* H4: or the other one is given up */
	if (before->outdated && before->role == METADATA_SECONDARY &&
	    !node->forcing &&
	    (peer->durable.consistent ||
	     peer->durable.role != METADATA_SECONDARY))
		world_fail("A9: %s begins a timeline, and was out of date",
			   node->name);
	if (!word && !forced)
		world_fail("A3: %s begins a timeline, and the arbiter does not "
			   "list it alone",
			   node->name);
	if (!word || forced)
		sim->forced = true;
}

static bool
have_parted(const struct history *a, const struct history *b)
{
	uint32_t k = 0;

	while (k < a->count && k < b->count &&
	       a->entry[k].timeline == b->entry[k].timeline)
		k++;
	return k < a->count && k < b->count;
}

static void
of_both(const struct node *node, const struct node *peer)
{
	const struct metadata_state *a = &node->durable, *b = &peer->durable;

	if (a->role == METADATA_PRIMARY && b->role == METADATA_PRIMARY &&
	    a->active && b->active && a->consistent && b->consistent &&
	    node_timeline(node) != 0 &&
	    node_timeline(node) == node_timeline(peer))
		world_fail("A8: both are the active primary of one timeline");
	if (sim->has_arbiter && !sim->forced &&
	    have_parted(&a->history, &b->history))
		world_fail("I4: with an arbiter, and without force, the two "
			   "have parted");
}

void
laws_of_state(const struct node *node, const struct metadata_state *before)
{
	const struct metadata_state *now = &node->durable;
	const struct node *peer = node_peer(node);
	uint64_t timeline = node_timeline(node);

	if (before != NULL && now->incarnation < before->incarnation)
		world_fail("H0: the incarnation of %s falls from %" PRIu64
			   " to %" PRIu64,
			   node->name, before->incarnation, now->incarnation);
	if (before != NULL && before->history.count > 0 &&
	    !has_timeline(before, timeline) &&
	    (!peer->has_durable || !has_timeline(&peer->durable, timeline)))
		begins_timeline(node, before);
	if (before != NULL && !before->consistent && now->consistent &&
	    now->role == METADATA_SECONDARY && now->active)
		world_fail("M2: %s accepts, and stays active", node->name);
	if (peer->has_durable)
		of_both(node, peer);
}

/* --- queues --- */

static unsigned int
length(const struct list_head *list)
{
	const struct list_head *at;
	unsigned int count = 0;

	list_for_each (at, list)
		count++;
	return count;
}

static void
at_most(const struct node *node, const char *what, unsigned int count,
	unsigned int max)
{
	if (count > max)
		world_fail("A11: %s has %u %s, and the maximum is %u",
			   node->name, count, what, max);
}

static void
all_of(const struct node *node, const char *what, unsigned int count,
       unsigned int total)
{
	if (count != total)
		world_fail("A11: %s has %u %s of %u", node->name, count, what,
			   total);
}

void
laws_of_queues(struct node *node)
{
	const struct replica *replica = node_replica(node);
	const struct mirror *mirror;

	if (replica == NULL || replica->link == NULL)
		return;
	mirror = &replica->mirror;
	all_of(node, "requests",
	       length(&mirror->free) + length(&mirror->held) +
		       length(&mirror->marking) + length(&mirror->barred) +
		       length(&mirror->active),
	       MIRROR_REQUESTS);
	all_of(node, "pieces",
	       length(&mirror->free_pieces) + length(&mirror->pieces),
	       MIRROR_PIECES);
	all_of(node, "slots",
	       length(&replica->apply.free) +
		       length(&replica->apply.unfinished),
	       APPLY_SLOTS);
	at_most(node, "messages under way", replica->link->sent_count,
		LINK_WINDOW_MAX);
	at_most(node, "messages to send", length(&replica->link->waiting),
		MIRROR_PIECES + RESYNC_COPIES + 3);
	at_most(node, "acknowledgements", replica->link->acks_count,
		LINK_ACKS_MAX);
	at_most(node, "operations", length(&node->operations),
		MIRROR_REQUESTS + VBD_DEPTH + APPLY_SLOTS + RESYNC_COPIES + 3);
	at_most(node, "requests of its guest", vbd_pending(node->vbd),
		SIM_OUTSTANDING + SIM_READERS);
}

/* No message is left to be done, or to be heard of: one that waits for its
 * write intents is in no disk and on no network. */
bool
laws_see_rest(const struct node *node)
{
	const struct replica *replica = node_replica(node);

	return replica == NULL || (list_empty(&replica->apply.unfinished) &&
				   list_empty(&replica->mirror.pieces));
}

void
laws_of_rest(struct node *node)
{
	const struct replica *replica = node_replica(node);

	if (replica == NULL)
		return;
	all_of(node, "free requests", length(&replica->mirror.free),
	       MIRROR_REQUESTS);
	all_of(node, "free pieces", length(&replica->mirror.free_pieces),
	       MIRROR_PIECES);
	all_of(node, "free slots", length(&replica->apply.free), APPLY_SLOTS);
	if (pool_in_use(node->pool) != node->pool_idle)
		world_fail("A11: %s is idle, and %zu bytes of its pool are in "
			   "use instead of %zu",
			   node->name, pool_in_use(node->pool),
			   node->pool_idle);
}

/* --- waiting --- */

static uint64_t
oldest_asked(const struct replica *replica)
{
	uint64_t oldest = mirror_oldest(replica);

	if (resync_oldest(replica) < oldest)
		oldest = resync_oldest(replica);
	if (compare_oldest(replica) < oldest)
		oldest = compare_oldest(replica);
	return oldest > replica->up_ns ? oldest : replica->up_ns;
}

void
laws_of_waiting(const struct node *node)
{
	const struct replica *replica = node_replica(node);
	uint64_t oldest;

	if (replica == NULL || replica->link == NULL ||
	    link_state(replica->link) != LINK_UP ||
	    sim->now_ns < sim->trouble_ns + SIM_WAIT_NS)
		return;
	oldest = oldest_asked(replica);
	if (oldest != UINT64_MAX && loop_now(node->loop) > oldest + SIM_WAIT_NS)
		world_fail("I6: %s waits since %" PRIu64
			   " ms for its peer, and nothing keeps either",
			   node->name,
			   (uint64_t)((loop_now(node->loop) - oldest) /
				      NS_PER_MS));
}

/* --- verification --- */

static bool
may_differ(const struct verify_finding *finding)
{
	uint64_t first = finding->offset / SIM_SECTOR;
	uint64_t end = (finding->offset + finding->length) / SIM_SECTOR;

	for (uint64_t i = first; i < end; i++) {
		if (disk_ever_made_up(i))
			return true;
	}
	return false;
}

void
laws_of_verify(struct node *node)
{
	const struct replica *replica = node_replica(node);

	if (replica == NULL)
		return;
	for (unsigned int i = 0; i < replica->verify.findings; i++) {
		const struct verify_finding *finding =
			&replica->verify.finding[i];

		if (finding->kind == VERIFY_DIFFERENT && !may_differ(finding))
			world_fail("A5: %s is told that %" PRIu64
				   " bytes at offset %" PRIu64
				   " differ, and they do not",
				   node->name, finding->length,
				   finding->offset);
	}
}
