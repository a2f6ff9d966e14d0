/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * link - calling and being called, the watch over connections, what is due to
 * the owner, and the life of the whole; see link.h.  A connection is
 * link_connection.c's, sequenced messages are link_send.c's.
 */
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "core/log.h"
#include "core/reason.h"
#include "replication/link_private.h"

#define PING_MS	   1000
#define DEAD_MS	   5000
#define GRACE_MS   10000
#define CONNECT_MS 500
#define TICK_NS	   (20 * NS_PER_MS)

static uint64_t
now_of(const struct link *link)
{
	return loop_now(link->options.context.loop);
}

/* --- connecting --- */

struct link_connection *
link_connection_take(struct link *link, bool caller)
{
	for (int i = 0; i < LINK_CONNECTIONS_MAX; i++) {
		struct link_connection *connection = &link->connections[i];

		if (connection->state != CONNECTION_FREE)
			continue;
		connection->state = CONNECTION_OPENING;
		connection->caller = caller;
		connection->begun_ns = now_of(link);
		connection->heard_ns = now_of(link);
		connection->said_ns = now_of(link);
		connection->own_session = 0;
		return connection;
	}
	return NULL;
}

static void
on_accept(struct acceptor *acceptor, struct channel *channel)
{
	struct link *link = acceptor->owner;
	struct link_connection *connection = link_connection_take(link, false);

	channel->events = &link_channel_events;
	if (connection == NULL) {
		log_warn("link", "too many connections at once: %s is closed",
			 channel->peer);
		channel->transport->close(channel);
		return;
	}
	connection->channel = channel;
	channel->owner = connection;
}

static int
check_address(const struct link *link, const struct transport *transport,
	      const char *url, const char *address, struct reason *reason)
{
	const struct transport_context *context = &link->options.context;

	if (link->options.insecure_network || transport_is_loopback(address) ||
	    (transport->is_safe != NULL && transport->is_safe(context)))
		return 0;
	if (context->key != NULL)
		return reason_set(reason, -EPERM,
				  "%s leads beyond this host and its messages "
				  "would prove nothing: leave --rdma-mac on, "
				  "or say --insecure-network if nobody else is "
				  "on that network",
				  url);
	return reason_set(reason, -EPERM,
			  "%s leads beyond this host and there is no key: give "
			  "both hosts --key FILE, or say --insecure-network if "
			  "nobody else is on that network",
			  url);
}

static void
watch_connection(struct link_connection *connection, uint64_t now)
{
	struct link *link = connection->link;
	uint64_t dead = link->options.dead_ms * NS_PER_MS;
	struct reason reason;

	switch (connection->state) {
	case CONNECTION_FREE:
		return;
	case CONNECTION_OPENING:
	case CONNECTION_HELLO:
	case CONNECTION_AUTH:
	case CONNECTION_ENDING:
		if (now - connection->begun_ns <= dead ||
		    (connection->state == CONNECTION_ENDING &&
		     now - connection->said_ns <= dead))
			return;
		(void)reason_set(&reason, -ETIMEDOUT,
				 "the other end took the connection and did "
				 "not end its hello within %u ms",
				 link->options.dead_ms);
		link_connection_fail(connection, &reason);
		return;
	case CONNECTION_READY:
		break;
	}
	if (connection->channel->stalled ||
	    connection->channel->bytes_in != connection->bytes_seen)
		connection->heard_ns = now;
	connection->bytes_seen = connection->channel->bytes_in;
	if (now - connection->heard_ns > dead) {
		(void)reason_set(&reason, -ETIMEDOUT,
				 "the peer has been silent for %u ms",
				 link->options.dead_ms);
		link_connection_fail(connection, &reason);
	} else if (now - connection->said_ns >=
		   link->options.ping_ms * NS_PER_MS) {
		link_control_send(connection, WIRE_PING, now, NULL, 0, false);
	}
}

static void
on_tick(struct timer *timer)
{
	struct link *link = container_of(timer, struct link, tick);
	uint64_t now = now_of(link);
	struct reason reason;

	timer_set(timer, TICK_NS);
	for (int i = 0; i < LINK_CONNECTIONS_MAX; i++)
		watch_connection(&link->connections[i], now);
	/* It may have broken just now, after `now`. */
	if (link->state == LINK_BROKEN &&
	    now > link->broken_ns + link->options.grace_ms * NS_PER_MS) {
		(void)reason_set(&reason, -ETIMEDOUT,
				 "the peer did not come back within %u ms",
				 link->options.grace_ms);
		link_lose(link, &reason);
	}
	link_path_tick(link, now);
}

/* --- what is due --- */

void
link_deliver(struct link *link)
{
	struct reason reason;

	link_deliver_ended(link); /* may end the session, with its own reason */
	if (link->up_due) {
		link->up_due = false;
		if (link->session != 0)
			link->events->on_up(link);
	}
	if (link->goodbye_due) {
		link->goodbye_due = false;
		reason = link->reason;
		link->events->on_goodbye(link, &reason);
	}
	if (link->lost_due && link->parting == NULL) {
		link->lost_due = false;
		reason = link->reason;
		link->events->on_lost(link, &reason);
	}
	if (link->refused_due) {
		link->refused_due = false;
		reason = link->reason;
		link->events->on_refused(link, link->refused, &reason);
	}
}

static void
on_task(struct task *task)
{
	struct link *link = container_of(task, struct link, task);
	struct reason reason;

	if (link->choked && link->connection != NULL) {
		(void)reason_set(&reason, -ENOBUFS,
				 "the peer takes no acknowledgements");
		link_connection_fail(link->connection, &reason);
	}
	link->choked = false;
	link_deliver(link);
	link_push(link);
	link_send_acks(link);
}

/* --- life --- */

static int
check_urls(const struct link *link, const char *const *urls,
	   struct reason *reason)
{
	const struct transport *transport;
	const char *address;

	for (; *urls != NULL; urls++) {
		transport = transport_find(link->options.transports, *urls,
					   &address, reason);
		if (transport == NULL)
			return -EINVAL;
		if (check_address(link, transport, *urls, address, reason) < 0)
			return -EPERM;
	}
	return 0;
}

static unsigned int
or_default(unsigned int value, unsigned int otherwise)
{
	return value > 0 ? value : otherwise;
}

struct link *
link_new(const struct link_options *options, const struct link_events *events,
	 void *owner, struct reason *reason)
{
	struct link *link = calloc(1, sizeof(*link));

	if (link == NULL)
		return NULL;
	link->options = *options;
	link->options.ping_ms = or_default(options->ping_ms, PING_MS);
	link->options.dead_ms = or_default(options->dead_ms, DEAD_MS);
	link->options.grace_ms = or_default(options->grace_ms, GRACE_MS);
	link->options.connect_ms = or_default(options->connect_ms, CONNECT_MS);
	link->options.window = or_default(options->window, LINK_WINDOW_MAX);
	link->events = events;
	link->owner = owner;
	link->state = LINK_DOWN;
	INIT_LIST_HEAD(&link->ended);
	link_sends_init(link);
	for (int i = 0; i < LINK_CONNECTIONS_MAX; i++)
		link->connections[i].link = link;
	timer_init(&link->tick, options->context.loop, on_tick);
	task_init(&link->task, options->context.loop, on_task);
	if (check_urls(link, options->listen, reason) < 0 ||
	    check_urls(link, options->peers, reason) < 0)
		return link_free(link);
	return link;
}

struct link *
link_free(struct link *link)
{
	if (link == NULL)
		return NULL;
	assert(link->state == LINK_DOWN);
	timer_clear(&link->tick);
	task_cancel(&link->task);
	free(link);
	return NULL;
}

void *
link_owner(const struct link *link)
{
	return link->owner;
}

int
link_start(struct link *link, bool calling, struct reason *reason)
{
	const char *address;

	for (int i = 0; i < LINK_ADDRESSES_MAX; i++) {
		const char *url = link->options.listen[i];
		const struct transport *transport;

		if (url == NULL)
			break;
		transport = transport_find(link->options.transports, url,
					   &address, reason);
		link->acceptors[i] =
			transport->listen(&link->options.context, address,
					  on_accept, link, reason);
		if (link->acceptors[i] == NULL) {
			link->state = LINK_CONNECTING;
			link_stop(link);
			return -EADDRINUSE;
		}
	}
	link->state = LINK_CONNECTING;
	link->calling = calling;
	timer_set(&link->tick, 0);
	return 0;
}

void
link_stop(struct link *link)
{
	if (link->state == LINK_DOWN)
		return;
	for (int i = 0; i < LINK_ADDRESSES_MAX; i++) {
		if (link->acceptors[i] != NULL)
			link->acceptors[i]->transport->stop(link->acceptors[i]);
		link->acceptors[i] = NULL;
	}
	for (int i = 0; i < LINK_CONNECTIONS_MAX; i++)
		link_connection_close(&link->connections[i]);
	link->session = 0;
	link->state = LINK_DOWN;
	link_sends_give_back(link);
	link_deliver_ended(link);
	timer_clear(&link->tick);
	task_cancel(&link->task);
	link->lost_due = false;
	link->refused_due = false;
	link->up_due = false;
}

void
link_set_calling(struct link *link, bool calling)
{
	if (calling && !link->calling)
		link->next_call_ns = 0;
	link->calling = calling;
}

bool
link_is_parting(const struct link *link)
{
	return link->parting != NULL;
}

enum link_state
link_state(const struct link *link)
{
	return link->state;
}

const char *
link_state_name(enum link_state state)
{
	switch (state) {
	case LINK_DOWN:
		return "down";
	case LINK_CONNECTING:
		return "connecting";
	case LINK_GREETING:
		return "greeting";
	case LINK_MEETING:
		return "meeting";
	case LINK_UP:
		return "up";
	case LINK_BROKEN:
		return "broken";
	}
	return "?";
}

struct json_t *
link_json(const struct link *link)
{
	const struct link_connection *connection = link->connection;
	const struct channel *channel =
		connection == NULL ? NULL : connection->channel;

	struct reason why;

	link_path_explain(link, &why);
	return json_pack(
		"{s:s, s:s?, s:s, s:o, s:s?, s:b, s:b, s:I, s:I, s:I, s:I, "
		"s:I, s:I}",
		"state", link_state_name(link->state), "path",
		channel == NULL ? NULL : channel->transport->scheme, "path_why",
		why.text, "paths", link_path_json(link), "peer_address",
		channel == NULL ? NULL : channel->peer, "private",
		channel != NULL && channel->transport->is_private(channel),
		"authentic",
		channel != NULL && channel->transport->is_authentic != NULL &&
			channel->transport->is_authentic(channel),
		"round_trip_us", (json_int_t)(link->round_trip_ns / NS_PER_US),
		"sent", (json_int_t)link->sent_total, "unacknowledged",
		(json_int_t)link->sent_count, "reconnects",
		(json_int_t)link->reconnects, "replayed",
		(json_int_t)link->replayed, "bytes_sent",
		(json_int_t)link->bytes_sent);
}
