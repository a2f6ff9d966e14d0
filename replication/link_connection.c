/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * link_connection - a connection: control messages, the handshake, and how a
 * session begins, goes on and ends over it; see link.h.
 *
 * Both say hello at once; each proves that it has the key by a MAC over both
 * hellos; then, if both name the same session, it goes on, and else the owner
 * is asked to meet.  The connection of a session is replaced only by one that
 * has proved itself, so that nobody else can end it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/log.h"
#include "core/pool.h"
#include "replication/key.h"
#include "replication/link_private.h"

static uint64_t
now_of(const struct link *link)
{
	return loop_now(link->options.context.loop);
}

static uint64_t
random_of(const struct link *link)
{
	uint64_t number = 0;

	if (link->options.random != NULL)
		return link->options.random(link->options.random_arg);
	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		abort(); /* a session that can be guessed would be a lie */
	return number;
}

/* --- control messages --- */

void
link_fill_header(const struct link *link, struct wire_header *header)
{
	header->session = link->session;
	header->credits =
		LINK_WINDOW_MAX - (uint32_t)(link->received - link->settled);
	header->acknowledged = (uint32_t)link->received;
	header->proven = (uint32_t)link->proven;
}

void
link_connection_close(struct link_connection *connection)
{
	struct channel *channel = connection->channel;

	if (connection->state == CONNECTION_FREE)
		return;
	connection->state = CONNECTION_FREE;
	connection->channel = NULL;
	if (connection->link->connection == connection)
		connection->link->connection = NULL;
	if (connection->link->parting == connection) {
		connection->link->parting = NULL;
		task_post(&connection->link->task); /* on_lost */
	}
	if (channel != NULL)
		channel->transport->close(channel);
}

static void
on_control_done(struct channel_send *send, int error)
{
	struct link_control *control =
		container_of(send, struct link_control, send);
	struct link_connection *connection = control->connection;

	control->connection = NULL;
	if (error == -ECANCELED)
		return; /* from inside its close */
	if (control->last)
		link_connection_close(connection);
	task_post(&connection->link->task);
}

static struct link_control *
free_control(struct link_connection *connection)
{
	for (int i = 0; i < LINK_CONTROLS; i++) {
		if (connection->controls[i].connection == NULL)
			return &connection->controls[i];
	}
	return NULL;
}

bool
link_control_has_room(const struct link_connection *connection)
{
	for (int i = 0; i < LINK_CONTROLS; i++) {
		if (connection->controls[i].connection == NULL)
			return true;
	}
	return false;
}

void
link_control_send(struct link_connection *connection, enum wire_type type,
		  uint64_t offset, const void *payload, size_t length,
		  bool last)
{
	struct link_control *control = free_control(connection);
	struct wire_header header = { .type = type,
				      .offset = offset,
				      .length = (uint32_t)length };

	if (control == NULL) { /* a peer that reads nothing gets nothing */
		if (last)
			link_connection_close(connection);
		return;
	}
	assert(length <= sizeof(control->payload));
	control->connection = connection;
	control->last = last;
	if (length > 0) {
		memcpy(control->payload, payload, length);
		header.payload_crc = wire_crc(control->payload, length);
	}
	link_fill_header(connection->link, &header);
	wire_encode(&header, control->send.header);
	control->send.payload = length > 0 ? control->payload : NULL;
	control->send.length = length;
	control->send.on_done = on_control_done;
	connection->said_ns = now_of(connection->link);
	if (last)
		connection->state = CONNECTION_ENDING;
	connection->channel->transport->send(connection->channel,
					     &control->send);
}

/* --- the end of connections, meetings and sessions --- */

void
link_lose(struct link *link, const struct reason *reason)
{
	if (link->session == 0)
		return;
	if (link->connection != NULL &&
	    link->connection->state != CONNECTION_ENDING)
		link_connection_close(link->connection);
	link->connection = NULL;
	link->session = 0;
	link_sends_give_back(link);
	link->state = LINK_CONNECTING;
	link->next_call_ns = 0;
	link->reason = *reason;
	link->lost_due = true;
	task_post(&link->task);
}

static void
end_meeting(struct link *link, bool refused, const struct reason *reason)
{
	link->connection = NULL;
	link->state = LINK_CONNECTING;
	link->next_call_ns =
		now_of(link) + link->options.connect_ms * NS_PER_MS;
	link->reason = *reason;
	link->refused_due = true;
	link->refused = refused;
	task_post(&link->task);
}

static void
session_broke(struct link *link, const struct reason *reason)
{
	link->state = LINK_BROKEN;
	link->broken_ns = now_of(link);
	link->next_call_ns = 0;
	link->acks_count = 0; /* a replay asks for them */
	link->events->on_broken(link, reason);
}

void
link_connection_fail(struct link_connection *connection,
		     const struct reason *reason)
{
	struct link *link = connection->link;
	bool ours = link->connection == connection;

	link_path_failed(connection, reason);
	if (ours && link->session != 0)
		link_path_broke(connection);
	link_connection_close(connection);
	if (!ours) {
		log_debug("link", "%s", reason->text);
		return;
	}
	if (link->session == 0)
		end_meeting(link, false, reason);
	else if (link->state == LINK_UP)
		session_broke(link, reason);
}

/* Before the connection ends for this reason. */
static void
tell_refusal(const struct link_connection *connection,
	     const struct reason *reason)
{
	struct link *link = connection->link;

	log_warn("link", "refusing %s: %s", connection->channel->peer,
		 reason->text);
	link_path_failed(connection, reason);
	if (link->session == 0 && link->connection == NULL)
		end_meeting(link, true, reason);
}

/* Tell the peer why, and end with it. */
static void
connection_refuse(struct link_connection *connection,
		  const struct reason *reason)
{
	unsigned char text[WIRE_TEXT_MAX];
	size_t length = wire_encode_text(reason->text, text);

	tell_refusal(connection, reason);
	link_control_send(connection, WIRE_REFUSE, 0, text, length, true);
}

/* --- hello and proof --- */

static void
on_hello_done(struct channel_send *send, int error)
{
	(void)send;
	(void)error;
}

static void
send_hello(struct link_connection *connection)
{
	struct link *link = connection->link;
	struct wire_hello hello = { .version_min = WIRE_VERSION_MIN };
	struct wire_header header = { .type = WIRE_HELLO };

	connection->greeting = link->events->on_greet(link, &hello);
	hello.version_max = WIRE_VERSION_MAX;
	hello.features_incompatible = WIRE_FEATURES;
	hello.features_compatible = WIRE_FEATURE_VERIFY;
	hello.header_length = WIRE_HEADER;
	hello.window = LINK_WINDOW_MAX;
	hello.payload_max = WIRE_PAYLOAD_MAX;
	hello.session = link->session;
	if (link->session != 0) {
		hello.received = link->received;
		/* If all are, the next: the old connection may carry it until
		 * this one has proved itself. */
		hello.unacknowledged = link_lowest_unacknowledged(link);
	}
	if (link->options.context.key != NULL)
		hello.flags |= WIRE_KEYED;
	for (size_t i = 0; i < WIRE_NONCE; i += sizeof(uint64_t)) {
		uint64_t number = random_of(link);

		memcpy(hello.nonce + i, &number, sizeof(number));
	}
	(void)strncpy(hello.name, link->options.name, sizeof(hello.name) - 1);
	connection->own_session = link->session;
	connection->own_length =
		wire_encode_hello(&hello, connection->own_bytes);
	header.length = (uint32_t)connection->own_length;
	header.payload_crc =
		wire_crc(connection->own_bytes, connection->own_length);
	wire_encode(&header, connection->hello_send.header);
	connection->hello_send.payload = connection->own_bytes;
	connection->hello_send.length = connection->own_length;
	connection->hello_send.on_done = on_hello_done;
	connection->said_ns = now_of(link);
	connection->channel->transport->send(connection->channel,
					     &connection->hello_send);
}

/* What we prove, or what the peer has to. */
static void
prove(const struct link_connection *connection, bool ourselves,
      unsigned char ret_mac[WIRE_MAC])
{
	const struct transport_context *context =
		&connection->link->options.context;
	struct key_bytes key = { context->key, context->key_length };
	struct key_bytes own = { connection->own_bytes,
				 connection->own_length };
	struct key_bytes peer = { connection->peer_bytes,
				  connection->peer_length };
	struct channel *channel = connection->channel;
	unsigned char binding[WIRE_MAC] = { 0 };

	if (channel->transport->bind != NULL)
		channel->transport->bind(channel, binding);
	if (ourselves)
		key_prove(&key, connection->caller, binding, &own, &peer,
			  ret_mac);
	else
		key_prove(&key, !connection->caller, binding, &peer, &own,
			  ret_mac);
}

static void
on_hello(struct link_connection *connection, const void *payload, size_t length)
{
	struct link *link = connection->link;
	const struct transport_context *context = &link->options.context;
	unsigned char mac[WIRE_MAC];
	struct reason reason = { "" };
	int r = -EPROTO;

	if (length <= WIRE_HELLO_MAX)
		r = wire_decode_hello(payload, length, &connection->hello,
				      &reason);
	if (r < 0) {
		if (reason.text[0] == '\0')
			(void)reason_set(&reason, r, "the hello is none");
		connection_refuse(connection, &reason);
		return;
	}
	if (((connection->hello.flags & WIRE_KEYED) != 0) !=
	    (context->key != NULL)) {
		(void)reason_set(&reason, -EPERM,
				 "one of the two hosts has a key and the other "
				 "has none: give both the same");
		connection_refuse(connection, &reason);
		return;
	}
	memcpy(connection->peer_bytes, payload, length);
	connection->peer_length = length;
	connection->state = CONNECTION_AUTH;
	prove(connection, true, mac);
	link_control_send(connection, WIRE_AUTH, 0, mac, WIRE_MAC, false);
}

static bool
is_proved(const struct link_connection *connection, const void *payload,
	  size_t length)
{
	unsigned char mac[WIRE_MAC];

	prove(connection, false, mac);
	return length == WIRE_MAC && key_equal(mac, payload);
}

static void
resume(struct link_connection *connection)
{
	struct link *link = connection->link;
	uint64_t limit = connection->hello.received + connection->hello.window;

	if (link->connection != NULL) {
		link_connection_close(link->connection);
		link->acks_count = 0;
	}
	link->connection = connection;
	connection->state = CONNECTION_READY;
	link->state = LINK_UP;
	link->reconnects++;
	link_path_taken(connection);
	if (limit > link->peer_limit)
		link->peer_limit = limit;
	link_replay(link, connection->hello.received,
		    connection->hello.unacknowledged);
	if (link->state == LINK_UP)
		link->events->on_resumed(link);
}

/* The peer is who it says: a session goes on, or the two meet. */
static void
proved(struct link_connection *connection)
{
	struct link *link = connection->link;
	const struct wire_hello *peer = &connection->hello;
	struct reason reason;

	link->parting = NULL;
	link_deliver(link); /* what has ended is told first */
	if (link->session != connection->own_session) {
		(void)reason_set(&reason, -ESTALE, "the session has changed");
		link_connection_fail(connection, &reason);
	} else if (link->session != 0 && peer->session == link->session) {
		resume(connection);
	} else if (link->session != 0 &&
		   memcmp(peer->replica_id, link->peer_id, WIRE_ID) == 0) {
		(void)reason_set(&reason, -ECONNRESET,
				 "the peer has begun anew and does not know "
				 "the session any more");
		link_connection_close(connection);
		link_lose(link, &reason);
	} else if (link->session != 0 || link->connection != NULL) {
		(void)reason_set(&reason, -EBUSY,
				 "this replica is speaking with another one");
		connection_refuse(connection, &reason);
	} else if (peer->session != 0) {
		/* It learns from our hello that its session is over. */
		(void)reason_set(&reason, -ESTALE,
				 "the peer still had an older session");
		link_connection_fail(connection, &reason);
	} else {
		link->connection = connection;
		connection->state = CONNECTION_READY;
		link->state = LINK_MEETING;
		link_path_taken(connection);
		link->events->on_meet(link, peer);
	}
}

/* --- the session begins --- */

static void
session_begin(struct link *link)
{
	link->session = link->proposed;
	memcpy(link->peer_id, link->connection->hello.replica_id, WIRE_ID);
	link_sends_init(link);
	link->peer_limit = link->connection->hello.window;
	link->state = LINK_UP;
}

uint64_t
link_greeting(const struct link *link)
{
	assert(link->connection != NULL);
	return link->connection->greeting;
}

void
link_begin(struct link *link, const struct wire_begin *begin)
{
	struct wire_begin message = *begin;
	unsigned char bytes[WIRE_BEGIN_BYTES];
	size_t length;

	if (link->state != LINK_MEETING)
		return; /* it broke; on_refused is due */
	do
		link->proposed = random_of(link);
	while (link->proposed == 0);
	message.session = link->proposed;
	length = wire_encode_begin(&message, bytes);
	link_control_send(link->connection, WIRE_BEGIN, 0, bytes, length,
			  false);
}

void
link_accept(struct link *link)
{
	if (link->state != LINK_MEETING)
		return;
	link_control_send(link->connection, WIRE_BEGUN, 0, NULL, 0, false);
	session_begin(link);
	link->up_due = true;
	task_post(&link->task);
}

void
link_refuse(struct link *link, const struct reason *reason)
{
	struct link_connection *connection = link->connection;

	if (link->state != LINK_MEETING)
		return;
	link->connection = NULL;
	connection_refuse(connection, reason);
}

static void
on_begin(struct link *link, const void *payload, size_t length)
{
	struct wire_begin begin;
	struct reason reason;

	if (link->state != LINK_MEETING ||
	    wire_decode_begin(payload, length, &begin) < 0 ||
	    begin.session == 0) {
		(void)reason_set(&reason, -EPROTO,
				 "the peer began a session out of turn");
		link_connection_fail(link->connection, &reason);
		return;
	}
	link->proposed = begin.session;
	link->events->on_begin(link, &begin);
}

static void
on_begun(struct link *link)
{
	struct reason reason;

	if (link->state != LINK_MEETING || link->proposed == 0) {
		(void)reason_set(&reason, -EPROTO,
				 "the peer agreed to nothing");
		link_connection_fail(link->connection, &reason);
		return;
	}
	session_begin(link);
	link->events->on_up(link);
	link_push(link);
}

/* --- messages --- */

static void
on_refuse(struct link_connection *connection, const void *payload,
	  size_t length)
{
	struct link *link = connection->link;
	char text[WIRE_TEXT_MAX + 1];
	struct reason reason;

	wire_decode_text(payload, length, text);
	(void)reason_set(&reason, -ECONNREFUSED, "the peer refuses: %s", text);
	if (link->connection == connection && link->session != 0) {
		link_connection_fail(connection, &reason);
		return;
	}
	if (link->connection == connection)
		link->connection = NULL;
	link_path_failed(connection, &reason);
	link_connection_close(connection);
	if (link->session == 0 && link->connection == NULL)
		end_meeting(link, true, &reason);
}

static void
on_goodbye(struct link *link, const void *payload, size_t length)
{
	char text[WIRE_TEXT_MAX + 1];
	struct reason reason;

	wire_decode_text(payload, length, text);
	(void)reason_set(&reason, -ESHUTDOWN, "%s", text);
	if (link->session == 0)
		return;
	link->goodbye_due = true;
	link_lose(link, &reason);
}

static void
out_of_turn(struct link_connection *connection, enum wire_type type)
{
	struct reason reason;

	(void)reason_set(&reason, -EPROTO, "the peer sent a %s out of turn",
			 wire_type_name(type));
	link_connection_fail(connection, &reason);
}

/* Of a connection that has proved itself. */
static void
on_ready_message(struct link_connection *connection,
		 const struct wire_header *header, void *payload, size_t length)
{
	struct link *link = connection->link;

	if (link->session != 0 && header->session == link->session)
		link_on_header(link, header);
	switch (header->type) {
	case WIRE_BEGIN:
		on_begin(link, payload, length);
		break;
	case WIRE_BEGUN:
		on_begun(link);
		break;
	case WIRE_PING:
		link_control_send(connection, WIRE_PONG, header->offset, NULL,
				  0, false);
		break;
	case WIRE_PONG:
		link->round_trip_ns = now_of(link) - header->offset;
		break;
	case WIRE_ACK:
	case WIRE_GOODBYE:
		if (link->session == 0 || header->session != link->session)
			out_of_turn(connection, header->type);
		else if (header->type == WIRE_ACK)
			link_on_acks(link, payload, length);
		else
			on_goodbye(link, payload, length);
		break;
	default:
		break;
	}
	if (link->session != 0)
		link_push(link);
}

static void
on_sequenced(struct link_connection *connection,
	     const struct wire_header *header, void *payload, size_t length)
{
	struct link *link = connection->link;

	if (connection != link->connection || link->session == 0 ||
	    header->session != link->session || link->state != LINK_UP) {
		pool_put(link->options.context.pool, payload);
		if (connection->state != CONNECTION_ENDING)
			out_of_turn(connection, header->type);
		return;
	}
	link_on_header(link, header);
	link_on_sequenced(link, header, payload, length);
	if (link->session != 0)
		link_push(link);
}

static void
on_message(struct channel *channel, const struct wire_header *header,
	   void *payload, size_t length)
{
	struct link_connection *connection = channel->owner;
	struct link *link = connection->link;
	struct reason reason;

	connection->heard_ns = now_of(link);
	if (wire_is_sequenced(header->type)) {
		on_sequenced(connection, header, payload, length);
		return;
	}
	if (length > 0 && wire_crc(payload, length) != header->payload_crc) {
		(void)reason_set(&reason, -EBADMSG,
				 "a %s of the peer arrived damaged",
				 wire_type_name(header->type));
		link_connection_fail(connection, &reason);
		return;
	}
	if (header->type == WIRE_REFUSE) {
		on_refuse(connection, payload, length);
		return;
	}
	switch (connection->state) {
	case CONNECTION_HELLO:
		if (header->type == WIRE_HELLO)
			on_hello(connection, payload, length);
		else
			out_of_turn(connection, header->type);
		break;
	case CONNECTION_AUTH:
		if (header->type != WIRE_AUTH) {
			out_of_turn(connection, header->type);
		} else if (!is_proved(connection, payload, length)) {
			(void)reason_set(
				&reason, -EPERM,
				link->options.context.key != NULL
					? "the peer has another key: give both "
					  "hosts the same"
					: "the peer's proof does not belong to "
					  "this connection: it answers "
					  "another hello");
			connection_refuse(connection, &reason);
		} else {
			proved(connection);
		}
		break;
	case CONNECTION_READY:
		on_ready_message(connection, header, payload, length);
		break;
	case CONNECTION_FREE:
	case CONNECTION_OPENING:
	case CONNECTION_ENDING:
		break;
	}
}

static void
on_open(struct channel *channel)
{
	struct link_connection *connection = channel->owner;

	connection->state = CONNECTION_HELLO;
	connection->heard_ns = now_of(connection->link);
	send_hello(connection);
}

static void
on_close(struct channel *channel, int error, const struct reason *reason)
{
	struct link_connection *connection = channel->owner;
	struct reason why;

	if (error == -EPERM && connection != connection->link->connection) {
		tell_refusal(connection, reason);
		link_connection_close(connection);
		return;
	}
	(void)reason_set(&why, error, "%s: %s", channel->peer,
			 reason_text(reason, error));
	link_connection_fail(connection, &why);
}

const struct channel_events link_channel_events = {
	.on_open = on_open,
	.on_message = on_message,
	.on_close = on_close,
};

void
link_drop(struct link *link, const struct reason *reason)
{
	link_lose(link, reason);
}

void
link_goodbye(struct link *link, const char *text)
{
	unsigned char bytes[WIRE_TEXT_MAX];
	size_t length = wire_encode_text(text, bytes);
	struct reason reason;

	if (link->session == 0)
		return;
	link_send_acks(link);
	if (link->connection != NULL) {
		link->parting = link->connection;
		link_control_send(link->connection, WIRE_GOODBYE, 0, bytes,
				  length, true);
	}
	(void)reason_set(&reason, -ESHUTDOWN, "this host said goodbye");
	link_lose(link, &reason);
}
