/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tcp - messages over a TCP connection.
 *
 * Headers and control payloads come into a buffer of the channel's own, many
 * with one system call; what is left of a sequenced payload goes straight into
 * its buffer of the pool.  A pool without room stops the reading, and so the
 * peer.  Control messages never wait for the pool: acknowledgements free it.
 *
 * Names are looked up anew at each connect, on a helper thread, and each of
 * their addresses is tried in turn: one that does not answer has PATIENCE_NS
 * while there is another.
 *
 * With a key the connection is TLS 1.3 before anything else is said, and the
 * handshake proves the key to both.  A peer without TLS is recognised by its
 * first bytes, on either side, so that the operator hears what to change.
 */
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/log.h"
#include "core/pool.h"
#include "core/reason.h"
#include "core/stream.h"
#include "core/tls.h"
#include "replication/lookup.h"
#include "replication/transport.h"

#define BUFFER_BYTES (64u << 10) /* above the longest control message */
#define TURN_MAX     64		 /* messages of one turn */
#define PATIENCE_NS  (500 * NS_PER_MS)

#define BINDING_LABEL "EXPORTER-tapdisk-replication"
#define ONE_KEY                                                                \
	"one of the two hosts has a key and the other has none: give both "    \
	"the same"

struct tcp_channel {
	struct channel channel;
	struct transport_context context;
	struct stream stream;
	struct tls_context *tls; /* owned; NULL without a key */
	bool is_open;
	bool is_private; /* the handshake is through */
	bool told_open;

	/* connecting */
	struct lookup *lookup;	/* borrowed; NULL: none is under way */
	struct addrinfo *found; /* owned */
	struct addrinfo *next;
	int fd; /* of a connect under way; -1 without */
	struct watch watch;
	struct timer patience;
	int error; /* the last address's */

	/* closing, from the loop */
	struct task task;
	int close_error;
	struct reason close_reason;

	/* receiving */
	char buffer[BUFFER_BYTES];
	size_t begin, end; /* what of it is not taken yet */
	struct wire_header header;
	bool has_header;
	char *payload; /* owned, of the pool */
	size_t have;   /* of it */
	struct pool_waiter waiter;
	bool waiting;
	bool *gone; /* told by close() to a handler on the stack */
};

struct tcp_acceptor {
	struct acceptor acceptor;
	struct transport_context context;
	struct listener listener;
};

static void take_messages(struct tcp_channel *tcp);

static struct tcp_channel *
tcp_of(struct channel *channel)
{
	return container_of(channel, struct tcp_channel, channel);
}

/* --- the end --- */

/* From the loop, once. */
static void
fail(struct tcp_channel *tcp, int error, const struct reason *reason)
{
	if (tcp->close_error != 0)
		return;
	tcp->close_error = error;
	if (reason != NULL)
		tcp->close_reason = *reason;
	else
		(void)reason_set(&tcp->close_reason, error, "%s",
				 strerror(-error));
	task_post(&tcp->task);
}

static void
stop_connecting(struct tcp_channel *tcp)
{
	timer_clear(&tcp->patience);
	watch_close(&tcp->watch);
	if (tcp->fd >= 0)
		close(tcp->fd);
	tcp->fd = -1;
	if (tcp->found != NULL)
		freeaddrinfo(tcp->found);
	tcp->found = NULL;
	tcp->next = NULL;
}

static void
tcp_close(struct channel *channel)
{
	struct tcp_channel *tcp = tcp_of(channel);

	if (tcp->gone != NULL)
		*tcp->gone = true;
	task_cancel(&tcp->task);
	lookup_cancel(tcp->lookup);
	stop_connecting(tcp);
	if (tcp->waiting)
		pool_cancel(tcp->context.pool, &tcp->waiter);
	pool_put(tcp->context.pool, tcp->payload);
	if (tcp->is_open)
		stream_close(&tcp->stream);
	tls_context_free(tcp->tls);
	free(tcp);
}

/* --- receiving --- */

static void
receive(struct tcp_channel *tcp)
{
	uint32_t length = wire_payload(&tcp->header);

	if (tcp->payload != NULL && tcp->begin == tcp->end) {
		stream_receive(&tcp->stream, tcp->payload + tcp->have, 1,
			       length - tcp->have);
		return;
	}
	memmove(tcp->buffer, tcp->buffer + tcp->begin, tcp->end - tcp->begin);
	tcp->end -= tcp->begin;
	tcp->begin = 0;
	stream_receive(&tcp->stream, tcp->buffer + tcp->end, 1,
		       BUFFER_BYTES - tcp->end);
}

static void
on_buffer(struct pool_waiter *waiter, void *buffer)
{
	struct tcp_channel *tcp =
		container_of(waiter, struct tcp_channel, waiter);

	tcp->waiting = false;
	tcp->channel.stalled = false;
	tcp->payload = buffer;
	take_messages(tcp);
}

/* Whether there is a buffer for the payload. */
static bool
take_payload_buffer(struct tcp_channel *tcp, uint32_t length)
{
	if (tcp->payload != NULL)
		return true;
	tcp->have = 0;
	tcp->payload = pool_get(tcp->context.pool, length);
	if (tcp->payload != NULL)
		return true;
	tcp->waiting = true;
	tcp->channel.stalled = true;
	pool_wait(tcp->context.pool, &tcp->waiter, length);
	return false;
}

/* Move what came of a payload; whether it is whole. */
static bool
fill_payload(struct tcp_channel *tcp, uint32_t length)
{
	size_t take = tcp->end - tcp->begin;

	if (take > length - tcp->have)
		take = length - tcp->have;
	memcpy(tcp->payload + tcp->have, tcp->buffer + tcp->begin, take);
	tcp->have += take;
	tcp->begin += take;
	return tcp->have == length;
}

enum taken {
	TAKEN,
	TAKE_MORE,
	TAKE_WAIT,
	TAKE_GONE
};

/* We have no key, and what comes is TLS: a handshake's first record, or the
 * alert that answers our hello. */
static bool
is_tls(const struct tcp_channel *tcp)
{
	const unsigned char *at =
		(const unsigned char *)tcp->buffer + tcp->begin;

	return !tcp->is_private && tcp->end - tcp->begin >= 2 &&
	       (at[0] == 21 || at[0] == 22) && at[1] == 3;
}

/* One message, if it is here. */
static enum taken
take_message(struct tcp_channel *tcp)
{
	struct reason reason = { "" };
	bool gone = false;
	void *payload = NULL;
	uint32_t length;

	if (!tcp->has_header) {
		if (is_tls(tcp)) {
			(void)reason_set(&reason, -EPERM, ONE_KEY);
			fail(tcp, -EPERM, &reason);
			return TAKE_WAIT;
		}
		if (tcp->end - tcp->begin < WIRE_HEADER)
			return TAKE_MORE;
		if (wire_decode((unsigned char *)tcp->buffer + tcp->begin,
				&tcp->header, &reason) < 0) {
			fail(tcp, -EPROTO, &reason);
			return TAKE_WAIT;
		}
		tcp->begin += WIRE_HEADER;
		tcp->has_header = true;
	}
	length = wire_payload(&tcp->header);
	if (length > 0 && wire_is_sequenced(tcp->header.type)) {
		if (!take_payload_buffer(tcp, length))
			return TAKE_WAIT;
		if (!fill_payload(tcp, length))
			return TAKE_MORE;
		payload = tcp->payload;
		tcp->payload = NULL;
	} else if (length > 0) {
		if (length > BUFFER_BYTES - WIRE_HEADER) {
			(void)reason_set(&reason, -EPROTO,
					 "a control message of %u bytes",
					 length);
			fail(tcp, -EPROTO, &reason);
			return TAKE_WAIT;
		}
		if (tcp->end - tcp->begin < length)
			return TAKE_MORE;
		payload = tcp->buffer + tcp->begin;
		tcp->begin += length;
	}
	tcp->has_header = false;
	/* cppcheck-suppress autoVariables */
	tcp->gone = &gone; /* until we return */
	tcp->channel.events->on_message(&tcp->channel, &tcp->header, payload,
					length);
	if (gone)
		return TAKE_GONE;
	tcp->gone = NULL;
	return TAKEN;
}

static void
take_messages(struct tcp_channel *tcp)
{
	for (int i = 0; i < TURN_MAX; i++) {
		switch (take_message(tcp)) {
		case TAKEN:
			break;
		case TAKE_MORE:
			receive(tcp);
			return;
		case TAKE_WAIT:
		case TAKE_GONE:
			return;
		}
	}
	task_post(&tcp->task);
}

static void
on_receive(struct stream *stream, ssize_t received)
{
	struct tcp_channel *tcp =
		container_of(stream, struct tcp_channel, stream);

	if (received <= 0) {
		fail(tcp, received < 0 ? (int)received : -ECONNRESET, NULL);
		return;
	}
	tcp->channel.bytes_in += (uint64_t)received;
	if (tcp->payload != NULL && tcp->begin == tcp->end)
		tcp->have += (size_t)received;
	else
		tcp->end += (size_t)received;
	take_messages(tcp);
}

/* --- opening --- */

static void
on_tls(struct stream *stream, int error, const struct reason *reason)
{
	struct tcp_channel *tcp =
		container_of(stream, struct tcp_channel, stream);
	struct reason why;

	if (error == 0) {
		tcp->is_private = true;
		task_post(&tcp->task); /* on_open */
		return;
	}
	switch (error) {
	case -EPROTONOSUPPORT:
		error = reason_set(&why, -EPERM, ONE_KEY);
		break;
	case -EACCES:
		error = reason_set(&why, -EPERM,
				   "the peer has another key: give both hosts "
				   "the same");
		break;
	default:
		why = *reason;
		break;
	}
	fail(tcp, error, &why);
}

static const struct stream_ops stream_ops = { .on_receive = on_receive,
					      .on_tls = on_tls };

static int
start_tls(struct tcp_channel *tcp, bool caller, struct reason *reason)
{
	struct tls_options options = {
		.key = tcp->context.key,
		.key_length = tcp->context.key_length,
		.server = !caller,
	};

	tcp->tls = tls_context_new(&options, reason);
	if (tcp->tls == NULL)
		return -ENOMEM;
	return stream_start_tls(&tcp->stream, tcp->tls, NULL, reason);
}

static void
open_stream(struct tcp_channel *tcp, int fd, bool caller)
{
	struct reason reason = { "" };
	int r = stream_open(&tcp->stream, tcp->context.loop, fd, &stream_ops);

	if (r < 0) {
		fail(tcp, r, NULL);
		return;
	}
	tcp->is_open = true;
	if (tcp->context.key == NULL) {
		task_post(&tcp->task); /* on_open */
		return;
	}
	r = start_tls(tcp, caller, &reason);
	if (r < 0)
		fail(tcp, r, &reason);
}

/* on_close, on_open, or messages beyond a turn: whatever is due. */
static void
on_task(struct task *task)
{
	struct tcp_channel *tcp = container_of(task, struct tcp_channel, task);
	bool gone = false;

	if (tcp->close_error != 0) {
		tcp->channel.events->on_close(&tcp->channel, tcp->close_error,
					      &tcp->close_reason);
		return;
	}
	if (!tcp->told_open) {
		tcp->told_open = true;
		tcp->gone = &gone;
		tcp->channel.events->on_open(&tcp->channel);
		if (gone)
			return;
		tcp->gone = NULL;
	}
	take_messages(tcp);
}

static void on_patience(struct timer *timer);

static struct tcp_channel *
channel_new(const struct transport_context *context)
{
	struct tcp_channel *tcp = calloc(1, sizeof(*tcp));

	if (tcp == NULL)
		return NULL;
	tcp->channel.transport = &transport_tcp;
	tcp->context = *context;
	tcp->fd = -1;
	task_init(&tcp->task, context->loop, on_task);
	timer_init(&tcp->patience, context->loop, on_patience);
	pool_waiter_init(&tcp->waiter, on_buffer);
	return tcp;
}

/* --- connecting --- */

static void address_failed(struct tcp_channel *tcp, int error);

static void
on_connected(struct watch *watch, unsigned int events)
{
	struct tcp_channel *tcp =
		container_of(watch, struct tcp_channel, watch);
	socklen_t size = sizeof(int);
	int error = 0, fd = tcp->fd;

	(void)events;
	watch_close(watch);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	if (error != 0) {
		close(fd);
		tcp->fd = -1;
		address_failed(tcp, -error);
		return;
	}
	tcp->fd = -1;
	stop_connecting(tcp);
	open_stream(tcp, fd, true);
}

static void
try_next(struct tcp_channel *tcp)
{
	struct addrinfo *address = tcp->next;
	struct reason reason;
	int r;

	if (address == NULL) {
		(void)reason_set(&reason, tcp->error, "cannot be reached: %s",
				 strerror(-tcp->error));
		fail(tcp, tcp->error, &reason);
		return;
	}
	tcp->next = address->ai_next;
	tcp->fd = socket(address->ai_family,
			 SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (tcp->fd < 0) {
		address_failed(tcp, -errno);
		return;
	}
	r = connect(tcp->fd, address->ai_addr, address->ai_addrlen);
	if (r < 0 && errno != EINPROGRESS) {
		r = -errno;
		close(tcp->fd);
		tcp->fd = -1;
		address_failed(tcp, r);
		return;
	}
	r = watch_open(&tcp->watch, tcp->context.loop, tcp->fd, WATCH_WRITE,
		       on_connected);
	if (r < 0)
		fail(tcp, r, NULL);
	else if (tcp->next != NULL)
		timer_set(&tcp->patience, PATIENCE_NS);
}

static void
address_failed(struct tcp_channel *tcp, int error)
{
	timer_clear(&tcp->patience);
	tcp->error = error;
	try_next(tcp);
}

static void
on_patience(struct timer *timer)
{
	struct tcp_channel *tcp =
		container_of(timer, struct tcp_channel, patience);

	watch_close(&tcp->watch);
	close(tcp->fd);
	tcp->fd = -1;
	address_failed(tcp, -ETIMEDOUT);
}

static void
on_looked_up(void *owner, int error, struct addrinfo *found,
	     const struct reason *reason)
{
	struct tcp_channel *tcp = owner;

	tcp->lookup = NULL;
	if (error < 0) {
		fail(tcp, error, reason);
		return;
	}
	tcp->found = found;
	tcp->next = found;
	tcp->error = -EHOSTUNREACH;
	try_next(tcp);
}

static struct channel *
tcp_connect(const struct transport_context *context, const char *address,
	    const struct channel_events *events, void *owner,
	    struct reason *reason)
{
	struct tcp_channel *tcp = channel_new(context);

	if (tcp == NULL)
		return NULL;
	tcp->lookup =
		lookup_begin(context->io, address, on_looked_up, tcp, reason);
	if (tcp->lookup == NULL) {
		free(tcp);
		return NULL;
	}
	(void)snprintf(tcp->channel.peer, sizeof(tcp->channel.peer), "tcp://%s",
		       address);
	tcp->channel.events = events;
	tcp->channel.owner = owner;
	return &tcp->channel;
}

/* --- listening --- */

static void
name_peer(struct tcp_channel *tcp, int fd)
{
	struct sockaddr_storage address = { 0 };
	socklen_t size = sizeof(address);

	(void)getpeername(fd, (struct sockaddr *)&address, &size);
	lookup_name("tcp", (struct sockaddr *)&address, tcp->channel.peer,
		    sizeof(tcp->channel.peer));
}

static void
on_accept(struct listener *listener, int fd)
{
	struct tcp_acceptor *acceptor =
		container_of(listener, struct tcp_acceptor, listener);
	struct tcp_channel *tcp = channel_new(&acceptor->context);

	if (tcp == NULL) {
		close(fd);
		return;
	}
	name_peer(tcp, fd);
	open_stream(tcp, fd, false);
	acceptor->acceptor.on_accept(&acceptor->acceptor, &tcp->channel);
}

static struct acceptor *
tcp_listen(const struct transport_context *context, const char *address,
	   void (*on_accepted)(struct acceptor *, struct channel *),
	   void *owner, struct reason *reason)
{
	struct tcp_acceptor *acceptor = calloc(1, sizeof(*acceptor));
	char name[300];

	if (acceptor == NULL)
		return NULL;
	acceptor->context = *context;
	acceptor->acceptor.transport = &transport_tcp;
	acceptor->acceptor.on_accept = on_accepted;
	acceptor->acceptor.owner = owner;
	(void)snprintf(name, sizeof(name), "tcp:%s", address);
	if (listener_open(&acceptor->listener, context->loop, name, 0, -1,
			  on_accept, reason) < 0) {
		free(acceptor);
		return NULL;
	}
	(void)snprintf(acceptor->acceptor.address,
		       sizeof(acceptor->acceptor.address), "%s",
		       acceptor->listener.name);
	return &acceptor->acceptor;
}

static void
tcp_stop(struct acceptor *base)
{
	struct tcp_acceptor *acceptor =
		container_of(base, struct tcp_acceptor, acceptor);

	listener_close(&acceptor->listener);
	free(acceptor);
}

/* --- sending --- */

static struct stream_send *
stream_send_of(struct channel_send *send)
{
	return (struct stream_send *)(void *)send->private;
}

static_assert(sizeof(struct stream_send) + sizeof(void *) <=
		      sizeof(((struct channel_send *)0)->private),
	      "a send of a stream fits into one of a channel");

static void
on_sent(struct stream_send *out, int error)
{
	struct channel_send *send =
		container_of((void *)out, struct channel_send, private);

	send->on_done(send, error);
}

static void
tcp_send(struct channel *channel, struct channel_send *send)
{
	struct stream_send *out = stream_send_of(send);

	out->iov[0].iov_base = send->header;
	out->iov[0].iov_len = WIRE_HEADER;
	out->iov_count = 1;
	if (send->length > 0) {
		out->iov[1].iov_base = (void *)(uintptr_t)send->payload;
		out->iov[1].iov_len = send->length;
		out->iov_count = 2;
	}
	out->length = WIRE_HEADER + send->length;
	out->on_done = on_sent;
	stream_send(&tcp_of(channel)->stream, out);
}

static bool
tcp_is_private(const struct channel *channel)
{
	return container_of(channel, struct tcp_channel, channel)->is_private;
}

static bool
tcp_is_safe(const struct transport_context *context)
{
	return context->key != NULL;
}

static void
tcp_bind(struct channel *channel, unsigned char ret_binding[WIRE_MAC])
{
	struct tcp_channel *tcp = tcp_of(channel);
	int r;

	memset(ret_binding, 0, WIRE_MAC);
	if (!tcp->is_private)
		return;
	r = stream_export(&tcp->stream, BINDING_LABEL, ret_binding, WIRE_MAC);
	assert(r == 0);
	(void)r;
}

const struct transport transport_tcp = {
	.scheme = "tcp",
	.listen = tcp_listen,
	.stop = tcp_stop,
	.connect = tcp_connect,
	.send = tcp_send,
	.close = tcp_close,
	.is_private = tcp_is_private,
	.is_authentic = tcp_is_private,
	.is_safe = tcp_is_safe,
	.bind = tcp_bind,
};
