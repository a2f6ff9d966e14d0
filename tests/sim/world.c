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
#include "replication/replica_private.h"
#include "tests/sim/sim.h"

struct world *sim;

/* --- words --- */

static void say(const char *format, va_list args)
	__attribute__((format(printf, 1, 0)));

static void
say(const char *format, va_list args)
{
	printf("%12.6f  ", (double)sim->now_ns / 1e9);
	(void)vprintf(format, args);
	printf("\n");
	(void)fflush(stdout);
}

void
world_ails(uint64_t until_ns)
{
	if (sim->trouble_ns < until_ns)
		sim->trouble_ns = until_ns;
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
sim_random(enum sim_stream stream)
{
	return random_next(&sim->random[stream]);
}

uint64_t
sim_below(enum sim_stream stream, uint64_t limit)
{
	return (uint64_t)(sim_random(stream) * (double)limit);
}

bool
sim_chance(enum sim_stream stream, double probability)
{
	return sim_random(stream) < probability;
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
	return (uint64_t)(sim_random(STREAM_NODE) * 0x1p52) << 12 |
	       sim_below(STREAM_NODE, 4096);
}

static const struct transport *const transports[] = { &transport_sim,
						      &transport_alt, NULL };
static const struct arbiter_type *const arbiters[] = { &arbiter_none,
						       &arbiter_sim, NULL };

const struct remus_program remus_program = {
	.transports = transports,
	.arbiters = arbiters,
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
	cover(node);
	if (node->doom == 0 || --node->doom > 0)
		return true;
	world_say("%s is struck", node->name);
	node->dying = true;
	fake_file_abandon(&node->file);
	return false;
}

/* The driver's data begin with its replica. */
struct replica *
node_replica(const struct node *node)
{
	const struct image_stack *images;

	if (!node_is_live(node) || vbd_state(node->vbd) == VBD_CLOSED)
		return NULL;
	images = vbd_images(node->vbd);
	for (int i = 0; i < images->count; i++) {
		if (images->images[i]->driver->ops == &tapdisk_remus)
			return *(struct replica **)images->images[i]
					->driver->data;
	}
	return NULL;
}

uint64_t
node_timeline(const struct node *node)
{
	const struct history *history = &node->durable.history;

	if (!node->has_durable || history->count == 0)
		return 0;
	return history->entry[history->count - 1].timeline;
}

/* The newer of the two copies that are whole, unless it is what the node is
 * known to be. */
static bool
read_durable(struct node *node, struct metadata_state *ret_state)
{
	const unsigned char *bytes = node->file.medium.durable;
	uint64_t generation, highest = 0;
	static struct metadata_state state;

	for (size_t i = 0; i < 2; i++) {
		const unsigned char *copy = bytes + i * METADATA_COPY_BYTES;

		if (metadata_decode_head(copy, METADATA_COPY_BYTES, &generation,
					 NULL) < 0 ||
		    generation <= highest || generation <= node->generation)
			continue;
		if (metadata_decode(copy, METADATA_COPY_BYTES, &state,
				    &generation, NULL) < 0)
			continue;
		highest = generation;
		*ret_state = state;
	}
	if (highest > 0)
		node->generation = highest;
	return highest > 0;
}

static void
say_durable(const struct node *node)
{
	const struct metadata_state *now = &node->durable;

	world_say("%s durable: %s%s%s%s epoch %" PRIu64 " timeline %" PRIx64
		  " (%u) incarnation %" PRIu64 "%s",
		  node->name,
		  now->role == METADATA_PRIMARY ? "primary" : "secondary",
		  now->active ? " active" : "",
		  now->consistent ? "" : " inconsistent",
		  now->outdated ? " outdated" : "", now->epoch,
		  node_timeline(node), now->history.count, now->incarnation,
		  now->peer[0].may_be_synced ? " peer-may-be-synced" : "");
}

/* What the file holds is what the node is. */
static void
take_durable(struct node *node)
{
	static struct metadata_state now, before;
	bool copied, had = node->has_durable;

	if (!read_durable(node, &now))
		return;
	before = node->durable;
	copied = had && !before.consistent && now.consistent &&
		 now.role == METADATA_SECONDARY;
	node->durable = now;
	node->has_durable = true;
	say_durable(node);
	oracle_durable(node);
	laws_of_state(node, had ? &before : NULL);
	if (!copied)
		return;
	/* It is what the source is, whatever that had lost. */
	node->fuzzy = false;
	oracle_answers(node_peer(node));
}

static void
on_flushed(struct fake_file *file)
{
	struct node *node = container_of(file, struct node, file);

	node->flushes++;
	take_durable(node);
}

/* --- clocks: each runs at a rate of its own --- */

static uint64_t
local_time(const struct node *node)
{
	return node->started_ns +
	       (uint64_t)((double)(sim->now_ns - node->started_ns) *
			  node->rate);
}

/* When its clock will have come to `local`. */
static uint64_t
world_time(const struct node *node, uint64_t local)
{
	if (local == UINT64_MAX)
		return local;
	if (local <= node->started_ns)
		return node->started_ns;
	return node->started_ns +
	       (uint64_t)((double)(local - node->started_ns) / node->rate) + 2;
}

static void
set_clock(struct node *node)
{
	uint64_t local = local_time(node);

	if (local > loop_now(node->loop))
		loop_advance(node->loop, local - loop_now(node->loop));
}

static void
describe(const struct node *node, char *ret_name, size_t length)
{
	const char *peer = node_peer(node)->address;

	(void)snprintf(
		ret_name, length,
		"remus:role=%s,listen=sim://%s,listen=alt://%s,peer=sim://%s,"
		"peer=alt://%s,ack=%s,%s%s%sarbiter=%s,meta=%s,ping-ms=200,"
		"dead-ms=%llu,grace-ms=%llu,connect-ms=100,ack-limit-ms=4000,"
		"retry-ms=500,region=4K,extent=64K,extents=64|sim:%s",
		node->role == METADATA_PRIMARY ? "primary" : "secondary",
		node->address, node->address, peer, peer, sim->ack,
		sim->on_loss != NULL ? "on-peer-loss=" : "",
		sim->on_loss != NULL ? sim->on_loss : "",
		sim->on_loss != NULL ? "," : "",
		sim->has_arbiter ? "sim" : "none", node->name,
		SIM_DEAD_NS / NS_PER_MS, SIM_GRACE_NS / NS_PER_MS, node->name);
}

bool
node_start(struct node *node)
{
	struct vbd_options options = { .flags = 0 };
	struct reason reason = { "" };
	char name[512];
	int r;

	assert(!node->alive);
	node->life++;
	node->loop = loop_new_simulated();
	node->started_ns = sim->now_ns;
	node->rate = 1 + SIM_DRIFT * (2 * sim_random(STREAM_NODE) - 1);
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
	describe(node, name, sizeof(name));
	world_say("%s starts: %s", node->name, name);
	options.image = name;
	r = vbd_open(node->vbd, &options, &reason);
	if (r == 0) {
		node->pool_idle = pool_in_use(node->pool);
		cover_life(node, true);
		return true;
	}
	world_say("%s does not start: %s", node->name, reason.text);
	node_die(node, false);
	return false;
}

void
node_die(struct node *node, bool power)
{
	assert(node->alive);
	world_say("%s %s", node->name, power ? "loses power" : "dies");
	if (power)
		tracking_of_pair();
	cover_life(node, false);
	node->alive = false;
	node->dying = false;
	disk_dies(node, power); /* it may still take what guests wrote */
	guest_dies(node);
	net_node_dies(&sim->net, node, power);
	fake_file_abandon(&node->file);
	if (power) {
		fake_file_crash(&node->file);
		take_durable(node); /* what it accepted, before it lost more */
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
	if (r == 0)
		node->forcing = strstr(command, "--force") != NULL;
	world_say("%s is ordered to %s: %s", node->name, command,
		  r == 0 ? "yes" : reason.text);
	return r;
}

void
node_status(struct node *node, const char *key, char *ret_text, size_t length)
{
	const struct replica *replica = node_replica(node);
	json_t *status = json_object(), *value;
	const char *text;

	if (replica != NULL)
		replica_status(replica, status);
	value = json_object_get(status, key);
	text = json_is_true(value)    ? "true"
	       : json_is_false(value) ? "false"
				      : json_string_value(value);
	(void)snprintf(ret_text, length, "%s", text != NULL ? text : "");
	json_decref(status);
}

bool
node_is(const struct node *node, const char *state)
{
	const struct replica *replica = node_replica(node);

	return replica != NULL &&
	       strcmp(replica_state_name(replica->state), state) == 0;
}

bool
node_is_primary(const struct node *node)
{
	const struct replica *replica = node_replica(node);

	return replica != NULL && replica_is_primary(replica);
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
	set_clock(node);
	loop_run_until_idle(node->loop);
	log_set_disk(NULL);
	cover(node);
	shadow_look(node);
	if (node->dying) {
		bool stopped =
			node->stopping && vbd_state(node->vbd) == VBD_CLOSED;

		node_die(node, !stopped && node->doom_power);
		operator_restarts(node);
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
	int first = (int)sim_below(STREAM_NODE, SIM_NODES);

	sim->steps++;
	next = earlier(next, sim_arbiter_next(&sim->arbiter));

	for (int i = 0; i < SIM_NODES; i++) {
		struct node *node = &sim->node[i];

		if (!node->alive)
			continue;
		next = earlier(next, world_time(node, loop_next(node->loop)));
		next = earlier(next, node->issue_ns);
	}
	if (next > sim->now_ns)
		sim->now_ns = next;
	for (int i = 0; i < SIM_NODES && !sim->failed; i++)
		node_run(&sim->node[(first + i) % SIM_NODES]);
	net_run(&sim->net);
	sim_arbiter_run(&sim->arbiter);
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
	for (uint64_t i = 0; i < sim_sectors(); i++) {
		uint64_t value = 0;
		unsigned char bytes[SIM_SECTOR];

		if (node->index == 1)
			value = (0xbadull << 48) + i;
		else if (i / 256 % 2 == 0)
			value = ++sim->next_id * sim_sectors() + i;
		for (size_t at = 0; at < sizeof(bytes); at += sizeof(value))
			memcpy(bytes + at, &value, sizeof(value));
		(void)medium_write(&node->disk, bytes, sizeof(bytes),
				   i * SIM_SECTOR);
	}
	medium_flush(&node->disk, medium_mark(&node->disk));
}

static void
choose(struct world *world)
{
	static const char *const acks[] = { "written", "received", "durable" };
	double loss;

	world->ack = acks[sim_chance(STREAM_PLAN, 0.6)
				  ? 0
				  : 1 + sim_below(STREAM_PLAN, 2)];
	world->has_arbiter = sim_chance(STREAM_PLAN, 0.5);
	loss = sim_random(STREAM_PLAN);
	world->on_loss = loss < 0.6 ? "continue" : loss < 0.8 ? "freeze" : NULL;
	world->guest = (enum sim_guest)sim_below(STREAM_PLAN, GUEST_COUNT);
}

struct world *
world_new(uint64_t seed, bool large, bool trace)
{
	static const char *const names[] = { "a", "b" };
	static const char *const addresses[] = { "127.0.0.1:1", "127.0.0.1:2" };
	struct world *world = calloc(1, sizeof(*world));

	if (world == NULL)
		abort();
	sim = world;
	world->seed = seed;
	world->disk_bytes = large ? SIM_LARGE : SIM_SMALL;
	for (int i = 0; i < STREAM_COUNT; i++)
		world->random[i] = (seed * STREAM_COUNT + (uint64_t)i) *
					   0x9e3779b97f4a7c15 +
				   1;
	world->trace = trace;
	world->now_ns = NS_PER_S;
	INIT_LIST_HEAD(&world->graves);
	choose(world);
	net_init(&world->net);
	sim_arbiter_init(&world->arbiter);
	for (int i = 0; i < SIM_NODES; i++) {
		struct node *node = &world->node[i];

		node->index = i;
		node->name = names[i];
		node->address = addresses[i];
		node->role = i == 0 ? METADATA_PRIMARY : METADATA_SECONDARY;
		INIT_LIST_HEAD(&node->operations);
		INIT_LIST_HEAD(&node->requests);
		medium_init(&node->disk, sim->disk_bytes, sim->disk_bytes);
		fake_file_init(&node->file, sim_below(STREAM_NODE, 1ull << 40));
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
	sim_arbiter_done(&world->arbiter);
	guest_done(world);
	disk_done(world);
	shadow_done(world);
	oracle_done(world);
	free(world);
	sim = NULL;
	return NULL;
}
