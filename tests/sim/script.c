/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * script - see sim.h: the story of a seed.  Faults, while two guests write and
 * operators err; then peace, in which the two have to come in sync and to be
 * equal within a time.
 */
#include <string.h>

#include "replication/replica_private.h"
#include "tests/sim/sim.h"

#define STEPS_MAX     20000000ull
#define LOOK_NS	      (20 * NS_PER_MS)
#define QUEUES_NS     (200 * NS_PER_MS)
#define ROUND_NS      NS_PER_S
#define PERIOD_MAX_NS (4 * SIM_PERIOD_NS)
#define SETTLE_NS     (3 * NS_PER_S) /* for what is told last */
#define VERIFY_NS     (30 * NS_PER_S)

bool
script_run_until(uint64_t until_ns)
{
	while (sim->now_ns < until_ns && !sim->failed) {
		world_step(until_ns);
		if (sim->steps > STEPS_MAX)
			world_fail("it goes round and round");
	}
	return !sim->failed;
}

/* The disks, since they were compared last. */
static bool
has_changed(void)
{
	bool changed = false;

	for (int i = 0; i < SIM_NODES; i++) {
		uint64_t mark = medium_mark(&sim->node[i].disk);

		changed = changed || mark != sim->equal_marks[i];
		sim->equal_marks[i] = mark;
	}
	return changed;
}

/* A11, I6, and, when nothing is under way, A5. */
static void
look(void)
{
	for (int i = 0; i < SIM_NODES; i++) {
		laws_of_queues(&sim->node[i]);
		laws_of_waiting(&sim->node[i]);
		laws_of_verify(&sim->node[i]);
	}
	if (!pair_is_idle() || !pair_is_in_sync() || !has_changed())
		return;
	sim->equal_checks++;
	oracle_equal();
}

static bool
has_enough(uint64_t end)
{
	if (sim->now_ns < end)
		return false;
	return (sim->writes >= SIM_WRITES_MIN &&
		sim->befallen >= SIM_FAULTS_MIN) ||
	       sim->now_ns >= end + PERIOD_MAX_NS || faults_are_over();
}

static void
run_faults(void)
{
	uint64_t end = sim->now_ns + SIM_PERIOD_NS;
	uint64_t looked_ns = sim->now_ns, mended_ns = sim->now_ns;
	unsigned int round = 0;

	while (!has_enough(end) && !sim->failed) {
		if (!script_run_until(sim->now_ns + LOOK_NS))
			return;
		faults_heal(false);
		operator_starts(false);
		operator_fail_over();
		faults_run();
		if (sim->now_ns >= looked_ns + QUEUES_NS) {
			looked_ns = sim->now_ns;
			look();
		}
		if (sim->now_ns >= mended_ns + 2 * ROUND_NS) {
			mended_ns = sim->now_ns;
			tracking_of_pair();
			for (int i = 0; i < SIM_NODES; i++)
				shadow_ask(&sim->node[i]);
			if (sim_chance(STREAM_SCRIPT, 0.3))
				operator_mends(round++ % 15);
		}
	}
}

/* At rest, in sync: nothing is left over. */
static void
judge(void)
{
	look();
	oracle_readable();
	for (int i = 0; i < SIM_NODES && !sim->failed; i++)
		laws_of_rest(&sim->node[i]);
}

/* What reads made up is found, and mended: now the two are equal without
 * exceptions. */
static void
verify(void)
{
	uint64_t end = sim->now_ns + VERIFY_NS;
	struct node *node = &sim->node[node_is_primary(&sim->node[0]) ? 0 : 1];
	const struct replica *replica = node_replica(node);

	/* A connection may just be on its way back. */
	while (node_command(node, "verify --repair") < 0 && !sim->failed) {
		if (sim->now_ns >= end)
			world_fail("a verification of a pair in sync is "
				   "refused");
		(void)script_run_until(sim->now_ns + LOOK_NS);
	}
	if (sim->failed)
		return;
	while (replica->verify.state == VERIFY_RUNNING && !sim->failed &&
	       sim->now_ns < end)
		(void)script_run_until(sim->now_ns + LOOK_NS);
	laws_of_verify(node);
	if (!sim->failed && replica->verify.state != VERIFY_DONE)
		world_fail("a verification does not end");
	else if (memcmp(sim->node[0].disk.current, sim->node[1].disk.current,
			sim->disk_bytes) != 0)
		world_fail("A5: verified and repaired, and not equal");
}

void
script_end(void)
{
	uint64_t end = sim->now_ns + SIM_PEACE_NS;
	unsigned int round = 0;
	bool rests = false;

	faults_heal(true);
	sim->calm = true;
	sim->calm_ns = sim->now_ns;
	world_say("the faults are over");
	while (!(pair_is_in_sync() && sim->writes >= sim->writes_min) &&
	       !sim->failed && sim->now_ns < end) {
		operator_mends(round++);
		(void)script_run_until(sim->now_ns + ROUND_NS);
		look();
	}
	sim->peace_ns = sim->now_ns - sim->calm_ns;
	sim->quiet = true;
	while (!rests && !sim->failed && sim->now_ns < end) {
		operator_mends(round++);
		(void)script_run_until(sim->now_ns + ROUND_NS / 10);
		if (!pair_is_in_sync() || !pair_is_idle())
			continue;
		(void)script_run_until(sim->now_ns + SETTLE_NS);
		rests = pair_is_in_sync() && pair_is_idle();
	}
	if (sim->failed)
		return;
	if (rests) {
		judge();
		for (int i = 0; i < SIM_NODES && !sim->failed; i++)
			shadow_ask(&sim->node[i]);
		if (!sim->failed)
			verify();
		return;
	}
	pair_say();
	world_fail("I6: the two do not come in sync, %llu s after the last "
		   "fault",
		   SIM_PEACE_NS / NS_PER_S);
}

void
script_run(void)
{
	sim->writes_min = SIM_WRITES_MIN;
	faults_plan();
	(void)node_start(&sim->node[1]);
	(void)node_start(&sim->node[0]);
	run_faults();
	script_end();
}
