/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * script - see sim.h: what befalls the two nodes, what their operators do, and
 * the peace at the end, in which they have to come in sync.
 */
#include <string.h>

#include "tests/sim/sim.h"

#define STEPS_MAX     20000000ull
#define PATIENCE      15 /* rounds of an operator in which nothing came right */
#define ROUND_NS      NS_PER_S
#define STOP_LIMIT_NS (15 * NS_PER_S)
#define GRACE_NS      (2 * NS_PER_S) /* as nodes are started */

const char *const sim_fault_names[FAULT_COUNT] = {
	[FAULT_RESET] = "reset",       [FAULT_CUT] = "cut",
	[FAULT_LONG_CUT] = "long cut", [FAULT_ONE_WAY] = "one-way cut",
	[FAULT_SLOW] = "slow",	       [FAULT_KILL] = "kill",
	[FAULT_POWER] = "power",       [FAULT_STOP] = "stop",
	[FAULT_HANG] = "hang",	       [FAULT_EIO] = "EIO",
	[FAULT_PROMOTE] = "promote",   [FAULT_DEMOTE] = "demote",
	[FAULT_RESYNC] = "resync",
};

static uint64_t heal_ns[SIM_NODES], calm_ns;

static struct node *
any_node(void)
{
	return &sim->node[sim_below(SIM_NODES)];
}

static bool
is_secondary(struct node *node)
{
	return node_is_live(node) && !node->stopping &&
	       node_status_is(node, "role", "secondary");
}

/* --- faults --- */

static void
cut(int from, uint64_t length_ns)
{
	world_say("what %s sends is cut for %llu ms", sim->node[from].name,
		  length_ns / NS_PER_MS);
	net_cut(&sim->net, from, true);
	heal_ns[from] = sim->now_ns + length_ns;
}

void
script_restarts(struct node *node)
{
	node->restart_ns =
		sim->now_ns + 100 * NS_PER_MS + sim_below(4 * NS_PER_S);
	/* its operator has perhaps another one serve, and knows it */
	if (sim_chance(0.5) && node_admits(node_peer(node)))
		node->role = METADATA_SECONDARY;
}

static void
strike(struct node *node, bool power)
{
	if (sim_chance(0.7)) {
		node->doom = 1 + (unsigned int)sim_below(60);
		node->doom_power = power;
		return;
	}
	node_die(node, power);
	script_restarts(node);
}

/* The operator's word that the other one is dead; sometimes he is wrong. */
static bool
promote(struct node *node)
{
	if (!is_secondary(node))
		return false;
	if (node_peer(node)->alive && sim_chance(0.9))
		return false;
	if (node_command(node, "promote") < 0)
		return false;
	node->role = METADATA_PRIMARY;
	if (!node_peer(node)->alive && sim_chance(0.8))
		node_peer(node)->role = METADATA_SECONDARY;
	return true;
}

/* Somebody watches, and is quick at times. */
static void
fail_over(void)
{
	for (int i = 0; i < SIM_NODES; i++) {
		struct node *node = &sim->node[i];

		if (!node_peer(node)->alive && sim_chance(0.02) &&
		    promote(node))
			sim->faults[FAULT_PROMOTE]++;
	}
}

static bool
demote(struct node *node)
{
	if (!node_admits(node) || node_command(node, "demote") < 0)
		return false;
	node->role = METADATA_SECONDARY;
	node_peer(node)->role = METADATA_PRIMARY;
	return true;
}

static bool
befall(enum sim_fault fault)
{
	struct node *node = any_node();

	switch (fault) {
	case FAULT_RESET:
		world_say("connections break");
		net_reset(&sim->net);
		return true;
	case FAULT_CUT:
		cut(0, sim_below(GRACE_NS - 200 * NS_PER_MS));
		heal_ns[1] = heal_ns[0];
		net_cut(&sim->net, 1, true);
		return true;
	case FAULT_LONG_CUT:
		cut(0, GRACE_NS + sim_below(4 * NS_PER_S));
		heal_ns[1] = heal_ns[0];
		net_cut(&sim->net, 1, true);
		return true;
	case FAULT_ONE_WAY:
		cut(node->index, sim_below(5 * NS_PER_S));
		return true;
	case FAULT_SLOW:
		sim->net.latency_ns = sim_below(300 * NS_PER_MS);
		sim->net.jitter_ns = sim_below(100 * NS_PER_MS);
		calm_ns = sim->now_ns + sim_below(3 * NS_PER_S);
		world_say("the network is slow: %llu ms",
			  sim->net.latency_ns / NS_PER_MS);
		return true;
	case FAULT_KILL:
	case FAULT_POWER:
		if (!node_is_live(node))
			return false;
		strike(node, fault == FAULT_POWER);
		return true;
	case FAULT_STOP:
		if (!node_is_live(node) || node->stopping)
			return false;
		node_stop(node);
		return true;
	case FAULT_HANG:
		node->slow_until_ns = sim->now_ns + sim_below(6 * NS_PER_S);
		world_say("the disk of %s is slow", node->name);
		return true;
	case FAULT_EIO:
		node->errors += 1 + (unsigned int)sim_below(2);
		return false; /* counted when it happens */
	case FAULT_PROMOTE:
		return promote(node);
	case FAULT_DEMOTE:
		return demote(node);
	case FAULT_RESYNC:
		return node_is_live(node) && !node->stopping &&
		       node_command(node, "resync") == 0;
	case FAULT_COUNT:
		break;
	}
	return false;
}

static const double weights[FAULT_COUNT] = {
	[FAULT_RESET] = 3,    [FAULT_CUT] = 2,	   [FAULT_LONG_CUT] = 1,
	[FAULT_ONE_WAY] = 1,  [FAULT_SLOW] = 1,	   [FAULT_KILL] = 2,
	[FAULT_POWER] = 2,    [FAULT_STOP] = 0.5,  [FAULT_HANG] = 0.5,
	[FAULT_EIO] = 0,      [FAULT_PROMOTE] = 2, [FAULT_DEMOTE] = 1.5,
	[FAULT_RESYNC] = 0.5,
};

static enum sim_fault
choose_fault(void)
{
	double total = 0, at;

	for (int i = 0; i < FAULT_COUNT; i++)
		total += weights[i];
	at = sim_random() * total;
	for (int i = 0; i < FAULT_COUNT; i++) {
		at -= weights[i];
		if (at < 0)
			return (enum sim_fault)i;
	}
	return FAULT_RESET;
}

static void
heal(void)
{
	for (int i = 0; i < SIM_NODES; i++) {
		if (sim->net.cut[i] && heal_ns[i] <= sim->now_ns) {
			world_say("what %s sends gets through",
				  sim->node[i].name);
			net_cut(&sim->net, i, false);
		}
	}
	if (calm_ns != 0 && calm_ns <= sim->now_ns) {
		calm_ns = 0;
		sim->net.latency_ns = 20 * NS_PER_US;
		sim->net.jitter_ns = 500 * NS_PER_US;
	}
}

/* --- operators --- */

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

static void
start_dead(bool at_once)
{
	for (int i = 0; i < SIM_NODES; i++) {
		struct node *node = &sim->node[i];

		/* one that waits for its peer to stop is not waited for */
		if (node->alive && node->stopping &&
		    sim->now_ns - node->stop_ns > STOP_LIMIT_NS)
			node_die(node, false);
		if (!node->alive &&
		    (at_once || (node->restart_ns != 0 &&
				 node->restart_ns <= sim->now_ns)))
			(void)node_start(node);
		if (!node->alive && node->restart_ns == 0)
			node->restart_ns = sim->now_ns + sim_below(NS_PER_S);
	}
}

static bool
is_in_sync(void)
{
	for (int i = 0; i < SIM_NODES; i++) {
		struct node *node = &sim->node[i];

		if (node_admits(node) &&
		    node_status_is(node, "in_sync", "true") &&
		    node_is_live(node_peer(node)) &&
		    node_status_is(node_peer(node), "state", "synced"))
			return true;
	}
	return false;
}

static void
say_states(void)
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

/* One round of an operator who follows the advice. */
static void
mend(unsigned int round)
{
	struct node *win = winner(), *lose = node_peer(win);
	bool stuck = round % PATIENCE == PATIENCE - 1;
	bool angry = round >= (unsigned int)4 * PATIENCE;

	start_dead(true);
	if (!node_is_live(win) || !node_is_live(lose) || is_in_sync() ||
	    win->stopping || lose->stopping)
		return;
	if (sim->trace)
		say_states();
	if (!is_secondary(lose)) {
		/* both primary, or the wrong one */
		if (node_status_is(win, "role", "primary") || stuck) {
			node_die(lose, false);
			lose->role = METADATA_SECONDARY;
			(void)node_start(lose);
		}
		return;
	}
	if (is_secondary(win)) {
		if (round % 3 == 2 &&
		    node_command(win, angry ? "promote --force" : "promote") ==
			    0)
			win->role = METADATA_PRIMARY;
		return;
	}
	if (node_status_is(win, "diverged", "true") ||
	    node_status_is(lose, "diverged", "true"))
		(void)node_command(lose, "resync --discard");
	else if (!node_admits(win) && stuck)
		(void)node_command(win, angry ? "promote --alone --force"
					      : "promote --alone");
}

/* --- the story --- */

static bool
run_until(uint64_t until_ns)
{
	static uint64_t steps;

	if (sim->now_ns <= NS_PER_S)
		steps = 0;
	while (sim->now_ns < until_ns && !sim->failed) {
		world_step(until_ns);
		if (++steps > STEPS_MAX)
			world_fail("it goes round and round");
	}
	return !sim->failed;
}

static void
run_faults(void)
{
	uint64_t end = sim->now_ns + SIM_PERIOD_NS;
	double pace = 0.3 + 1.5 * sim_random(); /* seconds */
	uint64_t next = sim->now_ns + NS_PER_S, until;
	unsigned int round = 0;
	uint64_t rounds_ns = sim->now_ns;

	while (sim->now_ns < end && !sim->failed) {
		until = sim->now_ns + 20 * NS_PER_MS;
		if (!run_until(until < end ? until : end))
			return;
		heal();
		start_dead(false);
		fail_over();
		if (sim->now_ns >= next) {
			enum sim_fault fault = choose_fault();

			if (befall(fault))
				sim->faults[fault]++;
			next = sim->now_ns +
			       (uint64_t)(2 * pace * sim_random() * 1e9);
		}
		if (sim->now_ns >= rounds_ns + 2 * ROUND_NS) {
			rounds_ns = sim->now_ns;
			if (sim_chance(0.3))
				mend(round++ % PATIENCE);
		}
	}
}

static void
make_peace(void)
{
	for (int i = 0; i < SIM_NODES; i++) {
		heal_ns[i] = 0;
		sim->node[i].slow_until_ns = 0;
		sim->node[i].errors = 0;
		sim->node[i].doom = 0;
	}
	calm_ns = sim->now_ns;
	heal();
	sim->calm = true;
	world_say("the faults are over");
}

static bool
is_idle(void)
{
	for (int i = 0; i < SIM_NODES; i++) {
		if (sim->node[i].outstanding > 0 ||
		    !list_empty(&sim->node[i].operations))
			return false;
	}
	return true;
}

void
script_run(void)
{
	uint64_t end;
	unsigned int round = 0;

	heal_ns[0] = heal_ns[1] = calm_ns = 0;
	(void)node_start(&sim->node[1]);
	(void)node_start(&sim->node[0]);
	run_faults();
	make_peace();
	end = sim->now_ns + SIM_PEACE_NS;
	while (!is_in_sync() && !sim->failed && sim->now_ns < end) {
		mend(round++);
		(void)run_until(sim->now_ns + ROUND_NS);
	}
	for (int i = 0; i < SIM_NODES; i++)
		sim->node[i].issue_ns = UINT64_MAX;
	while (!(is_in_sync() && is_idle()) && !sim->failed &&
	       sim->now_ns < end) {
		mend(round++);
		for (int i = 0; i < SIM_NODES; i++)
			sim->node[i].issue_ns = UINT64_MAX;
		(void)run_until(sim->now_ns + ROUND_NS);
	}
	if (sim->failed)
		return;
	if (is_in_sync() && is_idle()) {
		oracle_equal();
		return;
	}
	say_states();
	world_fail("the two do not come in sync, %llu s after the last fault",
		   SIM_PEACE_NS / NS_PER_S);
}
