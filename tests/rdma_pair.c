/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma_pair - see rdma_pair.h.
 */
#include "tests/test.h"

#include "tests/rdma_pair.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/io.h"
#include "core/pool.h"

#define POOL_BYTES (32u << 20)
#define LIMIT_NS   (20 * NS_PER_S)

/* --- an end --- */

static void
on_open(struct channel *channel)
{
	struct rdma_end *end = channel->owner;

	end->opened++;
	if (end->close_at_open)
		end_close(end);
}

static unsigned char
byte_of(uint64_t sequence, size_t at)
{
	return (unsigned char)(sequence * 7 + at / 512 + at);
}

static void
check_payload(const struct wire_header *header, const unsigned char *payload)
{
	for (size_t at = 0; at < header->length; at += 61)
		assert_int_equal(payload[at], byte_of(header->sequence, at));
	assert_int_equal(payload[header->length - 1],
			 byte_of(header->sequence, header->length - 1));
}

static void
on_message(struct channel *channel, const struct wire_header *header,
	   void *payload, size_t length)
{
	struct rdma_end *end = channel->owner;

	assert_int_equal(end->closed, 0);
	assert_true(end->opened > 0);
	assert_int_equal(length, wire_payload(header));
	if (!wire_is_sequenced(header->type)) {
		end->got_control++;
	} else {
		assert_int_equal(header->sequence, end->next);
		end->next++;
		check_payload(header, payload);
		end->got++;
		end->got_bytes += length;
		end->landed &= (uintptr_t)payload % POOL_MIN == 0;
		if (end->keep)
			end->kept[end->kept_count++] = payload;
		else
			pool_put(end->context.pool, payload);
	}
	if (end->close_at_message)
		end_close(end);
}

static void
on_close(struct channel *channel, int error, const struct reason *reason)
{
	struct rdma_end *end = channel->owner;

	end->closed++;
	end->error = error;
	(void)snprintf(end->text, sizeof(end->text), "%s", reason->text);
	if (!end->keep_open)
		end_close(end);
}

static const struct channel_events events = { on_open, on_message, on_close };

void
end_close(struct rdma_end *end)
{
	struct channel *channel = end->channel;

	end->channel = NULL;
	if (channel != NULL)
		channel->transport->close(channel);
}

void
end_drop(struct rdma_end *end)
{
	while (end->kept_count > 0)
		pool_put(end->context.pool, end->kept[--end->kept_count]);
}

static void
on_done(struct channel_send *send, int error)
{
	struct end_send *mine = container_of(send, struct end_send, send);

	mine->done++;
	mine->error = error;
	mine->end->done++;
	mine->end->cancelled += error != 0;
	if (error != 0)
		mine->end->pairs = fabric.pairs;
	/* whoever gets its bytes back may do with them what it likes */
	if (mine->send.length > 0)
		memset(mine->buffer, 0xee, mine->send.length);
	if (mine->own)
		free(mine->buffer);
	else
		pool_put(mine->end->context.pool, mine->buffer);
	mine->buffer = NULL;
}

static void
send_it(struct rdma_end *end, struct end_send *mine,
	const struct wire_header *header)
{
	wire_encode(header, mine->send.header);
	mine->send.payload = mine->buffer;
	mine->send.on_done = on_done;
	mine->end = end;
	end->channel->transport->send(end->channel, &mine->send);
}

static struct end_send *
take_send(struct rdma_end *end)
{
	struct end_send *mine = &end->sends[end->sent++];

	assert_true(end->sent <= PAIR_SENDS);
	memset(mine, 0, sizeof(*mine));
	return mine;
}

void
end_send(struct rdma_end *end, size_t length, bool own)
{
	struct wire_header header = { .type = WIRE_WRITE,
				      .sequence = ++end->sequence,
				      .length = (uint32_t)length };
	struct end_send *mine = take_send(end);
	unsigned char *bytes;

	mine->own = own;
	mine->buffer =
		own ? malloc(length) : pool_get(end->context.pool, length);
	assert_non_null(mine->buffer);
	bytes = mine->buffer;
	for (size_t at = 0; at < length; at++)
		bytes[at] = byte_of(header.sequence, at);
	header.payload_crc = wire_crc(bytes, length);
	mine->send.length = length;
	send_it(end, mine, &header);
}

void
end_ping(struct rdma_end *end)
{
	struct wire_header header = { .type = WIRE_PING };

	send_it(end, take_send(end), &header);
}

void
assert_each_ended_once(const struct rdma_end *end)
{
	for (unsigned int i = 0; i < end->sent; i++)
		assert_int_equal(end->sends[i].done, 1);
}

/* --- the pair --- */

static void
end_init(struct rdma_pair *pair, struct rdma_end *end)
{
	end->context.loop = pair->loop;
	end->context.io = pair->io;
	end->context.pool = pair->pool;
	end->next = 1;
	end->landed = true;
}

int
pair_setup(void **state)
{
	struct rdma_pair *pair = calloc(1, sizeof(*pair));

	assert(pair != NULL);
	fabric_open();
	pair->loop = loop_new(NULL);
	loop_set_busy_poll(pair->loop, 100 * NS_PER_US);
	pair->io = io_new(pair->loop, "libaio", NULL);
	pair->pool = pool_new(pair->loop, POOL_BYTES, NULL);
	assert_non_null(pair->io);
	assert_non_null(pair->pool);
	end_init(pair, &pair->caller);
	end_init(pair, &pair->called);
	*state = pair;
	return 0;
}

static void
end_end(struct rdma_end *end)
{
	end_close(end);
	end_drop(end);
	assert_each_ended_once(end);
}

int
pair_teardown(void **state)
{
	struct rdma_pair *pair = *state;

	if (pair->acceptor != NULL)
		transport_rdma.stop(pair->acceptor);
	end_close(&pair->caller);
	io_drain(pair->io);
	end_end(&pair->caller);
	end_end(&pair->called);
	assert_int_equal(pool_in_use(pair->pool), 0);
	pool_free(pair->pool);
	io_free(pair->io);
	loop_free(pair->loop);
	fabric_close();
	free(pair);
	return 0;
}

static void
set_key(struct rdma_end *end, const char *key)
{
	end->context.key = (const unsigned char *)key;
	end->context.key_length = key == NULL ? 0 : strlen(key);
}

void
pair_key(struct rdma_pair *pair, const char *caller, const char *called)
{
	set_key(&pair->caller, caller);
	set_key(&pair->called, called);
}

static void
on_accept(struct acceptor *acceptor, struct channel *channel)
{
	struct rdma_pair *pair = acceptor->owner;

	pair->accepted++;
	channel->events = &events;
	channel->owner = &pair->called;
	pair->called.channel = channel;
}

void
pair_listen(struct rdma_pair *pair)
{
	struct reason reason = { "" };

	pair->acceptor = transport_rdma.listen(&pair->called.context, PAIR_URL,
					       on_accept, pair, &reason);
	if (pair->acceptor == NULL)
		fail_msg("%s", reason.text);
}

void
pair_call(struct rdma_pair *pair)
{
	struct reason reason = { "" };

	pair->caller.opened = 0;
	pair->caller.closed = 0;
	pair->caller.channel =
		transport_rdma.connect(&pair->caller.context, PAIR_URL, &events,
				       &pair->caller, &reason);
	if (pair->caller.channel == NULL)
		fail_msg("%s", reason.text);
}

void
pair_open(struct rdma_pair *pair)
{
	if (pair->acceptor == NULL)
		pair_listen(pair);
	pair->called.opened = 0;
	pair->called.closed = 0;
	pair_call(pair);
	pair_until(pair, pair->caller.opened && pair->called.opened);
	pair->caller.next = 1;
	pair->called.next = 1;
	pair->caller.sequence = 0;
	pair->called.sequence = 0;
}

void
pair_close(struct rdma_pair *pair)
{
	end_close(&pair->caller);
	pair_until(pair, pair->called.channel == NULL);
}

void
pair_step(struct loop *loop, uint64_t begin_ns, const char *condition)
{
	if (loop_now(loop) - begin_ns > LIMIT_NS)
		fail_msg("never came true: %s", condition);
	(void)loop_turn(loop, NS_PER_MS);
}

void
pair_turn(struct rdma_pair *pair)
{
	for (int i = 0; i < 50; i++)
		(void)loop_turn(pair->loop, 0);
}

void
pair_pass_ms(struct rdma_pair *pair, unsigned int ms)
{
	uint64_t end = loop_now(pair->loop) + ms * NS_PER_MS;

	while (loop_now(pair->loop) < end)
		(void)loop_turn(pair->loop, NS_PER_MS);
}
