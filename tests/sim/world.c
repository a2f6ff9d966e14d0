/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * world - see sim.h: nodes, and the time they share.
 *
 * Time stands still while anything happens.  A step moves all clocks to what
 * is due next, lets each living node run, and delivers what the network has.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/image.h"
#include "core/log.h"
#include "core/reason.h"
#include "drivers/random.h"
#include "replication/remus.h"
#include "tests/sim/sim.h"

struct world *sim;

/* --- words --- */

static void
say(const char *format, va_list args)
{
	printf("%12.6f  ", (double)sim->now_ns / 1e9);
	(void)vprintf(format, args);
	printf("\n");
	(void)fflush(stdout);
}

void
world_say(const char *format, ...)
{
	va_list args;

	if (!sim->trace)
		return;
	va_start(args, format);
	say(format, args);
	va_end(args);
}

void
world_fail(const char *format, ...)
{
	va_list args;

	if (sim->failed)
		return;
	sim->failed = true;
	va_start(args, format);
	(void)vsnprintf(sim->why, sizeof(sim->why), format, args);
	va_end(args);
	world_say("FAILED: %s", sim->why);
}

/* --- chance --- */

double
sim_random(void)
{
	return random_next(&sim->random);
}

uint64_t
sim_below(uint64_t limit)
{
	return (uint64_t)(sim_random() * (double)limit);
}

bool
sim_chance(double probability)
{
	return sim_random() < probability;
}

/* --- what replicas need of their program --- */

static struct store *
open_store(struct io *io, const char *path, bool create, struct reason *reason)
{
	struct node *node = &sim->node[path[0] == 'a' ? 0 : 1];

	(void)io;
	(void)create;
	(void)reason;
	assert(node->file.store == NULL);
	return fake_store_open(&node->file, node->loop);
}

static uint64_t
some_number(void *arg)
{
	(void)arg;
	return (uint64_t)(sim_random() * 0x1p52) << 12 | sim_below(4096);
}

static const struct transport *const transports[] = { &transport_sim, NULL };

const struct remus_program remus_program = {
	.transports = transports,
	.open_store = open_store,
	.random = some_number,
};

static const struct driver_type types[] = {
	{ "remus", -1, &tapdisk_remus, "" },
	{ "sim", -1, &tapdisk_sim, "" },
	{ NULL, -1, NULL, NULL },
};

/* --- nodes --- */

struct node *
node_peer(const struct node *node)
{
	return &sim->node[1 - node->index];
}

struct node *
node_of(const struct loop *loop)
{
	for (int i = 0; i < SIM_NODES; i++) {
		if (sim->node[i].loop == loop)
			return &sim->node[i];
	}
	return NULL; /* of a dead life */
}

bool
node_is_live(const struct node *node)
{
	return node != NULL && node->alive && !node->dying;
}

bool
node_acts(struct node *node)
{
	if (!node_is_live(node))
		return false;
	if (node->doom == 0 || --node->doom > 0)
		return true;
	world_say("%s is struck", node->name);
	node->dying = true;
	fake_file_abandon(&node->file);
	return false;
}

uint64_t
node_timeline(const struct node *node)
{
	const struct history *history = &node->durable.history;

	if (!node->has_durable || history->count == 0)
		return 0;
	return history->entry[history->count - 1].timeline;
}

/* What the file holds is what the node is. */
static void
on_flushed(struct fake_file *file)
{
	struct node *node = container_of(file, struct node, file);
	static struct metadata_state best, state;
	unsigned char *bytes = file->medium.durable;
	uint64_t generation, highest = 0;
	bool found = false, copied;

	for (size_t i = 0; i < 2; i++) {
		if (metadata_decode(bytes + i * METADATA_COPY_BYTES,
				    METADATA_COPY_BYTES, &state, &generation,
				    NULL) < 0 ||
		    (found && generation < highest))
			continue;
		found = true;
		highest = generation;
		best = state;
	}
	if (!found)
		return;
	copied = node->has_durable && !node->durable.consistent &&
		 best.consistent && best.role == METADATA_SECONDARY;
	node->durable = best;
	node->has_durable = true;
	world_say("%s durable: %s%s%s%s epoch %" PRIu64 " timeline %" PRIx64
		  " (%u) incarnation %" PRIu64 "%s",
		  node->name,
		  best.role == METADATA_PRIMARY ? "primary" : "secondary",
		  best.active ? " active" : "",
		  best.consistent ? "" : " inconsistent",
		  best.outdated ? " outdated" : "", best.epoch,
		  node_timeline(node), best.history.count, best.incarnation,
		  best.peer[0].may_be_synced ? " peer-may-be-synced" : "");
	oracle_durable(node);
	if (!copied)
		return;
	/* It is what the source is, whatever that had lost. */
	node->fuzzy = false;
	oracle_answers(node_peer(node));
}

bool
node_start(struct node *node)
{
	struct vbd_options options = { .flags = 0 };
	struct reason reason = { "" };
	char name[512];
	int r;

	assert(!node->alive);
	node->loop = loop_new_simulated();
	loop_advance(node->loop, sim->now_ns);
	node->pool = pool_new(node->loop, POOL_MAX, &reason);
	node->vbd = vbd_new(node->loop, NULL, types);
	vbd_set_pool(node->vbd, node->pool);
	node->alive = true;
	node->dying = false;
	node->doom = 0;
	node->stopping = false;
	node->admitted = false;
	node->issue_ns = sim->now_ns;
	node->restart_ns = 0;
	(void)snprintf(name, sizeof(name),
		       "remus:role=%s,listen=sim://%s,peer=sim://%s,ack=%s,"
		       "on-peer-loss=%s,meta=%s,ping-ms=200,dead-ms=1000,"
		       "grace-ms=2000,connect-ms=100,ack-limit-ms=4000,"
		       "retry-ms=500|sim:%s",
		       node->role == METADATA_PRIMARY ? "primary" : "secondary",
		       node->address, node_peer(node)->address, sim->ack,
		       sim->on_loss, node->name, node->name);
	world_say("%s starts: %s", node->name, name);
	options.image = name;
	r = vbd_open(node->vbd, &options, &reason);
	if (r == 0)
		return true;
	world_say("%s does not start: %s", node->name, reason.text);
	node_die(node, false);
	return false;
}

void
node_die(struct node *node, bool power)
{
	assert(node->alive);
	world_say("%s %s", node->name, power ? "loses power" : "dies");
	node->alive = false;
	node->dying = false;
	disk_dies(node, power); /* it may still take what guests wrote */
	guest_dies(node);
	net_node_dies(&sim->net, node, power);
	fake_file_abandon(&node->file);
	if (power) {
		fake_file_crash(&node->file);
		node->fuzzy = true;
	}
	/* at level received, memory counts */
	if (strcmp(sim->ack, "received") == 0)
		node->fuzzy = true;
	/* Nobody looks at it again: its pages are worth more elsewhere. */
	(void)madvise(pool_base(node->pool), pool_size(node->pool),
		      MADV_DONTNEED);
	node->loop = NULL;
	node->vbd = NULL;
	node->pool = NULL;
}

static void
on_stopped(struct vbd_waiter *waiter, int error, const struct reason *reason)
{
	struct node *node = container_of(waiter, struct node, stopped);

	(void)reason;
	world_say("%s has stopped: %d", node->name, error);
	node->dying = true; /* the step buries it */
}

void
node_stop(struct node *node)
{
	world_say("%s is to stop", node->name);
	node->stopping = true;
	node->stop_ns = sim->now_ns;
	node->stopped.on_done = on_stopped;
	vbd_close(node->vbd, &node->stopped);
}

bool
node_admits(const struct node *node)
{
	return node_is_live(node) && !node->stopping &&
	       node_timeline(node) != 0 &&
	       vbd_state(node->vbd) == VBD_RUNNING &&
	       vbd_admits(node->vbd, NULL) == 0;
}

int
node_command(struct node *node, const char *command)
{
	struct reason reason = { "" };
	json_t *result = json_object();
	int r = image_stack_command(vbd_images(node->vbd), "remus", command,
				    result, &reason);

	json_decref(result);
	world_say("%s is ordered to %s: %s", node->name, command,
		  r == 0 ? "yes" : reason.text);
	return r;
}

void
node_status(struct node *node, const char *key, char *ret_text, size_t length)
{
	json_t *images = image_stack_json(vbd_images(node->vbd));
	json_t *driver = json_object_get(json_array_get(images, 0), "driver");
	json_t *value = json_object_get(driver, key);
	const char *text = json_is_true(value)	  ? "true"
			   : json_is_false(value) ? "false"
						  : json_string_value(value);

	(void)snprintf(ret_text, length, "%s", text != NULL ? text : "");
	json_decref(images);
}

bool
node_status_is(struct node *node, const char *key, const char *value)
{
	char text[512];

	node_status(node, key, text, sizeof(text));
	return strcmp(text, value) == 0;
}

/* --- time --- */

static uint64_t
earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void
node_run(struct node *node)
{
	if (!node->alive)
		return;
	log_set_disk(node->name);
	loop_advance(node->loop, sim->now_ns - loop_now(node->loop));
	loop_run_until_idle(node->loop);
	log_set_disk(NULL);
	if (node->dying) {
		bool stopped =
			node->stopping && vbd_state(node->vbd) == VBD_CLOSED;

		node_die(node, !stopped && node->doom_power);
		script_restarts(node);
		return;
	}
	if (node_admits(node) != node->admitted) {
		node->admitted = !node->admitted;
		world_say("%s %s", node->name,
			  node->admitted ? "serves" : "serves nobody");
	}
}

void
world_step(uint64_t until_ns)
{
	uint64_t next = earlier(until_ns, net_next(&sim->net));
	int first = (int)sim_below(SIM_NODES);

	for (int i = 0; i < SIM_NODES; i++) {
		struct node *node = &sim->node[i];

		if (!node->alive)
			continue;
		next = earlier(next, loop_next(node->loop));
		next = earlier(next, node->issue_ns);
	}
	if (next > sim->now_ns)
		sim->now_ns = next;
	for (int i = 0; i < SIM_NODES && !sim->failed; i++)
		node_run(&sim->node[(first + i) % SIM_NODES]);
	net_run(&sim->net);
	for (int i = 0; i < SIM_NODES && !sim->failed; i++) {
		if (sim->node[i].alive && sim->node[i].issue_ns <= sim->now_ns)
			guest_issue(&sim->node[i]);
	}
}

/* --- life --- */

/* Every sector of the first disk has a value of its own; half are zeros.  The
 * second is full of what must not be seen. */
static void
fill(struct node *node)
{
	for (uint64_t i = 0; i < SIM_SECTORS; i++) {
		uint64_t value = 0;
		unsigned char bytes[SIM_SECTOR];

		if (node->index == 1)
			value = (0xbadull << 48) + i;
		else if (i / 256 % 2 == 0)
			value = ++sim->next_id * SIM_SECTORS + i;
		for (size_t at = 0; at < sizeof(bytes); at += sizeof(value))
			memcpy(bytes + at, &value, sizeof(value));
		(void)medium_write(&node->disk, bytes, sizeof(bytes),
				   i * SIM_SECTOR);
	}
	medium_flush(&node->disk, medium_mark(&node->disk));
}

struct world *
world_new(uint64_t seed, bool trace)
{
	static const char *const acks[] = { "written", "received", "durable" };
	static const char *const names[] = { "a", "b" };
	static const char *const addresses[] = { "127.0.0.1:1", "127.0.0.1:2" };
	struct world *world = calloc(1, sizeof(*world));

	if (world == NULL)
		abort();
	sim = world;
	world->seed = seed;
	world->random = seed * 0x9e3779b97f4a7c15 + 1;
	world->trace = trace;
	world->now_ns = NS_PER_S;
	world->ack = acks[sim_chance(0.6) ? 0 : 1 + sim_below(2)];
	world->on_loss = sim_chance(0.7) ? "continue" : "freeze";
	net_init(&world->net);
	for (int i = 0; i < SIM_NODES; i++) {
		struct node *node = &world->node[i];

		node->index = i;
		node->name = names[i];
		node->address = addresses[i];
		node->role = i == 0 ? METADATA_PRIMARY : METADATA_SECONDARY;
		INIT_LIST_HEAD(&node->operations);
		INIT_LIST_HEAD(&node->requests);
		medium_init(&node->disk, SIM_DISK_BYTES, SIM_DISK_BYTES);
		fake_file_init(&node->file, sim_below(1ull << 40));
		node->file.delay_ns = 20 * NS_PER_US;
		node->file.spread_ns = 2 * NS_PER_MS;
		node->file.on_flushed = on_flushed;
		node->issue_ns = UINT64_MAX;
		fill(node);
	}
	return world;
}

struct world *
world_free(struct world *world)
{
	for (int i = 0; i < SIM_NODES; i++) {
		struct node *node = &world->node[i];

		if (node->alive)
			node_die(node, false);
		medium_done(&node->disk);
		fake_file_done(&node->file);
	}
	net_done(&world->net);
	oracle_done(world);
	free(world);
	sim = NULL;
	return NULL;
}
