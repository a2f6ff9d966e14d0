/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * link_host - see link_host.h.
 */
#include "tests/test.h"

#include "tests/link_host.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/pool.h"
#include "replication/bytes.h"
#include "replication/key.h"
#include "tests/fake_transport.h"

#define POOL_BYTES (32u << 20)

#define QUICK_MS 20 /* between attempts, where time is real */

static const struct transport *const transports[] = { &transport_fake,
						      &transport_rdma, NULL };

static void
fill_hello(struct wire_hello *hello, bool source)
{
	hello->role = source ? WIRE_PRIMARY : WIRE_SECONDARY;
	memset(hello->replica_id, source ? 0xaa : 0xbb, WIRE_ID);
	hello->size = 1 << 20;
	hello->sector_size = 512;
	hello->incarnation = 1;
}

/* --- the owner --- */

static void
hear(struct host *host, const struct reason *reason)
{
	(void)snprintf(host->text, sizeof(host->text), "%s", reason->text);
}

static uint64_t
on_greet(struct link *link, struct wire_hello *ret_hello)
{
	const struct host *host = link_owner(link);

	fill_hello(ret_hello, host->source);
	return 0;
}

static void
on_meet(struct link *link, const struct wire_hello *peer)
{
	struct host *host = link_owner(link);
	struct wire_begin begin = { .outcome = MEETING_WE_SOURCE };

	(void)peer;
	host->met++;
	if (host->source)
		link_begin(link, &begin);
}

static void
on_begin(struct link *link, const struct wire_begin *begin)
{
	(void)begin;
	link_accept(link);
}

static void
on_up(struct link *link)
{
	struct host *host = link_owner(link);

	host->up++;
	host->got_count = 0;
}

static void
on_broken(struct link *link, const struct reason *reason)
{
	struct host *host = link_owner(link);

	host->broken++;
	hear(host, reason);
}

static void
on_resumed(struct link *link)
{
	struct host *host = link_owner(link);

	host->resumed++;
}

static void
on_lost(struct link *link, const struct reason *reason)
{
	struct host *host = link_owner(link);

	host->lost++;
	hear(host, reason);
}

static void
on_refused(struct link *link, bool refused, const struct reason *reason)
{
	struct host *host = link_owner(link);

	host->refused += refused;
	if (refused)
		hear(host, reason);
}

static void
on_goodbye(struct link *link, const struct reason *reason)
{
	struct host *host = link_owner(link);

	(void)reason;
	host->goodbyes++;
}

void
host_acknowledge(struct host *host, uint64_t sequence)
{
	link_acknowledge(host->link, sequence, WIRE_ACK_WRITTEN, 0);
}

static void
on_message(struct link *link, const struct wire_header *header, void *payload)
{
	struct host *host = link_owner(link);

	assert(host->got_count < HOST_SENDS);
	host->got[host->got_count++] =
		payload == NULL ? UINT64_MAX : get64(payload);
	pool_put(host->pool, payload);
	if (!host->keep_acks)
		host_acknowledge(host, header->sequence);
}

static void
on_proven(struct link *link, uint64_t sequence)
{
	(void)link;
	(void)sequence;
}

static const struct link_events events = {
	.on_greet = on_greet,
	.on_meet = on_meet,
	.on_begin = on_begin,
	.on_up = on_up,
	.on_broken = on_broken,
	.on_resumed = on_resumed,
	.on_lost = on_lost,
	.on_refused = on_refused,
	.on_goodbye = on_goodbye,
	.on_message = on_message,
	.on_proven = on_proven,
};

static struct host *
host_start(struct host *host, const struct transport_context *context,
	   unsigned int connect_ms, bool source)
{
	struct link_options options = {
		.name = "test",
		.transports = transports,
		.insecure_network = true,
		.context = *context,
		.connect_ms = connect_ms,
		.listen = host->listens,
		.peers = host->peers,
	};

	host->loop = context->loop;
	host->pool = context->pool;
	host->source = source;
	host->link = link_new(&options, &events, host, NULL);
	assert(host->link != NULL);
	if (link_start(host->link, host->peers[0] != NULL, NULL) < 0)
		abort();
	return host;
}

static struct host *
host_alloc(const char *listen, const char *peer)
{
	struct host *host = calloc(1, sizeof(*host));

	assert(host != NULL);
	host->listens[0] = listen;
	host->peers[0] = peer;
	return host;
}

static struct transport_context
own_context(struct host *host, struct loop *loop, const char *key)
{
	host->owns_pool = true;
	return (struct transport_context){
		.loop = loop,
		.pool = pool_new(loop, POOL_BYTES, NULL),
		.key = (const unsigned char *)key,
		.key_length = key == NULL ? 0 : strlen(key),
	};
}

struct host *
host_new(struct loop *loop, const char *listen, const char *peer, bool source,
	 const char *key)
{
	struct host *host = host_alloc(listen, peer);
	struct transport_context context = own_context(host, loop, key);

	return host_start(host, &context, 0, source);
}

struct host *
host_new_in(const struct transport_context *context, const char *listen,
	    const char *peer, bool source)
{
	return host_start(host_alloc(listen, peer), context, QUICK_MS, source);
}

struct host *
host_new_paths(struct loop *loop, const char *const *listens,
	       const char *const *peers, bool source)
{
	struct host *host = host_alloc(NULL, NULL);
	struct transport_context context = own_context(host, loop, NULL);

	for (int i = 0; listens[i] != NULL; i++)
		host->listens[i] = listens[i];
	for (int i = 0; peers[i] != NULL; i++)
		host->peers[i] = peers[i];
	return host_start(host, &context, 0, source);
}

struct host *
host_free(struct host *host)
{
	if (host == NULL)
		return NULL;
	link_stop(host->link);
	link_free(host->link);
	if (host->owns_pool) {
		assert(pool_in_use(host->pool) == 0);
		pool_free(host->pool);
	}
	free(host);
	return NULL;
}

static void
on_ended(struct link_send *send, int status)
{
	struct host_send *mine = container_of(send, struct host_send, send);

	mine->ended++;
	mine->status = status;
	mine->host->ended_count++;
	mine->host->failed_count += status != 0;
}

void
host_send(struct host *host, unsigned int count)
{
	for (; count > 0; count--) {
		struct host_send *mine = &host->sends[host->sent_count];

		assert(host->sent_count < HOST_SENDS);
		put64(mine->payload, host->sent_count++);
		mine->host = host;
		mine->send = (struct link_send){
			.type = WIRE_WRITE,
			.offset = 512,
			.length = sizeof(mine->payload),
			.payload = mine->payload,
			.on_ended = on_ended,
		};
		link_send(host->link, &mine->send);
	}
}

/* --- the puppet --- */

static void
on_said(struct channel_send *send, int error)
{
	(void)error;
	free(send);
}

void
puppet_say_bytes(struct puppet *puppet, const unsigned char *header,
		 const void *payload, size_t length)
{
	struct channel_send *send = calloc(1, sizeof(*send) + length);

	assert(send != NULL);
	memcpy(send->header, header, WIRE_HEADER);
	if (length > 0)
		memcpy(send + 1, payload, length);
	send->payload = send + 1;
	send->length = length;
	send->on_done = on_said;
	puppet->channel->transport->send(puppet->channel, send);
}

void
puppet_say(struct puppet *puppet, struct wire_header header,
	   const void *payload, size_t length)
{
	unsigned char bytes[WIRE_HEADER];

	if (wire_is_sequenced(header.type) == false || header.length == 0)
		header.length = (uint32_t)length;
	if (length > 0 && header.payload_crc == 0)
		header.payload_crc = wire_crc(payload, length);
	wire_encode(&header, bytes);
	puppet_say_bytes(puppet, bytes, payload, length);
}

static void
puppet_on_open(struct channel *channel)
{
	struct puppet *puppet = channel->owner;
	struct wire_header header = { .type = WIRE_HELLO };

	puppet->open = true;
	if (puppet->silent)
		return;
	puppet->own_length = wire_encode_hello(&puppet->hello, puppet->own);
	puppet_say(puppet, header, puppet->own, puppet->own_length);
}

static void
answer_hello(struct puppet *puppet, const void *payload, size_t length)
{
	struct key_bytes key = { (const unsigned char *)puppet->key,
				 puppet->key ? strlen(puppet->key) : 0 };
	struct key_bytes own = { puppet->own, puppet->own_length };
	struct key_bytes peer = { payload, length };
	struct wire_header header = { .type = WIRE_AUTH };
	unsigned char binding[WIRE_MAC] = { 0 }, mac[WIRE_MAC];

	key_prove(&key, true, binding, &own, &peer, mac);
	puppet_say(puppet, header, mac, sizeof(mac));
}

static void
puppet_on_message(struct channel *channel, const struct wire_header *header,
		  void *payload, size_t length)
{
	struct puppet *puppet = channel->owner;

	puppet->heard[header->type]++;
	if (wire_is_sequenced(header->type))
		pool_put(puppet->pool, payload);
	else if (header->type == WIRE_HELLO && !puppet->mute)
		answer_hello(puppet, payload, length);
	else if (header->type == WIRE_REFUSE || header->type == WIRE_GOODBYE)
		wire_decode_text(payload, length, puppet->text);
}

static void
puppet_on_close(struct channel *channel, int error, const struct reason *reason)
{
	struct puppet *puppet = channel->owner;

	(void)error;
	(void)reason;
	puppet->closed = true;
	puppet->channel = NULL;
	channel->transport->close(channel);
}

static const struct channel_events puppet_events = {
	.on_open = puppet_on_open,
	.on_message = puppet_on_message,
	.on_close = puppet_on_close,
};

struct puppet *
puppet_new(struct loop *loop, const char *key)
{
	struct puppet *puppet = calloc(1, sizeof(*puppet));
	struct wire_hello *hello;

	assert(puppet != NULL);
	puppet->loop = loop;
	puppet->key = key;
	puppet->pool = pool_new(loop, POOL_BYTES, NULL);
	hello = &puppet->hello;
	hello->version_min = WIRE_VERSION_MIN;
	hello->version_max = WIRE_VERSION_MAX;
	hello->header_length = WIRE_HEADER;
	hello->window = LINK_WINDOW_MAX;
	hello->payload_max = WIRE_PAYLOAD_MAX;
	hello->flags = key != NULL ? WIRE_KEYED : 0;
	memset(hello->nonce, 0x77, WIRE_NONCE);
	fill_hello(hello, true);
	return puppet;
}

void
puppet_call(struct puppet *puppet, const char *address)
{
	struct transport_context context = { .loop = puppet->loop,
					     .pool = puppet->pool };

	puppet->channel = transport_fake.connect(&context, address,
						 &puppet_events, puppet, NULL);
	loop_run_until_idle(puppet->loop);
}

struct puppet *
puppet_free(struct puppet *puppet)
{
	if (puppet == NULL)
		return NULL;
	if (puppet->channel != NULL)
		puppet->channel->transport->close(puppet->channel);
	pool_free(puppet->pool);
	free(puppet);
	return NULL;
}

void
puppet_begin(struct puppet *puppet, uint64_t session)
{
	struct wire_begin begin = { .session = session,
				    .outcome = MEETING_WE_SOURCE };
	struct wire_header header = { .type = WIRE_BEGIN };
	unsigned char bytes[WIRE_BEGIN_BYTES];

	wire_encode_begin(&begin, bytes);
	puppet_say(puppet, header, bytes, sizeof(bytes));
	loop_run_until_idle(puppet->loop);
}

/* --- fixtures --- */

int
link_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	fake_network_open();
	f->loop = loop_new_simulated();
	*state = f;
	return 0;
}

int
link_teardown(void **state)
{
	struct fixture *f = *state;

	f->puppet = puppet_free(f->puppet);
	f->a = host_free(f->a);
	f->b = host_free(f->b);
	assert_int_equal(fake_network.channels, 0);
	loop_free(f->loop);
	free(f);
	return 0;
}

void
pass_ms(struct fixture *f, unsigned int ms)
{
	loop_advance(f->loop, ms * NS_PER_MS);
}

void
open_pair(struct fixture *f)
{
	f->b = host_new(f->loop, "fake://b", NULL, false, NULL);
	f->a = host_new(f->loop, NULL, "fake://b", true, NULL);
	pass_ms(f, 100);
	assert_int_equal(f->a->up, 1);
	assert_int_equal(f->b->up, 1);
}

void
assert_all_arrived(const struct fixture *f)
{
	assert_int_equal(f->b->got_count, f->a->sent_count);
	for (unsigned int i = 0; i < f->b->got_count; i++)
		assert_int_equal(f->b->got[i], i);
	assert_int_equal(f->a->ended_count, f->a->sent_count);
	assert_int_equal(f->a->failed_count, 0);
	for (unsigned int i = 0; i < f->a->sent_count; i++)
		assert_int_equal(f->a->sends[i].ended, 1);
}
