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
#include "tests/puppet.h"

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
