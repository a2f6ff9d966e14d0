/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * explore - see sim.h: all short schedules of steps, from a pair in sync, each
 * to a pair in sync again.
 *
 * A step begins a while after the one before it: in the first variant so soon
 * that what that began is under way, in the second when it has come to rest.
 * In the first a crash is the process's and nobody arbitrates, in the second
 * it is the host's and there is an arbiter.  To cut is to name a checkpoint.  A
 * step that cannot be taken (a write without a primary) is none.
 */
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

enum step {
	STEP_WRITE,
	STEP_FLUSH,
	STEP_CUT,
	STEP_CRASH_A,
	STEP_CRASH_B,
	STEP_CUT_LINK,
	STEP_HEAL,
	STEP_PROMOTE,
	STEP_RECONNECT,
	STEP_COUNT,
};

static const char *const names[STEP_COUNT] = {
	[STEP_WRITE] = "write",
	[STEP_FLUSH] = "flush",
	[STEP_CUT] = "cut",
	[STEP_CRASH_A] = "crash a",
	[STEP_CRASH_B] = "crash b",
	[STEP_CUT_LINK] = "cut link",
	[STEP_HEAL] = "heal",
	[STEP_PROMOTE] = "promote",
	[STEP_RECONNECT] = "reconnect",
};

static struct node *
primary(void)
{
	for (int i = 0; i < SIM_NODES; i++) {
		if (node_admits(&sim->node[i]))
			return &sim->node[i];
	}
	return NULL;
}

static void
crash(struct node *node, bool power)
{
	if (node->alive)
		node_die(node, power);
	node->restart_ns = 0;
}

/* The link, and the nodes that died. */
static void
heal(void)
{
	for (int fabric = 0; fabric < SIM_FABRICS; fabric++) {
		for (int i = 0; i < SIM_NODES; i++)
			net_cut(&sim->net, fabric, i, false);
	}
	for (int i = 0; i < SIM_NODES; i++) {
		if (!sim->node[i].alive)
			(void)node_start(&sim->node[i]);
	}
}

static void
take(enum step step, unsigned int number, unsigned int variant)
{
	struct node *node = primary();

	world_say("step: %s", names[step]);
	switch (step) {
	case STEP_WRITE:
		/* overlapping ones */
		if (node != NULL)
			guest_submit(node, TD_OP_WRITE, 4 * (number % 3), 8);
		break;
	case STEP_FLUSH:
		if (node != NULL)
			guest_submit(node, TD_OP_FLUSH, 0, 0);
		break;
	case STEP_CUT:
		if (node != NULL)
			(void)shadow_command(node, true, number);
		break;
	case STEP_CRASH_A:
		crash(&sim->node[0], variant == 1);
		break;
	case STEP_CRASH_B:
		crash(&sim->node[1], variant == 1);
		break;
	case STEP_CUT_LINK:
		for (int fabric = 0; fabric < SIM_FABRICS; fabric++) {
			for (int i = 0; i < SIM_NODES; i++)
				net_cut(&sim->net, fabric, i, true);
		}
		break;
	case STEP_HEAL:
		heal();
		break;
	case STEP_PROMOTE:
		for (int i = 0; i < SIM_NODES; i++)
			(void)operator_promotes(&sim->node[i], "promote");
		break;
	case STEP_RECONNECT:
		net_reset(&sim->net);
		break;
	case STEP_COUNT:
		break;
	}
}

/* --- names --- */

static enum step
step_of(const char *text, size_t length)
{
	for (int i = 0; i < STEP_COUNT; i++) {
		if (strlen(names[i]) == length &&
		    strncmp(names[i], text, length) == 0)
			return (enum step)i;
	}
	return STEP_COUNT;
}

bool
explore_parse(const char *text)
{
	while (*text != '\0') {
		size_t length = strcspn(text, ",");

		if (step_of(text, length) == STEP_COUNT)
			return false;
		text += length + (text[length] == ',');
	}
	return true;
}

uint64_t
explore_count(unsigned int length)
{
	uint64_t count = 1;

	while (length-- > 0)
		count *= STEP_COUNT;
	return count;
}

bool
explore_name(unsigned int length, uint64_t number, char *ret_text, size_t room)
{
	size_t at = 0;

	ret_text[0] = '\0';
	for (unsigned int i = 0; i < length; i++) {
		int n = snprintf(ret_text + at, room - at, "%s%s",
				 i > 0 ? "," : "", names[number % STEP_COUNT]);

		if (n < 0 || (size_t)n >= room - at)
			return false;
		at += (size_t)n;
		number /= STEP_COUNT;
	}
	return number == 0;
}

/* --- a run --- */

static void
begin(void)
{
	uint64_t end = sim->now_ns + 20 * NS_PER_S;

	(void)node_start(&sim->node[1]);
	(void)node_start(&sim->node[0]);
	while (!pair_is_in_sync() && !sim->failed && sim->now_ns < end)
		(void)script_run_until(sim->now_ns + 100 * NS_PER_MS);
	if (!pair_is_in_sync())
		world_fail("the two do not come in sync at the beginning");
}

void
explore_run(const char *text, unsigned int variant)
{
	uint64_t pause = variant == 0 ? 300 * NS_PER_US : 4 * NS_PER_S;
	unsigned int number = 0;

	sim->quiet = true;
	sim->ack = "written";
	sim->on_loss = "continue";
	sim->has_arbiter = variant == 1;
	begin();
	while (*text != '\0' && !sim->failed) {
		size_t length = strcspn(text, ",");

		take(step_of(text, length), number++, variant);
		text += length + (text[length] == ',');
		(void)script_run_until(sim->now_ns + pause);
	}
	heal();
	script_end();
}
