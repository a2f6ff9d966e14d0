/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shadow - see sim.h: what the disk held when a checkpoint was cut, and what
 * hosts say has changed since (A10, I5).
 *
 * The cut is when the replica has heard that the epoch that follows is durable:
 * from then on no write carries an older one.  (It may be durable earlier, by
 * another flush of the file.)  What was acknowledged then, or on its way, is
 * what a sector may have held.  Whatever a host answers, later and whichever
 * host it is, must name each region in which its disk holds anything else.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/image.h"
#include "core/reason.h"
#include "replication/replica_private.h"
#include "tests/sim/sim.h"

struct shadow {
	struct shadow *next; /* owned */
	char name[METADATA_CHECKPOINT_NAME];
	uint64_t timeline, epoch;
	struct view *view; /* owned: of its moment */
};

static struct shadow *
find(const char *name, uint64_t timeline, uint64_t epoch)
{
	struct shadow *shadow = sim->shadows;

	while (shadow != NULL &&
	       (shadow->timeline != timeline || shadow->epoch != epoch ||
		strcmp(shadow->name, name) != 0))
		shadow = shadow->next;
	return shadow;
}

void
shadow_look(struct node *node)
{
	const struct metadata_state *now = &node->durable;
	const struct replica *replica = node_replica(node);

	if (now->checkpoints == 0 || replica == NULL ||
	    replica->epoch != now->epoch)
		return;

	for (unsigned int i = 0; i < now->checkpoints; i++) {
		const struct metadata_checkpoint *row = &now->checkpoint[i];
		struct shadow *shadow;

		if (find(row->name, row->timeline, row->epoch) != NULL ||
		    row->timeline != node_timeline(node) ||
		    row->epoch + 1 != now->epoch ||
		    now->role != METADATA_PRIMARY)
			continue;
		shadow = calloc(1, sizeof(*shadow));
		if (shadow == NULL)
			abort();
		memcpy(shadow->name, row->name, sizeof(shadow->name));
		shadow->timeline = row->timeline;
		shadow->epoch = row->epoch;
		shadow->view = oracle_snapshot(node);
		shadow->next = sim->shadows;
		sim->shadows = shadow;
		sim->checkpoints++;
		world_say("%s: checkpoint %s is cut at epoch %" PRIu64,
			  node->name, shadow->name, shadow->epoch);
	}
}

/* --- answers --- */

/* Regions are SIM_REGION bytes, as nodes are started. */
struct answer {
	uint64_t timeline, epoch; /* of the checkpoint that is meant */
	bool changed[SIM_LARGE / SIM_REGION];
};

static bool
take_runs(const json_t *runs, struct answer *answer)
{
	const json_t *run;
	size_t index;

	json_array_foreach (runs, index, run) {
		uint64_t offset =
			(uint64_t)json_integer_value(json_array_get(run, 0));
		uint64_t length =
			(uint64_t)json_integer_value(json_array_get(run, 1));

		if (offset > sim->disk_bytes ||
		    length > sim->disk_bytes - offset)
			return false;
		for (uint64_t at = offset; at < offset + length;
		     at += SIM_REGION)
			answer->changed[at / SIM_REGION] = true;
	}
	return true;
}

static void
take_checkpoint(const json_t *result, struct answer *answer)
{
	const char *timeline =
		json_string_value(json_object_get(result, "timeline"));

	answer->timeline = timeline != NULL ? strtoull(timeline, NULL, 16) : 0;
	answer->epoch =
		(uint64_t)json_integer_value(json_object_get(result, "epoch"));
}

/* False: it is refused.  No event comes between the slices. */
static bool
ask(struct node *node, const char *name, struct answer *ret_answer)
{
	uint64_t from = 0;

	memset(ret_answer, 0, sizeof(*ret_answer));
	while (from < sim->disk_bytes) {
		char command[128];
		struct reason reason = { "" };
		json_t *result = json_object();
		json_t *next;
		int r;

		(void)snprintf(command, sizeof(command), "changed %s %" PRIu64,
			       name, from);
		r = image_stack_command(vbd_images(node->vbd), "remus", command,
					result, &reason);
		next = json_object_get(result, "next");
		if (r == 0 &&
		    (!take_runs(json_object_get(result, "runs"), ret_answer) ||
		     !json_is_integer(next) ||
		     (uint64_t)json_integer_value(next) <= from))
			world_fail("%s answers \"%s\" with nonsense",
				   node->name, command);
		from = (uint64_t)json_integer_value(next);
		take_checkpoint(result, ret_answer);
		json_decref(result);
		if (r < 0 || sim->failed)
			return false;
	}
	return true;
}

static void
check(const struct node *node, const struct shadow *shadow,
      const struct answer *answer)
{
	for (uint64_t i = 0; i < sim_sectors() && !sim->failed; i++) {
		const unsigned char *bytes =
			node->disk.current + i * SIM_SECTOR;
		uint64_t value;

		if (answer->changed[i * SIM_SECTOR / SIM_REGION])
			continue;
		value = oracle_value(node, bytes, i);
		if (value == SIM_MADE_UP || oracle_was(shadow->view, i, value))
			continue;
		world_fail("A10: %s says that nothing changed around sector "
			   "%" PRIu64 " since checkpoint %s, and there is "
			   "write %" PRIu64 " now",
			   node->name, i, shadow->name, value / sim_sectors());
	}
}

/*
 * Names are those that are durable.  What the name stands for, the answer says:
 * a host may have given it again and not have made that durable yet.  A shadow
 * is only of a checkpoint that was cut here.
 */
void
shadow_ask(struct node *node)
{
	const struct metadata_state *now = &node->durable;
	struct answer answer;

	if (node_replica(node) == NULL || node->stopping)
		return;
	for (unsigned int i = 0; i < now->checkpoints && !sim->failed; i++) {
		const char *name = now->checkpoint[i].name;
		const struct shadow *shadow;

		if (!ask(node, name, &answer)) {
			sim->answers_refused++;
			continue;
		}
		shadow = find(name, answer.timeline, answer.epoch);
		if (shadow == NULL)
			continue;
		sim->answers++;
		check(node, shadow, &answer);
	}
}

bool
shadow_command(struct node *node, bool create, uint64_t number)
{
	char command[64];

	(void)snprintf(command, sizeof(command), "checkpoint %s c%" PRIu64,
		       create ? "create" : "delete", number);
	return node_command(node, command) == 0;
}

void
shadow_done(struct world *world)
{
	while (world->shadows != NULL) {
		struct shadow *next = world->shadows->next;

		free(world->shadows->view);
		free(world->shadows);
		world->shadows = next;
	}
}
