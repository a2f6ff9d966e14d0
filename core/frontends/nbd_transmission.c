/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd_transmission - commands of a client: taken off the buffer, checked,
 * submitted to the vbd, given back.  See nbd_client.h.
 *
 * X1  A command is taken off the buffer only when all that it needs is there:
 *     a slot, a buffer, and its payload or a place to receive it in.  Until
 *     then its header stays where it is, and nothing behind it is read.
 * X2  A slot has two holds, the reply's and the request's.  A request that
 *     timed out is answered at once and keeps its slot and buffer until the
 *     vbd releases it.
 * X3  A write that is refused has its payload skipped, so that the next header
 *     is found; one that is longer than any may be ends the connection.
 */
#include <assert.h>
#include <errno.h>

#include "core/frontends/nbd_client.h"

/* A command's header. */
struct command {
	uint16_t flags, type;
	uint64_t cookie, offset;
	uint32_t length;
};

/* What is wrong with a command: a negative errno and the words for it. */
struct fault {
	int error;
	const char *words;
};

/* By type: what may be said with it, and what becomes of it.  `flags` of 0
 * with an op of -1 is no command. */
static const struct {
	int op; /* TD_OP_* */
	uint16_t flags;
	bool changes;
} commands[] = {
	[NBD_CMD_READ] = { TD_OP_READ, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF,
			   false },
	[NBD_CMD_WRITE] = { TD_OP_WRITE, NBD_CMD_FLAG_FUA, true },
	[NBD_CMD_DISC] = { -1, 0, false }, /* never comes this far */
	[NBD_CMD_FLUSH] = { TD_OP_FLUSH, NBD_CMD_FLAG_FUA, false },
	[NBD_CMD_TRIM] = { TD_OP_DISCARD, NBD_CMD_FLAG_FUA, true },
	[NBD_CMD_CACHE] = { TD_OP_READ, NBD_CMD_FLAG_FUA, false },
	[NBD_CMD_WRITE_ZEROES] = { TD_OP_WRITE_ZEROES,
				   NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE |
					   NBD_CMD_FLAG_FAST_ZERO,
				   true },
	[NBD_CMD_BLOCK_STATUS] = { TD_OP_BLOCK_STATUS,
				   NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE,
				   false },
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

void
nbd_transmission_begin(struct nbd_client *client)
{
	client->phase = NBD_TRANSMISSION;
	timer_clear(&client->timer);
}

/* --- checks --- */

static struct fault
check_range(const struct nbd_client *client, const struct command *command)
{
	const struct nbd_server *server = client->server;
	uint64_t size = nbd_export_size(server);
	uint64_t mask = vbd_sector_size(server->vbd) - 1u;
	bool fills = command->type == NBD_CMD_WRITE ||
		     command->type == NBD_CMD_WRITE_ZEROES;

	if (command->length == 0)
		return (struct fault){ -EINVAL, "a length of zero" };
	if (((command->offset | command->length) & mask) != 0)
		return (struct fault){
			-EINVAL, "not a multiple of the minimum block size"
		};
	if (command->offset > size || command->length > size - command->offset)
		return (struct fault){ fills ? -ENOSPC : -EINVAL,
				       "past the end of the disk" };
	if (command->length > NBD_PAYLOAD_MAX &&
	    (command->type == NBD_CMD_READ || command->type == NBD_CMD_WRITE))
		return (struct fault){ -EINVAL,
				       "longer than the maximum block size" };
	return (struct fault){ 0, NULL };
}

static struct fault
check(const struct nbd_client *client, const struct command *command)
{
	const struct nbd_server *server = client->server;
	unsigned int type = command->type;

	if (type >= COMMANDS || commands[type].op < 0)
		return (struct fault){ -EINVAL, "an unknown command" };
	if ((command->flags & ~commands[type].flags) != 0 ||
	    ((command->flags & NBD_CMD_FLAG_DF) && !client->structured))
		return (struct fault){
			-EINVAL, "a flag that the command does not have"
		};
	if (commands[type].changes &&
	    (server->read_only || vbd_is_read_only(server->vbd)))
		return (struct fault){ -EPERM, "the export is read-only" };
	if (type == NBD_CMD_FLUSH) {
		if (command->offset == 0 && command->length == 0)
			return (struct fault){ 0, NULL };
		return (struct fault){ -EINVAL, "a flush has no range" };
	}
	if (type == NBD_CMD_BLOCK_STATUS && client->contexts == 0)
		return (struct fault){ -EINVAL, "no metadata context was set" };
	if ((type == NBD_CMD_TRIM || type == NBD_CMD_WRITE_ZEROES) &&
	    !vbd_can(server->vbd, commands[type].op))
		return (struct fault){ -EINVAL,
				       "the disk does not support it" };
	return check_range(client, command);
}

/* --- the life of a slot --- */

static struct nbd_slot *
slot_take(struct nbd_client *client, const struct command *command)
{
	struct nbd_slot *slot =
		list_first_entry(&client->idle, struct nbd_slot, entry);

	list_del_init(&slot->entry);
	client->busy++;
	slot->cookie = command->cookie;
	slot->type = command->type;
	slot->flags = command->flags;
	slot->offset = command->offset;
	slot->length = command->length;
	slot->begun_ns = loop_now(client->server->loop);
	slot->buffer = NULL;
	slot->buffer_bytes = 0;
	slot->more = false;
	slot->holds = 2;
	return slot;
}

void
nbd_slot_drop_hold(struct nbd_slot *slot)
{
	struct nbd_client *client = slot->client;

	assert(slot->holds > 0);
	if (--slot->holds > 0)
		return;
	pool_put(client->server->pool, slot->buffer);
	client->held -= slot->buffer_bytes;
	slot->buffer = NULL;
	slot->buffer_bytes = 0;
	/* the last used is the first used again: it is in the cache */
	list_add(&slot->entry, &client->idle);
	client->busy--;
	if (client->starved || client->phase >= NBD_ENDING)
		task_post(&client->task);
}

static void
on_done(struct request *request, int result)
{
	struct nbd_slot *slot = container_of(request, struct nbd_slot, request);

	/* a long cache command goes on when the buffer is free again */
	slot->more =
		slot->type == NBD_CMD_CACHE && result == 0 &&
		slot->client->phase != NBD_GONE &&
		request->offset + request->length < slot->offset + slot->length;
	if (slot->more)
		return;
	stats_end(&slot->client->server->stats, commands[slot->type].op,
		  slot->length,
		  loop_now(slot->client->server->loop) - slot->begun_ns,
		  result);
	if (slot->client->phase == NBD_GONE)
		nbd_slot_drop_hold(slot);
	else
		nbd_reply(slot, result, NULL);
}

static void
on_release(struct request *request)
{
	struct nbd_slot *slot = container_of(request, struct nbd_slot, request);
	uint64_t end = slot->offset + slot->length;

	if (!slot->more) {
		nbd_slot_drop_hold(slot);
		return;
	}
	request->offset += request->length;
	if (request->length > end - request->offset)
		request->length = end - request->offset;
	vbd_submit(slot->client->server->vbd, request);
}

static void
submit(struct nbd_slot *slot)
{
	struct nbd_server *server = slot->client->server;
	struct request *request = &slot->request;

	request->op = commands[slot->type].op;
	request->offset = slot->offset;
	request->length = slot->length;
	request->flags = 0;
	request->buffer = slot->buffer;
	request->extents = NULL;
	request->on_done = on_done;
	request->on_release = on_release;
	if ((slot->flags & NBD_CMD_FLAG_FUA) && commands[slot->type].changes)
		request->flags |= REQUEST_FUA;
	if (slot->flags & NBD_CMD_FLAG_NO_HOLE)
		request->flags |= REQUEST_NO_UNMAP;
	if (slot->flags & NBD_CMD_FLAG_FAST_ZERO)
		request->flags |= REQUEST_FAST;
	if (slot->type == NBD_CMD_CACHE && request->length > NBD_CACHE_BYTES)
		request->length = NBD_CACHE_BYTES;
	if (slot->type == NBD_CMD_BLOCK_STATUS) {
		request->buffer = NULL;
		request->extents = (struct td_extents *)(void *)slot->buffer;
		request->extents->count = 0;
	}
	stats_begin(&server->stats);
	vbd_submit(server->vbd, request);
}

/* --- taking commands --- */

static void
refuse(struct nbd_client *client, const struct command *command,
       struct fault fault)
{
	struct nbd_slot *slot = slot_take(client, command);

	if (command->type < COMMANDS)
		stats_count(&client->server->stats, commands[slot->type].op, 0,
			    0, fault.error);
	nbd_slot_drop_hold(slot); /* there is no request */
	nbd_reply(slot, fault.error, fault.words);
}

/* Bytes of pool that a command needs. */
static size_t
buffer_bytes(const struct command *command)
{
	switch (command->type) {
	case NBD_CMD_READ:
	case NBD_CMD_WRITE:
		return command->length;
	case NBD_CMD_CACHE:
		return command->length < NBD_CACHE_BYTES ? command->length
							 : NBD_CACHE_BYTES;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_STATUS_BYTES;
	default: /* numbers from outside that were checked */
		return 0;
	}
}

/* A buffer, or NULL while there is none: then the client hears of it. */
static char *
get_buffer(struct nbd_client *client, size_t bytes)
{
	struct pool *pool = client->server->pool;
	char *buffer = client->granted;

	client->granted = NULL;
	if (buffer != NULL)
		return buffer;
	if (client->held > 0 && client->held + bytes > pool_size(pool) / 4) {
		client->starved = true;
		return NULL;
	}
	buffer = pool_get(pool, bytes);
	if (buffer == NULL)
		pool_wait(pool, &client->waiter, bytes);
	return buffer;
}

/* The payload of a write: from the buffer, and what is missing straight from
 * the socket. */
static void
fill(struct nbd_slot *slot)
{
	struct nbd_client *client = slot->client;
	size_t have = nbd_client_available(client);
	size_t length = (size_t)slot->length;

	if (have > length)
		have = length;
	memcpy(slot->buffer, nbd_client_bytes(client), have);
	client->in_begin += have;
	if (have == length) {
		submit(slot);
		return;
	}
	client->filling = slot;
	client->filled = have;
	nbd_client_expect_progress(client);
	stream_receive(&client->stream, slot->buffer + have, length - have,
		       length - have);
}

void
nbd_transmission_filled(struct nbd_client *client, size_t received)
{
	struct nbd_slot *slot = client->filling;

	client->filled += received;
	assert(client->filled == slot->length);
	client->filling = NULL;
	submit(slot);
}

/* Refused: answer, and get past its payload (X3). */
static void
take_refused(struct nbd_client *client, const struct command *command,
	     struct fault fault)
{
	client->in_begin += NBD_REQUEST_BYTES;
	refuse(client, command, fault);
	if (command->type != NBD_CMD_WRITE)
		return;
	if (command->length > NBD_PAYLOAD_MAX)
		nbd_client_finish(client);
	else
		client->skip = command->length;
}

/* One command.  False if it has to wait: for *ret_need bytes in the buffer, or
 * for a call. */
static bool
take(struct nbd_client *client, const struct command *command, size_t *ret_need)
{
	struct fault fault = check(client, command);
	size_t bytes = buffer_bytes(command);
	char *buffer = NULL;
	struct nbd_slot *slot;

	if (list_empty(&client->idle)) {
		client->starved = true;
		return false;
	}
	if (fault.error < 0) {
		take_refused(client, command, fault);
		return true;
	}
	client->large = command->type == NBD_CMD_WRITE &&
			command->length >= NBD_DIRECT_MIN;
	if (command->type == NBD_CMD_WRITE && !client->large &&
	    nbd_client_available(client) <
		    NBD_REQUEST_BYTES + command->length) {
		*ret_need = NBD_REQUEST_BYTES + command->length;
		return false;
	}
	if (bytes > 0) {
		buffer = get_buffer(client, bytes);
		if (buffer == NULL)
			return false;
	}
	client->in_begin += NBD_REQUEST_BYTES;
	slot = slot_take(client, command);
	slot->buffer = buffer;
	slot->buffer_bytes = bytes;
	client->held += bytes;
	if (command->type == NBD_CMD_WRITE)
		fill(slot);
	else
		submit(slot);
	return true;
}

size_t
nbd_transmission_take(struct nbd_client *client)
{
	client->starved = false;
	while (client->phase == NBD_TRANSMISSION && client->filling == NULL &&
	       client->skip == 0 && list_empty(&client->waiter.entry)) {
		const char *at = nbd_client_bytes(client);
		struct command command;
		size_t need = 0;

		if (nbd_client_available(client) < NBD_REQUEST_BYTES)
			return NBD_REQUEST_BYTES;
		if (nbd_get32(&at) != NBD_REQUEST_MAGIC) {
			nbd_client_drop(client, "a command without its magic");
			return 0;
		}
		command.flags = nbd_get16(&at);
		command.type = nbd_get16(&at);
		command.cookie = nbd_get64(&at);
		command.offset = nbd_get64(&at);
		command.length = nbd_get32(&at);
		if (command.type == NBD_CMD_DISC) {
			nbd_client_finish(client);
			return 0;
		}
		if (!take(client, &command, &need))
			return need;
	}
	return client->skip > 0 ? 1 : 0;
}
