/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest - see sim.h: the requests of a node's guest, and what came back.
 *
 * A sector that a write leaves behind holds one number, again and again: the
 * write's times the disk's sectors, and the sector's own.  So what is found
 * says who wrote it and where it belongs.
 *
 * G1  A request is done once, then released once.
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
	uint64_t *versions;    /* owned: of a read's sectors then */
	bool done;
};

static uint64_t
value_of(const struct guest_request *request, uint64_t sector)
{
	return request->request.op == TD_OP_WRITE
		       ? request->id * SIM_SECTORS + sector
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

bool
guest_is_writing(uint64_t sector, uint64_t value)
{
	const struct guest_request *request;

	for (int i = 0; i < SIM_NODES; i++) {
		list_for_each_entry (request, &sim->node[i].requests, entry) {
			if (!request->done && changes_data(request) &&
			    sector >= request->first &&
			    sector - request->first < request->count &&
			    value_of(request, sector) == value)
				return true;
		}
	}
	return false;
}

static void
guest_free(struct guest_request *request)
{
	list_del(&request->entry);
	free(request->request.buffer);
	free(request->versions);
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
	if (request->done)
		world_fail("%s: a request ended twice", node->name);
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
	if (!request->done)
		world_fail("%s: a request was released before its end",
			   request->node->name);
	guest_free(request);
}

void
guest_dies(struct node *node)
{
	struct guest_request *request, *spare;

	list_for_each_entry_safe (request, spare, &node->requests, entry)
		guest_free(request);
	node->outstanding = 0;
	node->issue_ns = UINT64_MAX;
}

/* --- requests --- */

static int
choose_op(void)
{
	double what = sim_random();

	return what < 0.55   ? TD_OP_WRITE
	       : what < 0.62 ? TD_OP_WRITE_ZEROES
	       : what < 0.68 ? TD_OP_DISCARD
	       : what < 0.90 ? TD_OP_READ
			     : TD_OP_FLUSH;
}

/* Anywhere, in a place that all like, or where the last one ended. */
static void
choose_range(struct guest_request *request)
{
	struct node *node = request->node;
	double where = sim_random();

	request->count = 1 + sim_below(sim_chance(0.05) ? 512 : 24);
	request->first = where < 0.4   ? sim_below(SIM_SECTORS)
			 : where < 0.7 ? sim_below(32)
				       : node->cursor;
	if (request->count > SIM_SECTORS - request->first)
		request->count = SIM_SECTORS - request->first;
	node->cursor = (request->first + request->count) % SIM_SECTORS;
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

static void
submit(struct node *node)
{
	struct guest_request *request = calloc(1, sizeof(*request));
	size_t length;

	if (request == NULL)
		abort();
	request->node = node;
	request->request.op = choose_op();
	request->id = ++sim->next_id;
	request->event = sim->events;
	if (request->request.op != TD_OP_FLUSH)
		choose_range(request);
	length = request->count * SIM_SECTOR;
	if (changes_data(request) && sim_chance(0.1))
		request->request.flags = REQUEST_FUA;
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
guest_issue(struct node *node)
{
	node->issue_ns =
		sim->now_ns +
		sim_below(sim_chance(0.2) ? 200 * NS_PER_MS : 30 * NS_PER_MS);
	if (!node_admits(node))
		return;
	if (node->outstanding < SIM_OUTSTANDING)
		submit(node);
}
