/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * operator - see sim.h: the people who start, stop, promote and mend, and how
 * they see the pair.
 */
#include <string.h>

#include "tests/sim/sim.h"

#define PATIENCE      15 /* rounds in which nothing came right */
#define STOP_LIMIT_NS (15 * NS_PER_S)

static bool
is_secondary(struct node *node)
{
	return node_is_live(node) && !node->stopping && !node_is_primary(node);
}

static bool
is_failed(struct node *node)
{
	return node_is_live(node) && !node->stopping && node_is(node, "failed");
}

/* --- the pair, as it is seen --- */

bool
pair_is_in_sync(void)
{
	for (int i = 0; i < SIM_NODES; i++) {
		struct node *node = &sim->node[i];

		if (node_is(node, "paired") && node_admits(node) &&
		    node_is(node_peer(node), "synced") &&
		    node_status_is(node, "in_sync", "true"))
			return true;
	}
	return false;
}

bool
pair_is_idle(void)
{
	for (int i = 0; i < SIM_NODES; i++) {
		struct node *node = &sim->node[i];

		if (!node_is_live(node) || node->outstanding > 0 ||
		    !list_empty(&node->operations) || !laws_see_rest(node))
			return false;
	}
	return net_is_idle(&sim->net);
}

void
pair_say(void)
{
	char state[SIM_NODES][64] = { "dead", "dead" }, why[512] = "";

	for (int i = 0; i < SIM_NODES; i++) {
		if (!node_is_live(&sim->node[i]))
			continue;
		node_status(&sim->node[i], "state", state[i], sizeof(state[i]));
		node_status(&sim->node[i], "why", why, sizeof(why));
		world_say("%s is %s: %s", sim->node[i].name, state[i], why);
	}
}

/* --- life and death --- */

void
operator_restarts(struct node *node)
{
	node->restart_ns = sim->now_ns + 100 * NS_PER_MS +
			   sim_below(STREAM_SCRIPT, 4 * NS_PER_S);
	/* its operator has perhaps another one serve, and knows it */
	if (sim_chance(STREAM_SCRIPT, 0.5) && node_admits(node_peer(node)))
		node->role = METADATA_SECONDARY;
}

void
operator_starts(bool at_once)
{
	for (int i = 0; i < SIM_NODES; i++) {
		struct node *node = &sim->node[i];

		/* one that waits for its peer to stop is not waited for */
		if (node->alive && node->stopping &&
		    sim->now_ns - node->stop_ns > STOP_LIMIT_NS)
			node_die(node, false);
		if (is_failed(node) && (at_once || sim->now_ns % 7 == 0))
			node_die(node, false);
		if (!node->alive &&
		    (at_once || (node->restart_ns != 0 &&
				 node->restart_ns <= sim->now_ns)))
			(void)node_start(node);
		if (!node->alive && node->restart_ns == 0)
			node->restart_ns = sim->now_ns +
					   sim_below(STREAM_SCRIPT, NS_PER_S);
	}
}

/* --- roles --- */

bool
operator_promotes(struct node *node, const char *command)
{
	if (!is_secondary(node) || node_command(node, command) < 0)
		return false;
	node->role = METADATA_PRIMARY;
	if (!node_peer(node)->alive && sim_chance(STREAM_SCRIPT, 0.8))
		node_peer(node)->role = METADATA_SECONDARY;
	return true;
}

bool
operator_demotes(struct node *node)
{
	if (!node_admits(node) || node_command(node, "demote") < 0)
		return false;
	node->role = METADATA_SECONDARY;
	node_peer(node)->role = METADATA_PRIMARY;
	return true;
}

/* Somebody watches, and is quick at times. */
void
operator_fail_over(void)
{
	for (int i = 0; i < SIM_NODES; i++) {
		struct node *node = &sim->node[i];

		if (!node_peer(node)->alive &&
		    sim_chance(STREAM_SCRIPT, 0.02) &&
		    operator_promotes(node, "promote"))
			sim->befell[FAULT_PROMOTE]++;
	}
}

/* --- mending --- */

/* The one that has what counts, as far as the durable states tell. */
static struct node *
winner(void)
{
	struct node *a = &sim->node[0], *b = &sim->node[1];
	const struct history *ha = &a->durable.history;
	const struct history *hb = &b->durable.history;
	uint32_t common = 0;

	if (!b->has_durable || hb->count == 0)
		return a;
	if (!a->has_durable || ha->count == 0)
		return b;
	while (common < ha->count && common < hb->count &&
	       ha->entry[common].timeline == hb->entry[common].timeline)
		common++;
	if (a->durable.consistent != b->durable.consistent)
		return a->durable.consistent ? a : b;
	if (sim->has_arbiter && !sim->forced) {
		/* whoever it lists has it all */
		if (sim_arbiter_lists_alone(&sim->arbiter, a))
			return a;
		if (sim_arbiter_lists_alone(&sim->arbiter, b))
			return b;
	}
	if (common == hb->count && ha->count > common)
		return a;
	if (common == ha->count && hb->count > common)
		return b;
	if (node_admits(a) != node_admits(b))
		return node_admits(a) ? a : b;
	if (a->durable.active != b->durable.active)
		return a->durable.active ? a : b;
	return a->durable.role == METADATA_PRIMARY ? a : b;
}

/* One round of an operator who follows the advice. */
void
operator_mends(unsigned int round)
{
	struct node *win = winner(), *lose = node_peer(win);
	bool stuck = round % PATIENCE == PATIENCE - 1;
	bool spoilt, angry = round >= (unsigned int)4 * PATIENCE;

	operator_starts(true);
	if (!node_is_live(win) || !node_is_live(lose) || pair_is_in_sync() ||
	    win->stopping || lose->stopping)
		return;
	if (sim->trace)
		pair_say();
	if (!is_secondary(lose)) {
		/* both primary, or the wrong one */
		if (node_is_primary(win) || stuck) {
			node_die(lose, false);
			lose->role = METADATA_SECONDARY;
			(void)node_start(lose);
		}
		return;
	}
	/* As he is told: the better one by force, a primary after demote. */
	spoilt = node_status_is(win, "consistent", "false") &&
		 node_status_is(lose, "consistent", "false");
	if (is_secondary(win)) {
		if (round % 3 == 2 &&
		    node_command(win, angry || spoilt ? "promote --force"
						      : "promote") == 0)
			win->role = METADATA_PRIMARY;
		return;
	}
	if (spoilt && node_command(win, "demote") == 0) {
		win->role = METADATA_SECONDARY;
		return;
	}
	if (node_status_is(win, "diverged", "true") ||
	    node_status_is(lose, "diverged", "true"))
		(void)node_command(lose, "resync --discard");
	else if (!node_admits(win) && stuck)
		(void)node_command(win, angry ? "promote --alone --force"
					      : "promote --alone");
}
