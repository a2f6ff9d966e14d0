/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * oracle - see sim.h: what a guest may read, and who may tell it so.
 *
 * A timeline has one content whoever carries it on, so there is a view for
 * each: for each sector what was acknowledged, and what may be there although
 * it was not.  A timeline that begins inherits the view of the one before it;
 * so whoever was promoted owes all that was acknowledged on the timelines of
 * its history, and nothing of those that others went on with alone.
 *
 *  known  what was acknowledged, oldest first; the last one is what reads, the
 *	   others are what a host may fall back to that loses power; what a
 *	   flush covered is not among them any more
 *  maybe  what was submitted and not acknowledged; a read after which nothing
 *	   of it is on its way settles which it is (I3)
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define KNOWN 12
#define MAYBE 14

struct known {
	uint64_t value, event;
};

struct cell {
	struct known known[KNOWN];
	uint64_t maybe[MAYBE];
	uint64_t version;
	uint8_t knowns, maybes;
	bool wild;  /* known begins with we know not what */
	bool loose; /* more may be there than is remembered */
	bool murky; /* a write failed: the hosts may differ until the next */
};

struct view {
	uint64_t timeline;
	uint64_t forked[SIM_NODES]; /* event at which a node left it; 0: not */
	uint64_t forked_ns[SIM_NODES]; /* and when that was */
	struct cell cell[];	       /* a sector each */
};

static size_t
view_size(void)
{
	return sizeof(struct view) + sim_sectors() * sizeof(struct cell);
}

static struct view *
find_view(uint64_t timeline)
{
	for (int i = 0; i < sim->views; i++) {
		if (sim->view[i]->timeline == timeline)
			return sim->view[i];
	}
	return NULL;
}

static struct view *
view_of(const struct node *node)
{
	return find_view(node_timeline(node));
}

static struct cell *
cell_of(const struct node *node, uint64_t sector)
{
	struct view *view = view_of(node);

	if (view == NULL) {
		world_fail("%s serves without a timeline", node->name);
		return NULL;
	}
	return &view->cell[sector];
}

uint64_t
oracle_value(const struct node *node, const unsigned char *bytes,
	     uint64_t sector)
{
	uint64_t value, again;

	memcpy(&value, bytes, sizeof(value));
	for (size_t at = 0; at < SIM_SECTOR; at += sizeof(again)) {
		memcpy(&again, bytes + at, sizeof(again));
		if (again == value)
			continue;
		if (disk_made_up(sector, bytes))
			return SIM_MADE_UP;
		world_fail("%s: sector %" PRIu64 " is torn", node->name,
			   sector);
		return value;
	}
	return value;
}

/* --- cells --- */

static bool
has_maybe(const struct cell *cell, uint64_t value)
{
	for (int i = 0; i < cell->maybes; i++) {
		if (cell->maybe[i] == value)
			return true;
	}
	return false;
}

static void
add_maybe(struct cell *cell, uint64_t value)
{
	if (has_maybe(cell, value))
		return;
	if (cell->maybes == MAYBE)
		cell->loose = true;
	else
		cell->maybe[cell->maybes++] = value;
}

static void
add_known(struct cell *cell, uint64_t value)
{
	if (cell->knowns == KNOWN) {
		cell->wild = true;
		cell->knowns--;
		memmove(cell->known, cell->known + 1,
			cell->knowns * sizeof(cell->known[0]));
	}
	cell->known[cell->knowns++] =
		(struct known){ .value = value, .event = sim->events };
}

/* It reads `value` from now on; what else is on its way may still come. */
static void
settle(struct cell *cell, uint64_t sector, uint64_t value, bool durable)
{
	int kept = 0;

	sim->events++;
	if (cell->loose) { /* what is durable may be none of what is known */
		cell->wild = true;
		cell->knowns = 0;
	}
	for (int i = 0; i < cell->maybes; i++) {
		uint64_t maybe = cell->maybe[i];

		if (guest_is_writing(sector, maybe))
			cell->maybe[kept++] = maybe;
		else if (maybe != value) /* zeros come again and again */
			add_known(cell, maybe);
	}
	cell->maybes = (uint8_t)kept;
	add_known(cell, value);
	if (durable) {
		cell->known[0] = cell->known[cell->knowns - 1];
		cell->knowns = 1;
		cell->wild = false;
	}
	/* What did not fit among `maybe` may be what is on its way. */
	cell->loose = cell->loose && guest_writes_to(sector);
	cell->murky = false;
	cell->version = sim->events;
}

/* The power was lost: what no flush covered may be there, or not. */
static void
forget_unflushed(struct cell *cell)
{
	for (int i = 0; i + 1 < cell->knowns; i++)
		add_maybe(cell, cell->known[i].value);
	if (cell->wild)
		cell->loose = true;
	/* Which of them it is, no order tells any more. */
	if (cell->knowns > 1) {
		cell->known[0] = cell->known[cell->knowns - 1];
		cell->knowns = 1;
	}
	cell->version = sim->events;
}

/* --- timelines --- */

static void
begin_first(struct view *view, const struct node *node)
{
	for (uint64_t i = 0; i < sim_sectors(); i++) {
		const unsigned char *bytes =
			node->disk.current + i * SIM_SECTOR;

		add_known(&view->cell[i], oracle_value(node, bytes, i));
	}
}

static void
begin_fork(struct view *view, struct node *node)
{
	const struct history *history = &node->durable.history;
	const struct history_entry *last = &history->entry[history->count - 1];
	struct view *parent = find_view(last[-1].timeline);

	if (parent == NULL) {
		world_fail("%s goes on from a timeline that nobody had",
			   node->name);
		return;
	}
	memcpy(view->cell, parent->cell, sim_sectors() * sizeof(struct cell));
	parent->forked[node->index] = ++sim->events;
	parent->forked_ns[node->index] = sim->now_ns;
	for (uint64_t i = 0; i < sim_sectors(); i++) {
		view->cell[i].version = sim->events;
		if (last->flags & HISTORY_FORCED)
			view->cell[i].loose = true;
	}
}

void
oracle_durable(struct node *node)
{
	uint64_t timeline = node_timeline(node);
	struct view *view;

	if (timeline == 0)
		return;
	view = find_view(timeline);
	if (view != NULL) {
		/* It is back: the operator gave up what it went on with. */
		view->forked[node->index] = 0;
		return;
	}
	if (sim->views == SIM_VIEWS) {
		world_fail("more than %d timelines", SIM_VIEWS);
		return;
	}
	view = calloc(1, view_size());
	if (view == NULL)
		abort();
	view->timeline = timeline;
	if (node->durable.history.count == 1)
		begin_first(view, node);
	else
		begin_fork(view, node);
	sim->view[sim->views++] = view;
}

void
oracle_answers(struct node *node)
{
	struct view *view = view_of(node);

	if (view == NULL) {
		world_fail("A3: %s answers without a durable timeline",
			   node->name);
		return;
	}
	if (!node->fuzzy)
		return;
	sim->events++;
	for (uint64_t i = 0; i < sim_sectors(); i++)
		forget_unflushed(&view->cell[i]);
	node->fuzzy = false;
}

/* M1: somebody may believe to be in sync with it. */
static bool
may_have_member(const struct node *node)
{
	for (int i = 0; i < METADATA_PEERS; i++) {
		if (node->durable.peer[i].may_be_synced)
			return true;
	}
	return false;
}

/* One that is being copied over. */
static bool
is_given_up(const struct node *node)
{
	return node->durable.role == METADATA_SECONDARY &&
	       !node->durable.consistent;
}

void
oracle_author(struct node *node, uint64_t event)
{
	const struct node *peer = node_peer(node);
	const struct view *view = view_of(node);

	if (view == NULL)
		return;
	if (peer->has_durable && peer->durable.active &&
	    peer->durable.role == METADATA_PRIMARY &&
	    node_timeline(peer) == view->timeline)
		world_fail("A8: %s answers its guest on the timeline on which "
			   "%s is the primary",
			   node->name, peer->name);
	if (is_given_up(peer))
		return;
	if (sim->has_arbiter && !sim->forced && !may_have_member(node) &&
	    !sim_arbiter_lists(&sim->arbiter, node))
		world_fail("C2: %s answers its guest alone, and the arbiter "
			   "does not list it",
			   node->name);
	if (view->forked[peer->index] != 0 && view->forked[peer->index] < event)
		world_fail("A3: %s completes what it was asked after %s had "
			   "gone on from the same timeline",
			   node->name, peer->name);
}

/* A8: a primary whose part was taken by another may not see it for as long as
 * a dead connection goes unnoticed, and no longer. */
void
oracle_reader(struct node *node, uint64_t event, uint64_t ns)
{
	const struct node *peer = node_peer(node);
	const struct view *view = view_of(node);
	uint64_t limit = SIM_DEAD_NS + SIM_DEAD_NS / 2;

	if (view == NULL || view->forked[peer->index] == 0 ||
	    view->forked[peer->index] >= event || is_given_up(peer))
		return;
	if (ns > view->forked_ns[peer->index] + limit)
		world_fail("A8: %s answers a read, %llu ms after %s had gone "
			   "on from the same timeline",
			   node->name,
			   (unsigned long long)((ns -
						 view->forked_ns[peer->index]) /
						NS_PER_MS),
			   peer->name);
}

/* --- members --- */

/* The peer has accepted that it is in sync, and nobody has gone on alone. */
static bool
has_member(const struct node *node)
{
	const struct node *peer = node_peer(node);

	return may_have_member(node) && peer->has_durable &&
	       peer->durable.consistent &&
	       peer->durable.role == METADATA_SECONDARY &&
	       node_timeline(peer) == node_timeline(node);
}

/* A1: what is acknowledged is there, now: not only when somebody looks. */
static void
check_there(const struct node *node, const struct node *where,
	    const unsigned char *disk, const struct cell *cell, uint64_t sector,
	    uint64_t value)
{
	uint64_t is = oracle_value(where, disk + sector * SIM_SECTOR, sector);

	if (is == value || is == SIM_MADE_UP || cell->murky || cell->loose ||
	    has_maybe(cell, is) || guest_is_writing(sector, is))
		return;
	world_fail("A1: %s acknowledges write %" PRIu64 " of sector %" PRIu64
		   ", and %s has write %" PRIu64,
		   node->name, value / sim_sectors(), sector, where->name,
		   is / sim_sectors());
}

static void
check_members(const struct node *node, const struct cell *cell, uint64_t sector,
	      uint64_t value, bool fua)
{
	const struct node *peer = node_peer(node);
	bool durable = fua || strcmp(sim->ack, "durable") == 0;

	check_there(node, node, fua ? node->disk.durable : node->disk.current,
		    cell, sector, value);
	if (!has_member(node) || peer->fuzzy ||
	    (!durable && strcmp(sim->ack, "received") == 0))
		return;
	check_there(node, peer,
		    durable ? peer->disk.durable : peer->disk.current, cell,
		    sector, value);
}

/* A flush that came at `event` is done: what was acknowledged before it is
 * durable, or something later is. */
static void
check_durable(const struct node *node, const struct node *where,
	      const struct cell *cell, uint64_t sector, uint64_t event)
{
	const unsigned char *bytes = where->disk.durable + sector * SIM_SECTOR;
	int first = cell->knowns - 1;
	uint64_t is;

	memcpy(&is, bytes, sizeof(is));
	if (cell->murky || cell->loose || cell->wild ||
	    (cell->knowns > 0 && is == cell->known[cell->knowns - 1].value))
		return; /* as nearly all are */
	while (first >= 0 && cell->known[first].event > event)
		first--;
	if (first < 0)
		return;
	is = oracle_value(where, bytes, sector);
	for (int i = first; i < cell->knowns; i++) {
		if (cell->known[i].value == is)
			return;
	}
	if (is == SIM_MADE_UP || has_maybe(cell, is) ||
	    guest_is_writing(sector, is))
		return;
	world_fail("A1: %s acknowledges a flush, and on %s write %" PRIu64
		   " of sector %" PRIu64 " is not durable but write %" PRIu64,
		   node->name, where->name,
		   cell->known[first].value / sim_sectors(), sector,
		   is / sim_sectors());
}

/* --- requests --- */

void
oracle_submitted(struct node *node, uint64_t sector, uint64_t value)
{
	struct cell *cell = cell_of(node, sector);

	if (cell == NULL)
		return;
	add_maybe(cell, value);
	cell->version = ++sim->events;
}

void
oracle_acked(struct node *node, uint64_t sector, uint64_t value, bool durable)
{
	struct cell *cell = cell_of(node, sector);

	if (cell == NULL)
		return;
	check_members(node, cell, sector, value, durable);
	settle(cell, sector, value, durable);
}

void
oracle_failed(struct node *node, uint64_t sector)
{
	struct cell *cell = cell_of(node, sector);

	if (cell == NULL)
		return;
	cell->murky = true;
	cell->version = ++sim->events;
}

void
oracle_flushed(struct node *node, uint64_t event)
{
	struct view *view = view_of(node);
	bool member = has_member(node);

	for (uint64_t i = 0; view != NULL && i < sim_sectors(); i++) {
		struct cell *cell = &view->cell[i];
		int first = cell->knowns - 1;

		if (cell->knowns > 1) /* else it is, since the last one */
			check_durable(node, node, cell, i, event);
		if (cell->knowns > 1 && member)
			check_durable(node, node_peer(node), cell, i, event);

		while (first >= 0 && cell->known[first].event > event)
			first--;
		if (first < 0)
			continue;
		cell->knowns = (uint8_t)(cell->knowns - first);
		memmove(cell->known, cell->known + first,
			cell->knowns * sizeof(cell->known[0]));
		cell->wild = false;
	}
}

uint64_t
oracle_version(const struct node *node, uint64_t sector)
{
	const struct cell *cell = cell_of(node, sector);

	return cell != NULL ? cell->version : 0;
}

static bool
is_allowed(const struct cell *cell, uint64_t value)
{
	return cell->loose || has_maybe(cell, value) || cell->knowns == 0 ||
	       cell->known[cell->knowns - 1].value == value;
}

void
oracle_read(struct node *node, uint64_t sector, uint64_t value)
{
	struct cell *cell = cell_of(node, sector);
	bool open = cell != NULL && (cell->loose || cell->maybes > 0);

	if (cell == NULL || value == SIM_MADE_UP)
		return; /* see disk.c */
	if (!is_allowed(cell, value)) {
		world_fail("A1: %s reads write %" PRIu64 " in sector %" PRIu64
			   ", where write %" PRIu64 " was acknowledged",
			   node->name, value / sim_sectors(), sector,
			   cell->known[cell->knowns - 1].value / sim_sectors());
		return;
	}
	for (int i = 0; i < cell->maybes; i++) {
		if (guest_is_writing(sector, cell->maybe[i]))
			return;
	}
	if (open && !cell->murky)
		settle(cell, sector, value, false);
}

/* --- the end --- */

static void
differ(uint64_t sector, const unsigned char *bytes, const unsigned char *others)
{
	const struct node *a = &sim->node[0], *b = &sim->node[1];

	world_fail("A5: in sync and idle, sector %" PRIu64
		   " is of write %" PRIu64 " on a and %" PRIu64 " on b",
		   sector, oracle_value(a, bytes, sector) / sim_sectors(),
		   oracle_value(b, others, sector) / sim_sectors());
}

void
oracle_equal(void)
{
	struct node *a = &sim->node[0], *b = &sim->node[1];

	if (node_timeline(a) != node_timeline(b))
		world_fail("A5: in sync, and on two timelines");
	if (memcmp(a->disk.current, b->disk.current, sim->disk_bytes) == 0)
		return;
	for (uint64_t i = 0; i < sim_sectors() && !sim->failed; i++) {
		const unsigned char *bytes = a->disk.current + i * SIM_SECTOR;
		const unsigned char *others = b->disk.current + i * SIM_SECTOR;

		if (memcmp(bytes, others, SIM_SECTOR) != 0) {
			if (!disk_made_up(i, bytes) && !disk_made_up(i, others))
				differ(i, bytes, others);
		}
	}
}

void
oracle_readable(void)
{
	struct node *a = &sim->node[0];

	for (uint64_t i = 0; i < sim_sectors() && !sim->failed; i++)
		oracle_read(
			a, i,
			oracle_value(a, a->disk.current + i * SIM_SECTOR, i));
}

struct view *
oracle_snapshot(const struct node *node)
{
	const struct view *view = view_of(node);
	struct view *copy = malloc(view_size());

	if (copy == NULL || view == NULL)
		abort();
	memcpy(copy, view, view_size());
	for (uint64_t i = 0; node->fuzzy && i < sim_sectors(); i++)
		forget_unflushed(&copy->cell[i]);
	return copy;
}

bool
oracle_was(const struct view *then, uint64_t sector, uint64_t value)
{
	const struct cell *cell = &then->cell[sector];

	return cell->murky || is_allowed(cell, value);
}

void
oracle_done(struct world *world)
{
	for (int i = 0; i < world->views; i++)
		free(world->view[i]);
}
