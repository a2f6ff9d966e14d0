/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest - see sim.h: the requests of a node's guest, and what came back.
 *
 * A sector that a write leaves behind holds one number, again and again: the
 * write's times the disk's sectors, and the sector's own.  So what is found
 * says who wrote it and where it belongs.
 *
 * G1  A request is done once, then released once.  One that ended is buried,
 *     not freed, so that a second end is seen.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

struct guest_request {
	struct request request;
	struct list_head entry;
	struct node *node;
	uint64_t id;
	uint64_t first, count; /* sectors */
	uint64_t event;	       /* the oracle's clock at the beginning */
	uint64_t ns;	       /* the time then */
	uint64_t *versions;    /* owned: of a read's sectors then */
	bool done, buried;
};

const char *const sim_guest_names[GUEST_COUNT] = {
	[GUEST_RANDOM] = "random",	   [GUEST_ZIPF] = "zipf",
	[GUEST_SEQUENTIAL] = "sequential", [GUEST_OVERLAPPING] = "overlapping",
	[GUEST_FLUSHING] = "flushing",	   [GUEST_DISCARDING] = "discarding",
};

static uint64_t
value_of(const struct guest_request *request, uint64_t sector)
{
	return request->request.op == TD_OP_WRITE
		       ? request->id * sim_sectors() + sector
		       : 0;
}

static bool
changes_data(const struct guest_request *request)
{
	return request->request.op == TD_OP_WRITE ||
	       request->request.op == TD_OP_WRITE_ZEROES ||
	       request->request.op == TD_OP_DISCARD;
}

static const char *
name_of(const struct guest_request *request)
{
	static const char *const names[TD_OP_COUNT] = {
		"read", "write", "flush", "discard", "write-zeroes", "status"
	};

	return names[request->request.op];
}

static bool
is_writing(const struct guest_request *request, uint64_t sector)
{
	return !request->done && changes_data(request) &&
	       sector >= request->first &&
	       sector - request->first < request->count;
}

bool
guest_is_writing(uint64_t sector, uint64_t value)
{
	const struct guest_request *request;

	for (int i = 0; i < SIM_NODES; i++) {
		list_for_each_entry (request, &sim->node[i].requests, entry) {
			if (is_writing(request, sector) &&
			    value_of(request, sector) == value)
				return true;
		}
	}
	return false;
}

bool
guest_writes_to(uint64_t sector)
{
	const struct guest_request *request;

	for (int i = 0; i < SIM_NODES; i++) {
		list_for_each_entry (request, &sim->node[i].requests, entry) {
			if (is_writing(request, sector))
				return true;
		}
	}
	return false;
}

static void
bury(struct guest_request *request)
{
	list_move_tail(&request->entry, &sim->graves);
	request->buried = true;
	free(request->request.buffer);
	free(request->versions);
	request->request.buffer = NULL;
	request->versions = NULL;
}

void
guest_done(struct world *world)
{
	struct guest_request *request, *spare;

	list_for_each_entry_safe (request, spare, &world->graves, entry)
		free(request);
}

/* --- answers --- */

static void
check_read(struct guest_request *request)
{
	struct node *node = request->node;

	for (uint64_t i = 0; i < request->count; i++) {
		uint64_t sector = request->first + i;
		unsigned char *bytes =
			(unsigned char *)request->request.buffer +
			i * SIM_SECTOR;
		uint64_t value = oracle_value(node, bytes, sector);

		/* what was written meanwhile may be seen, or not */
		if (oracle_version(node, sector) == request->versions[i])
			oracle_read(node, sector, value);
	}
	sim->reads++;
}

static void
succeeded(struct guest_request *request)
{
	struct node *node = request->node;
	bool durable = request->request.flags & REQUEST_FUA;

	oracle_answers(node);
	if (request->request.op == TD_OP_READ) {
		oracle_reader(node, request->event, request->ns);
		check_read(request);
		return;
	}
	oracle_author(node, request->event);
	if (request->request.op == TD_OP_FLUSH) {
		sim->flushes++;
		oracle_flushed(node, request->event);
		return;
	}
	sim->acked++;
	for (uint64_t i = 0; i < request->count; i++)
		oracle_acked(node, request->first + i,
			     value_of(request, request->first + i), durable);
}

static void
on_done(struct request *base, int result)
{
	struct guest_request *request =
		container_of(base, struct guest_request, request);
	struct node *node = request->node;

	if (!node_is_live(node))
		return;
	if (request->done || request->buried) {
		world_fail("%s: a request ended twice", node->name);
		return;
	}
	request->done = true;
	node->outstanding--;
	world_say("%s: %s %llu ends: %d", node->name, name_of(request),
		  (unsigned long long)request->id, result);
	if (result == 0) {
		succeeded(request);
		return;
	}
	sim->failures++;
	if (changes_data(request))
		for (uint64_t i = 0; i < request->count; i++)
			oracle_failed(node, request->first + i);
}

static void
on_release(struct request *base)
{
	struct guest_request *request =
		container_of(base, struct guest_request, request);

	if (!node_is_live(request->node))
		return;
	if (!request->done || request->buried) {
		world_fail("%s: a request was released before its end, or "
			   "twice",
			   request->node->name);
		return;
	}
	bury(request);
}

void
guest_dies(struct node *node)
{
	struct guest_request *request, *spare;

	list_for_each_entry_safe (request, spare, &node->requests, entry)
		bury(request);
	node->outstanding = 0;
	node->issue_ns = UINT64_MAX;
}

/* --- requests --- */

/* Of a hundred requests: writes, zeroes, discards, reads; flushes the rest. */
static const struct habit {
	double write, zero, discard, read;
	double hot; /* anywhere else than in a place that all like */
	double sequence;
	uint64_t place; /* sectors of that place */
	uint64_t most;	/* sectors of a request */
} habits[GUEST_COUNT] = {
	[GUEST_RANDOM] = { 55, 7, 6, 22, 0, 0, 0, 24 },
	[GUEST_ZIPF] = { 60, 5, 5, 22, 0, 0, 0, 16 },
	[GUEST_SEQUENTIAL] = { 70, 5, 3, 15, 0, 0.95, 0, 64 },
	[GUEST_OVERLAPPING] = { 60, 10, 5, 18, 0.9, 0.05, 24, 16 },
	[GUEST_FLUSHING] = { 45, 3, 3, 14, 0.3, 0.3, 32, 16 },
	[GUEST_DISCARDING] = { 30, 20, 25, 17, 0.3, 0.3, 64, 32 },
};

static int
choose_op(void)
{
	const struct habit *habit = &habits[sim->guest];
	double what = 100 * sim_random(STREAM_GUEST);

	if ((what -= habit->write) < 0)
		return TD_OP_WRITE;
	if ((what -= habit->zero) < 0)
		return TD_OP_WRITE_ZEROES;
	if ((what -= habit->discard) < 0)
		return TD_OP_DISCARD;
	return what < habit->read ? TD_OP_READ : TD_OP_FLUSH;
}

/* Few sectors get most of it: by the cube. */
static uint64_t
zipf(void)
{
	double where = sim_random(STREAM_GUEST);
	uint64_t sectors = sim_sectors();

	return (uint64_t)(where * where * where * (double)sectors);
}

/* Anywhere, in a place that all like, or where the last one ended. */
static void
choose_range(struct guest_request *request)
{
	const struct habit *habit = &habits[sim->guest];
	struct node *node = request->node;
	double where = sim_random(STREAM_GUEST);

	request->count =
		1 + sim_below(STREAM_GUEST, sim_chance(STREAM_GUEST, 0.05)
						    ? 512
						    : habit->most);
	if (where < habit->hot)
		request->first = sim_below(STREAM_GUEST, habit->place);
	else if (where < habit->hot + habit->sequence)
		request->first = node->cursor;
	else
		request->first =
			sim->guest == GUEST_ZIPF
				? zipf()
				: sim_below(STREAM_GUEST, sim_sectors());
	if (request->count > sim_sectors() - request->first)
		request->count = sim_sectors() - request->first;
	node->cursor = (request->first + request->count) % sim_sectors();
}

static void
fill(struct guest_request *request)
{
	for (uint64_t i = 0; i < request->count; i++) {
		uint64_t value = value_of(request, request->first + i);
		char *bytes = request->request.buffer + i * SIM_SECTOR;

		for (size_t at = 0; at < SIM_SECTOR; at += sizeof(value))
			memcpy(bytes + at, &value, sizeof(value));
	}
}

static void
note(struct guest_request *request)
{
	for (uint64_t i = 0; i < request->count; i++) {
		uint64_t sector = request->first + i;

		if (changes_data(request))
			oracle_submitted(request->node, sector,
					 value_of(request, sector));
		else
			request->versions[i] =
				oracle_version(request->node, sector);
	}
}

static struct guest_request *
request_new(struct node *node, int op)
{
	struct guest_request *request = calloc(1, sizeof(*request));

	if (request == NULL)
		abort();
	request->node = node;
	request->request.op = op;
	request->id = ++sim->next_id;
	request->event = sim->events;
	request->ns = sim->now_ns;
	return request;
}

static void
submit(struct guest_request *request)
{
	struct node *node = request->node;
	size_t length = request->count * SIM_SECTOR;

	request->request.offset = request->first * SIM_SECTOR;
	request->request.length = length;
	request->request.buffer =
		aligned_alloc(4096, (length + 4096) / 4096 * 4096);
	request->versions = calloc(request->count + 1, sizeof(uint64_t));
	request->request.on_done = on_done;
	request->request.on_release = on_release;
	if (request->request.op == TD_OP_WRITE)
		fill(request);
	sim->writes += changes_data(request);
	world_say("%s: %s %llu of %llu sectors at %llu%s", node->name,
		  name_of(request), (unsigned long long)request->id,
		  (unsigned long long)request->count,
		  (unsigned long long)request->first,
		  request->request.flags ? ", FUA" : "");
	list_add_tail(&request->entry, &node->requests);
	node->outstanding++;
	note(request);
	vbd_submit(node->vbd, &request->request);
}

void
guest_submit(struct node *node, int op, uint64_t first, uint64_t count)
{
	struct guest_request *request = request_new(node, op);

	request->first = first;
	request->count = count;
	submit(request);
}

void
guest_issue(struct node *node)
{
	struct guest_request *request;
	bool full;

	node->issue_ns = sim->now_ns +
			 sim_below(STREAM_GUEST, sim_chance(STREAM_GUEST, 0.2)
							 ? 200 * NS_PER_MS
							 : 30 * NS_PER_MS);
	if (sim->quiet || !node_admits(node) ||
	    node->outstanding >= SIM_OUTSTANDING + SIM_READERS)
		return;
	/* Where writes wait, somebody still tries to read. */
	full = node->outstanding >= SIM_OUTSTANDING;
	request = request_new(node, full ? TD_OP_READ : choose_op());
	if (request->request.op != TD_OP_FLUSH)
		choose_range(request);
	if (changes_data(request) && sim_chance(STREAM_GUEST, 0.1))
		request->request.flags = REQUEST_FUA;
	submit(request);
}
