/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * faults - see sim.h: what befalls the two, planned ahead.
 *
 * A story has the kinds of faults that its seed picked, more of some than of
 * others, at times that are known before it begins; so one can be left out.
 * Many last a while and are healed by and by.
 */
#include <errno.h>
#include <string.h>

#include "tests/sim/sim.h"

const char *const sim_fault_names[FAULT_COUNT] = {
	[FAULT_RESET] = "reset",
	[FAULT_CUT] = "cut",
	[FAULT_LONG_CUT] = "long cut",
	[FAULT_ONE_WAY] = "one-way cut",
	[FAULT_FABRIC] = "one network cut",
	[FAULT_DROP] = "drop",
	[FAULT_FLAP] = "flap",
	[FAULT_SLOW] = "slow network",
	[FAULT_KILL] = "kill",
	[FAULT_POWER] = "power",
	[FAULT_BLACKOUT] = "blackout",
	[FAULT_STOP] = "stop",
	[FAULT_SLUGGISH] = "slow disk",
	[FAULT_HANG] = "disk hangs",
	[FAULT_EIO] = "EIO",
	[FAULT_FULL] = "disk full",
	[FAULT_FLIP] = "bit flip",
	[FAULT_META] = "metadata error",
	[FAULT_PROMOTE] = "promote",
	[FAULT_ALONE] = "promote --alone",
	[FAULT_FORCE] = "promote --force",
	[FAULT_DEMOTE] = "demote",
	[FAULT_RESYNC] = "resync",
	[FAULT_DISCARD] = "resync --discard",
	[FAULT_VERIFY] = "verify",
	[FAULT_CHECKPOINT] = "checkpoint",
	[FAULT_ARBITER_SLOW] = "arbiter slow",
	[FAULT_ARBITER_GONE] = "arbiter gone",
	[FAULT_ARBITER_CUT] = "arbiter cut off",
};

static const double weights[FAULT_COUNT] = {
	[FAULT_RESET] = 3,	   [FAULT_CUT] = 2,
	[FAULT_LONG_CUT] = 1,	   [FAULT_ONE_WAY] = 1,
	[FAULT_FABRIC] = 1,	   [FAULT_DROP] = 0.7,
	[FAULT_FLAP] = 0.7,	   [FAULT_SLOW] = 1,
	[FAULT_KILL] = 2,	   [FAULT_POWER] = 2,
	[FAULT_BLACKOUT] = 0.5,	   [FAULT_STOP] = 0.7,
	[FAULT_SLUGGISH] = 0.5,	   [FAULT_HANG] = 0.5,
	[FAULT_EIO] = 0.5,	   [FAULT_FULL] = 0.3,
	[FAULT_FLIP] = 0.3,	   [FAULT_META] = 0.2,
	[FAULT_PROMOTE] = 2,	   [FAULT_ALONE] = 0.7,
	[FAULT_FORCE] = 0.15,	   [FAULT_DEMOTE] = 1.5,
	[FAULT_RESYNC] = 0.5,	   [FAULT_DISCARD] = 0.15,
	[FAULT_ARBITER_SLOW] = 1,  [FAULT_ARBITER_GONE] = 0.7,
	[FAULT_ARBITER_CUT] = 0.7, [FAULT_VERIFY] = 0.7,
	[FAULT_CHECKPOINT] = 3,
};

/* What lasts. */
static struct lasting {
	uint64_t heal_ns[SIM_FABRICS][SIM_NODES];
	uint64_t calm_ns;    /* the network is fast again; 0: it is */
	uint64_t arbiter_ns; /* the arbiter is well; 0: it is */
	uint64_t flap_ns;    /* ends then */
	uint64_t turn_ns;    /* the next cut, or heal, of it */
	bool flap_cut;
} lasting;

static int next_fault;

static uint64_t
below(uint64_t limit)
{
	return sim_below(STREAM_FAULT, limit);
}

static bool
chance(double probability)
{
	return sim_chance(STREAM_FAULT, probability);
}

/* --- the plan --- */

/* Some kinds only, so that a story can have much of one. */
static void
choose_kinds(double *ret_weights)
{
	double left = sim_chance(STREAM_PLAN, 0.3) ? 1 : 0.5;

	for (int i = 0; i < FAULT_COUNT; i++)
		ret_weights[i] =
			sim_chance(STREAM_PLAN, left)
				? weights[i] * (0.5 + sim_random(STREAM_PLAN))
				: 0;
	ret_weights[FAULT_RESET] += 0.2; /* there is one at least */
	if (sim->has_arbiter)
		return;
	for (int i = FAULT_ARBITER_SLOW; i <= FAULT_ARBITER_CUT; i++)
		ret_weights[i] = 0;
}

static enum sim_fault
choose(const double *of)
{
	double total = 0, at;

	for (int i = 0; i < FAULT_COUNT; i++)
		total += of[i];
	at = sim_random(STREAM_PLAN) * total;
	for (int i = 0; i < FAULT_COUNT; i++) {
		at -= of[i];
		if (at < 0)
			return (enum sim_fault)i;
	}
	return FAULT_RESET;
}

void
faults_plan(void)
{
	double pace = 0.3 + 1.5 * sim_random(STREAM_PLAN); /* seconds */
	double at = (double)sim->now_ns + 1e9, of[FAULT_COUNT];

	lasting = (struct lasting){ .calm_ns = 0 };
	next_fault = 0;
	choose_kinds(of);
	for (sim->faults = 0; sim->faults < SIM_FAULTS; sim->faults++) {
		struct fault *fault = &sim->fault[sim->faults];

		fault->at_ns = (uint64_t)at;
		fault->kind = choose(of);
		fault->random = (uint64_t)(sim_random(STREAM_PLAN) * 0x1p52);
		at += 2 * pace * sim_random(STREAM_PLAN) * 1e9;
	}
}

/* --- the network --- */

static void
cut(int fabric, int from, uint64_t length_ns)
{
	uint64_t heal_ns = sim->now_ns + length_ns;

	world_say("what %s sends over network %d is cut for %llu ms",
		  sim->node[from].name, fabric, length_ns / NS_PER_MS);
	net_cut(&sim->net, fabric, from, true);
	if (lasting.heal_ns[fabric][from] < heal_ns)
		lasting.heal_ns[fabric][from] = heal_ns;
}

static void
cut_all(uint64_t length_ns)
{
	for (int fabric = 0; fabric < SIM_FABRICS; fabric++) {
		for (int i = 0; i < SIM_NODES; i++)
			cut(fabric, i, length_ns);
	}
}

static void
flap(void)
{
	if (sim->now_ns >= lasting.flap_ns || sim->now_ns < lasting.turn_ns)
		return;
	lasting.flap_cut = !lasting.flap_cut;
	if (lasting.flap_cut)
		cut_all(NS_PER_MS + below(SIM_GRACE_NS * 5 / 4));
	lasting.turn_ns = sim->now_ns + below(NS_PER_S);
}

static bool
befall_network(enum sim_fault fault, int index)
{
	switch (fault) {
	case FAULT_RESET:
		world_say("connections break");
		net_reset(&sim->net);
		return true;
	case FAULT_CUT:
		cut_all(below(SIM_GRACE_NS - 200 * NS_PER_MS));
		return true;
	case FAULT_LONG_CUT:
		cut_all(SIM_GRACE_NS + below(4 * NS_PER_S));
		return true;
	case FAULT_ONE_WAY:
		for (int fabric = 0; fabric < SIM_FABRICS; fabric++)
			cut(fabric, index, below(5 * NS_PER_S));
		return true;
	case FAULT_FABRIC:
		for (int i = 0; i < SIM_NODES; i++)
			cut(index % SIM_FABRICS, i, below(6 * NS_PER_S));
		if (chance(0.5))
			net_reset(&sim->net);
		return true;
	case FAULT_DROP:
		world_say("what is on its way is lost");
		net_drop(&sim->net);
		return true;
	case FAULT_FLAP:
		world_say("the network flaps");
		lasting.flap_ns = sim->now_ns + below(5 * NS_PER_S);
		lasting.turn_ns = 0;
		return true;
	case FAULT_SLOW:
		sim->net.latency_ns = below(300 * NS_PER_MS);
		sim->net.jitter_ns = below(100 * NS_PER_MS);
		lasting.calm_ns = sim->now_ns + below(3 * NS_PER_S);
		world_say("the network is slow: %llu ms",
			  sim->net.latency_ns / NS_PER_MS);
		return true;
	default:
		return false;
	}
}

/* --- hosts and disks --- */

static bool
strike(struct node *node, bool power)
{
	if (!node_is_live(node))
		return false;
	if (chance(0.7)) {
		node->doom = 1 + (unsigned int)below(60);
		node->doom_power = power;
		return true;
	}
	node_die(node, power);
	operator_restarts(node);
	return true;
}

static bool
befall_host(enum sim_fault fault, struct node *node)
{
	bool struck;

	switch (fault) {
	case FAULT_KILL:
		return strike(node, false);
	case FAULT_POWER:
		return strike(node, true);
	case FAULT_BLACKOUT:
		struck = strike(node, true);
		return strike(node_peer(node), true) || struck;
	case FAULT_STOP:
		if (!node_is_live(node) || node->stopping)
			return false;
		node_stop(node);
		return true;
	case FAULT_SLUGGISH:
		node->slow_until_ns = sim->now_ns + below(6 * NS_PER_S);
		world_say("the disk of %s is slow", node->name);
		return true;
	case FAULT_HANG:
		node->hang_until_ns = sim->now_ns + below(8 * NS_PER_S);
		world_say("the disk of %s hangs", node->name);
		return true;
	case FAULT_EIO:
		node->errors += 1 + (unsigned int)below(2);
		return false; /* counted when it happens, as the next two */
	case FAULT_FULL:
		node->full_until_ns = sim->now_ns + below(300 * NS_PER_MS);
		return false;
	case FAULT_FLIP:
		node->flips++;
		return false;
	case FAULT_META:
		world_say("the next metadata of %s fail", node->name);
		if (chance(0.5))
			node->file.fail_write_at = node->file.writes + 1;
		else
			node->file.fail_flush_at = node->file.flushes + 1;
		node->file.error = chance(0.5) ? -EIO : -ENOSPC;
		return true;
	default:
		return false;
	}
}

/* --- people --- */

static bool
befall_operator(enum sim_fault fault, struct node *node)
{
	bool dead = !node_peer(node)->alive;

	if (!node_is_live(node) || node->stopping)
		return false;
	switch (fault) {
	case FAULT_PROMOTE:
		/* His word that the other one is dead; sometimes he is wrong.
		 * The arbiter knows better. */
		if (!dead && chance(sim->has_arbiter ? 0.3 : 0.9))
			return false;
		return operator_promotes(node, "promote");
	case FAULT_ALONE:
		if (!dead && chance(sim->has_arbiter ? 0.3 : 0.8))
			return false;
		return node_command(node, "promote --alone") == 0;
	case FAULT_FORCE:
		if (!node_is_primary(node))
			return operator_promotes(node, "promote --force");
		return node_command(node, "promote --alone --force") == 0;
	case FAULT_DEMOTE:
		return operator_demotes(node);
	case FAULT_RESYNC:
		return node_command(node, "resync") == 0;
	case FAULT_DISCARD:
		return node_command(node, "resync --discard") == 0;
	case FAULT_CHECKPOINT:
		return shadow_command(node, chance(0.8), below(6));
	case FAULT_VERIFY:
		return node_command(node, chance(0.5) ? "verify"
						      : "verify --repair") == 0;
	default:
		return false;
	}
}

/* --- the arbiter --- */

static bool
befall_arbiter(enum sim_fault fault, int index)
{
	struct sim_arbiter *arbiter = &sim->arbiter;

	lasting.arbiter_ns = sim->now_ns + below(5 * NS_PER_S);
	switch (fault) {
	case FAULT_ARBITER_SLOW:
		arbiter->latency_ns = below(1200 * NS_PER_MS);
		world_say("the arbiter is slow");
		return true;
	case FAULT_ARBITER_GONE:
		arbiter->gone = true;
		world_say("the arbiter is gone");
		return true;
	case FAULT_ARBITER_CUT:
		arbiter->cut[index] = true;
		world_say("%s does not reach the arbiter",
			  sim->node[index].name);
		return true;
	default:
		return false;
	}
}

/* --- */

static bool
befall(enum sim_fault fault)
{
	int index = (int)below(SIM_NODES);

	if (fault <= FAULT_META)
		world_ails(sim->now_ns);
	if (fault <= FAULT_SLOW)
		return befall_network(fault, index);
	if (fault <= FAULT_META)
		return befall_host(fault, &sim->node[index]);
	if (fault <= FAULT_CHECKPOINT)
		return befall_operator(fault, &sim->node[index]);
	return befall_arbiter(fault, index);
}

static bool
network_is_ill(void)
{
	return lasting.calm_ns != 0 || sim->now_ns < lasting.flap_ns ||
	       !net_is_whole(&sim->net);
}

void
faults_run(void)
{
	flap();
	if (network_is_ill())
		world_ails(sim->now_ns);
	while (next_fault < sim->faults &&
	       sim->fault[next_fault].at_ns <= sim->now_ns) {
		struct fault *fault = &sim->fault[next_fault++];

		if (fault->left_out)
			continue;
		sim->random[STREAM_FAULT] = fault->random;
		sim->fault_befell[next_fault - 1] = true;
		world_say("fault %d: %s", next_fault - 1,
			  sim_fault_names[fault->kind]);
		if (befall(fault->kind)) {
			sim->befell[fault->kind]++;
			sim->befallen++;
		}
	}
}

bool
faults_are_over(void)
{
	return next_fault == sim->faults;
}

/* --- healing --- */

static void
heal_arbiter(void)
{
	lasting.arbiter_ns = 0;
	sim->arbiter.gone = false;
	sim->arbiter.latency_ns = 1 * NS_PER_MS;
	memset(sim->arbiter.cut, 0, sizeof(sim->arbiter.cut));
	world_say("the arbiter is well");
}

static void
heal_node(struct node *node)
{
	node->slow_until_ns = 0;
	node->hang_until_ns = 0;
	node->full_until_ns = 0;
	node->errors = 0;
	node->flips = 0;
	node->doom = 0;
	node->file.fail_write_at = 0;
	node->file.fail_flush_at = 0;
}

static void
heal_network(void)
{
	for (int fabric = 0; fabric < SIM_FABRICS; fabric++) {
		for (int i = 0; i < SIM_NODES; i++) {
			if (!sim->net.cut[fabric][i] ||
			    lasting.heal_ns[fabric][i] > sim->now_ns)
				continue;
			world_say("what %s sends over network %d gets through",
				  sim->node[i].name, fabric);
			net_cut(&sim->net, fabric, i, false);
		}
	}
	if (lasting.calm_ns != 0 && lasting.calm_ns <= sim->now_ns) {
		lasting.calm_ns = 0;
		sim->net.latency_ns = 20 * NS_PER_US;
		sim->net.jitter_ns = 500 * NS_PER_US;
	}
}

void
faults_heal(bool all)
{
	if (all) {
		world_ails(sim->now_ns);
		memset(lasting.heal_ns, 0, sizeof(lasting.heal_ns));
		lasting.calm_ns = sim->now_ns;
		lasting.flap_ns = 0;
		for (int i = 0; i < SIM_NODES; i++)
			heal_node(&sim->node[i]);
	}
	heal_network();
	if (lasting.arbiter_ns != 0 &&
	    (all || lasting.arbiter_ns <= sim->now_ns))
		heal_arbiter();
}
