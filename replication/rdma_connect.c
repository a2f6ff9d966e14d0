/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma_connect - how a connection comes to be, by the events of rdma_cm, and
 * how its end is heard of.
 *
 * N1  An event is copied and acknowledged before anything follows from it: an
 *     id must not be destroyed while one of its events is not acknowledged.
 * N2  Each address of a name has an id of its own; one that does not answer
 *     has PATIENCE_NS while there is another.
 * N3  An event that does not fit the state changes nothing.
 * N4  Receives are posted before the peer can send: before rdma_connect() and
 *     rdma_accept().
 */
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/log.h"
#include "replication/rdma_private.h"

#define RESOLVE_MS  2000
#define PATIENCE_NS (500 * NS_PER_MS)
#define RETRIES	    7 /* of a packet, by the device */
/* 4.096 us times two to this between them: all in all 2 s, less than the time
 * after which a link gives a silent peer up */
#define ACK_TIMEOUT 16
#define RNR_FOREVER 7 /* it should never happen at all */

/* What IBTA calls the causes of a rejection. */
#define REJECT_NO_LISTENER 8
#define REJECT_STALE	   10
#define REJECT_CONSUMER	   28

#define EVENT_DATA_MAX 256

/* An event of rdma_cm, after its acknowledgement. */
struct event {
	enum rdma_cm_event_type type;
	int status;
	size_t length;
	unsigned char data[EVENT_DATA_MAX];
};

static void try_next(struct rdma_channel *rdma);
static void on_event(struct watch *watch, unsigned int events);

/* --- greetings --- */

uint32_t
rdma_greeting_flags(const struct transport_context *context)
{
	if (context->key == NULL)
		return 0;
	return context->no_mac ? RDMA_KEYED : RDMA_KEYED | RDMA_SEALED;
}

enum rdma_refusal
rdma_greeting_refusal(const struct transport_context *context,
		      const struct rdma_greeting *greeting)
{
	uint32_t own = rdma_greeting_flags(context);

	if ((own & RDMA_KEYED) != (greeting->flags & RDMA_KEYED))
		return RDMA_REFUSED_KEY;
	if ((own & RDMA_SEALED) != (greeting->flags & RDMA_SEALED))
		return RDMA_REFUSED_SEAL;
	return RDMA_NOT_REFUSED;
}

void
rdma_refusal_reason(enum rdma_refusal refusal, struct reason *reason)
{
	switch (refusal) {
	case RDMA_NOT_REFUSED:
		break;
	case RDMA_REFUSED_VERSION:
		(void)reason_set(reason, -EPROTONOSUPPORT,
				 "the peer speaks another version of the RDMA "
				 "transport: upgrade tapdisk on the older "
				 "host");
		break;
	case RDMA_REFUSED_KEY:
		(void)reason_set(reason, -EPERM,
				 "one of the two hosts has a key and the other "
				 "has none: give both the same");
		break;
	case RDMA_REFUSED_SEAL:
		(void)reason_set(reason, -EPERM,
				 "one of the two hosts wants a proof in each "
				 "message and the other none: give both the "
				 "same --rdma-mac");
		break;
	case RDMA_REFUSED_BUSY:
		(void)reason_set(reason, -EBUSY,
				 "the peer has no room for a connection now");
		break;
	}
}

/* Our own, for the private data. */
static void
greet(struct rdma_channel *rdma, unsigned char ret_bytes[RDMA_GREETING])
{
	struct rdma_greeting greeting = {
		.version_min = RDMA_VERSION,
		.version_max = RDMA_VERSION,
		.flags = rdma_greeting_flags(&rdma->context),
		.slot = RDMA_SLOT,
		.receives = rdma->posted,
	};

	rdma->told = rdma_receive_limit(rdma);
	memcpy(greeting.nonce, rdma->nonce, RDMA_NONCE);
	rdma_encode_greeting(&greeting, ret_bytes);
}

static int
make_nonce(struct rdma_channel *rdma)
{
	return getrandom(rdma->nonce, RDMA_NONCE, 0) == RDMA_NONCE ? 0 : -errno;
}

/* --- one address --- */

int
rdma_explain(int error, const char *what, const char *address,
	     struct reason *reason)
{
	switch (error) {
	case -ENODEV:
	case -EADDRNOTAVAIL:
		return reason_set(
			reason, error,
			"%s %s: no RDMA device of this host has an address "
			"that leads there; see `rdma link` and `ip address`, "
			"or use tcp://",
			what, address);
	case -ENOENT:
		return reason_set(
			reason, error,
			"%s %s: this host has no RDMA; load its device's "
			"driver and rdma_ucm (modprobe rdma_ucm), or use "
			"tcp://",
			what, address);
	case -EACCES:
	case -EPERM:
		return reason_set(
			reason, error,
			"%s %s: /dev/infiniband/rdma_cm may not be opened: "
			"give this process the right to",
			what, address);
	case -EADDRINUSE:
		return reason_set(reason, error,
				  "%s %s: another process listens there", what,
				  address);
	default:
		return reason_set(reason, error, "%s %s: %s", what, address,
				  strerror(-error));
	}
}

static void
drop_id(struct rdma_channel *rdma)
{
	timer_clear(&rdma->patience);
	rdma_queue_close(rdma);
	if (rdma->id != NULL)
		(void)rdma_destroy_id(rdma->id);
	rdma->id = NULL;
}

/* This address does not do: the next one, or the end. */
static void
address_failed(struct rdma_channel *rdma, int error,
	       const struct reason *reason)
{
	drop_id(rdma);
	rdma->error = error;
	rdma->why = *reason;
	try_next(rdma);
}

static void
address_failed_at(struct rdma_channel *rdma, int error, const char *what)
{
	struct reason reason;

	(void)rdma_explain(error, what, rdma->channel.peer, &reason);
	address_failed(rdma, error, &reason);
}

static void
on_patience(struct timer *timer)
{
	struct rdma_channel *rdma =
		container_of(timer, struct rdma_channel, patience);

	address_failed_at(rdma, -ETIMEDOUT, "connecting to");
}

static void
try_next(struct rdma_channel *rdma)
{
	struct addrinfo *address = rdma->next;

	if (address == NULL) {
		rdma_fail(rdma, rdma->error, &rdma->why);
		return;
	}
	rdma->next = address->ai_next;
	rdma->state = RDMA_RESOLVING;
	if (rdma_create_id(rdma->events, &rdma->id, rdma, RDMA_PS_TCP) < 0 ||
	    rdma_resolve_addr(rdma->id, NULL, address->ai_addr, RESOLVE_MS) <
		    0) {
		address_failed_at(rdma, -errno, "connecting to");
		return;
	}
	if (rdma->next != NULL)
		timer_set(&rdma->patience, PATIENCE_NS);
}

static void
on_looked_up(void *owner, int error, struct addrinfo *found,
	     const struct reason *reason)
{
	struct rdma_channel *rdma = owner;

	rdma->lookup = NULL;
	if (error < 0) {
		rdma_fail(rdma, error, reason);
		return;
	}
	rdma->found = found;
	rdma->next = found;
	rdma->error = -EHOSTUNREACH;
	try_next(rdma);
}

/* --- the stages --- */

static void
on_address(struct rdma_channel *rdma)
{
	uint8_t timeout = ACK_TIMEOUT;

	rdma->state = RDMA_ROUTING;
	/* an old kernel keeps its own time; the link's is above it */
	(void)rdma_set_option(rdma->id, RDMA_OPTION_ID,
			      RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
			      sizeof(timeout));
	if (rdma_resolve_route(rdma->id, RESOLVE_MS) < 0)
		address_failed_at(rdma, -errno, "finding the way to");
}

static struct rdma_conn_param
parameters(const unsigned char greeting[RDMA_GREETING])
{
	return (struct rdma_conn_param){
		.private_data = greeting,
		.private_data_len = RDMA_GREETING,
		.retry_count = RETRIES,
		.rnr_retry_count = RNR_FOREVER,
	};
}

static void
on_route(struct rdma_channel *rdma)
{
	unsigned char greeting[RDMA_GREETING];
	struct rdma_conn_param connect;
	struct reason reason = { "" };
	int r = rdma_queue_open(rdma, &reason);

	if (r < 0) {
		address_failed(rdma, r, &reason);
		return;
	}
	rdma->state = RDMA_CONNECTING;
	greet(rdma, greeting);
	connect = parameters(greeting);
	if (rdma_connect(rdma->id, &connect) < 0)
		address_failed_at(rdma, -errno, "connecting to");
}

/* The connection stands, for who called. */
static void
on_answer(struct rdma_channel *rdma, const struct event *event)
{
	struct rdma_greeting greeting;
	enum rdma_refusal refusal;
	struct reason reason = { "" };
	int r = rdma_decode_greeting(event->data, event->length, &greeting,
				     &reason);

	if (r == 0) {
		refusal = rdma_greeting_refusal(&rdma->context, &greeting);
		rdma_refusal_reason(refusal, &reason);
		r = refusal != RDMA_NOT_REFUSED ? -EPERM : 0;
	}
	if (r == 0)
		r = rdma_queue_greeted(rdma, &greeting, rdma->nonce,
				       greeting.nonce, &reason);
	if (r < 0) {
		rdma_fail(rdma, r, &reason);
		return;
	}
	timer_clear(&rdma->patience);
	rdma->state = RDMA_OPEN;
	rdma_queue_established(rdma);
	task_post(&rdma->task);
}

static void
on_established(struct rdma_channel *rdma, const struct event *event)
{
	if (rdma->state == RDMA_CONNECTING) {
		on_answer(rdma, event);
	} else if (rdma->state == RDMA_ACCEPTING) {
		rdma->state = RDMA_OPEN;
		rdma_queue_established(rdma);
		task_post(&rdma->task);
	}
}

static void
on_rejected(struct rdma_channel *rdma, const struct event *event)
{
	struct rdma_greeting greeting;
	struct reason reason = { "" };

	if (event->status == REJECT_CONSUMER &&
	    rdma_decode_greeting(event->data, event->length, &greeting,
				 &reason) == 0 &&
	    greeting.refusal != RDMA_NOT_REFUSED) {
		rdma_refusal_reason(greeting.refusal, &reason);
		rdma_fail(rdma,
			  greeting.refusal == RDMA_REFUSED_BUSY ? -EBUSY
								: -EPERM,
			  &reason);
		return;
	}
	if (event->status == REJECT_CONSUMER && reason.text[0] != '\0') {
		rdma_fail(rdma, -EPROTO, &reason);
		return;
	}
	if (event->status == REJECT_STALE)
		(void)reason_set(&reason, -ECONNREFUSED,
				 "the peer still holds an older connection");
	else if (event->status == REJECT_NO_LISTENER)
		(void)reason_set(&reason, -ECONNREFUSED,
				 "nobody listens there");
	else
		(void)reason_set(&reason, -ECONNREFUSED,
				 "the connection was rejected (cause %d)",
				 event->status);
	address_failed(rdma, -ECONNREFUSED, &reason);
}

/* What ends a connection that stands, or one that is being made. */
static void
on_trouble(struct rdma_channel *rdma, const struct event *event,
	   const char *what)
{
	struct reason reason;
	int error = event->status < 0 ? event->status : -ECONNRESET;

	switch (rdma->state) {
	case RDMA_RESOLVING:
	case RDMA_ROUTING:
	case RDMA_CONNECTING:
		address_failed_at(rdma, error, what);
		break;
	case RDMA_ACCEPTING:
	case RDMA_OPEN:
		(void)reason_set(&reason, error, "%s",
				 event->type == RDMA_CM_EVENT_DISCONNECTED
					 ? "the peer closed the connection"
					 : what);
		rdma_fail(rdma, error, &reason);
		break;
	case RDMA_LOOKING_UP:
	case RDMA_BROKEN:
		break;
	}
}

static void
handle(struct rdma_channel *rdma, const struct event *event)
{
	switch (event->type) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		if (rdma->state == RDMA_RESOLVING)
			on_address(rdma);
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		if (rdma->state == RDMA_ROUTING)
			on_route(rdma);
		break;
	case RDMA_CM_EVENT_ESTABLISHED:
		on_established(rdma, event);
		break;
	case RDMA_CM_EVENT_ADDR_ERROR:
		if (rdma->state == RDMA_RESOLVING)
			on_trouble(rdma, event, "connecting to");
		break;
	case RDMA_CM_EVENT_ROUTE_ERROR:
		if (rdma->state == RDMA_ROUTING)
			on_trouble(rdma, event, "finding the way to");
		break;
	case RDMA_CM_EVENT_REJECTED:
		if (rdma->state == RDMA_CONNECTING)
			on_rejected(rdma, event);
		else
			on_trouble(rdma, event, "the connection was rejected");
		break;
	case RDMA_CM_EVENT_CONNECT_ERROR:
	case RDMA_CM_EVENT_UNREACHABLE:
	case RDMA_CM_EVENT_DISCONNECTED:
		on_trouble(rdma, event, "connecting to");
		break;
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		if (rdma->device != NULL)
			rdma_device_removed(rdma->device);
		rdma_fail(rdma, -ENODEV, NULL);
		break;
	case RDMA_CM_EVENT_CONNECT_REQUEST:
	case RDMA_CM_EVENT_CONNECT_RESPONSE:
	case RDMA_CM_EVENT_MULTICAST_JOIN:
	case RDMA_CM_EVENT_MULTICAST_ERROR:
	case RDMA_CM_EVENT_ADDR_CHANGE:
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
		break;
	}
}

/* False: none came. */
static bool
next_event(struct rdma_channel *rdma, struct event *ret_event)
{
	const struct rdma_conn_param *connection;
	struct rdma_cm_event *event;
	struct rdma_cm_id *stranger = NULL;

	if (rdma_get_cm_event(rdma->events, &event) != 0)
		return false;
	connection = &event->param.conn;
	*ret_event =
		(struct event){ .type = event->event, .status = event->status };
	if (event->id != rdma->id) {
		/* nobody calls one who called */
		if (event->event == RDMA_CM_EVENT_CONNECT_REQUEST)
			stranger = event->id;
		ret_event->type = RDMA_CM_EVENT_TIMEWAIT_EXIT;
	} else if (connection->private_data != NULL) {
		ret_event->length = connection->private_data_len;
		if (ret_event->length > EVENT_DATA_MAX)
			ret_event->length = EVENT_DATA_MAX;
		memcpy(ret_event->data, connection->private_data,
		       ret_event->length);
	}
	(void)rdma_ack_cm_event(event);
	if (stranger != NULL)
		(void)rdma_destroy_id(stranger);
	return true;
}

static void
on_event(struct watch *watch, unsigned int events)
{
	struct rdma_channel *rdma =
		container_of(watch, struct rdma_channel, events_watch);
	struct event event;

	(void)events;
	for (int i = 0; i < RDMA_EVENTS_MAX && next_event(rdma, &event); i++)
		handle(rdma, &event);
}

/* --- beginning and end --- */

static int
open_events(struct rdma_channel *rdma)
{
	int r;

	rdma->events = rdma_create_event_channel();
	if (rdma->events == NULL)
		return -errno;
	r = rdma_set_nonblocking(rdma->events->fd);
	if (r == 0)
		r = watch_open(&rdma->events_watch, rdma->context.loop,
			       rdma->events->fd, WATCH_READ, on_event);
	return r;
}

bool
rdma_connect_begin(struct rdma_channel *rdma, const char *address,
		   struct reason *reason)
{
	int r;

	timer_init(&rdma->patience, rdma->context.loop, on_patience);
	r = open_events(rdma);
	if (r == 0)
		r = make_nonce(rdma);
	if (r < 0) {
		(void)rdma_explain(r == -ENODEV ? -ENOENT : r, "connecting to",
				   rdma->channel.peer, reason);
		return false;
	}
	rdma->state = RDMA_LOOKING_UP;
	rdma->lookup = lookup_begin(rdma->context.io, address, on_looked_up,
				    rdma, reason);
	return rdma->lookup != NULL;
}

int
rdma_connect_accept(struct rdma_channel *rdma, struct rdma_cm_id *id,
		    const struct rdma_greeting *greeting, struct reason *reason)
{
	unsigned char bytes[RDMA_GREETING];
	struct rdma_conn_param accept;
	uint8_t timeout = ACK_TIMEOUT;
	int r;

	timer_init(&rdma->patience, rdma->context.loop, on_patience);
	lookup_name("rdma", rdma_get_peer_addr(id), rdma->channel.peer,
		    sizeof(rdma->channel.peer));
	r = open_events(rdma);
	if (r == 0)
		r = make_nonce(rdma);
	if (r == 0 && rdma_migrate_id(id, rdma->events) < 0)
		r = -errno;
	if (r < 0)
		return rdma_explain(r, "a call of", rdma->channel.peer, reason);
	rdma->id = id;
	id->context = rdma;
	(void)rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT,
			      &timeout, sizeof(timeout));
	r = rdma_queue_open(rdma, reason);
	if (r == 0)
		r = rdma_queue_greeted(rdma, greeting, greeting->nonce,
				       rdma->nonce, reason);
	if (r < 0)
		return r;
	rdma->state = RDMA_ACCEPTING;
	greet(rdma, bytes);
	accept = parameters(bytes);
	if (rdma_accept(id, &accept) < 0)
		return rdma_explain(-errno, "a call of", rdma->channel.peer,
				    reason);
	return 0;
}

void
rdma_connect_end(struct rdma_channel *rdma)
{
	bool connected = rdma->id != NULL && rdma->id->qp != NULL &&
			 (rdma->told_open || rdma->state == RDMA_OPEN ||
			  rdma->state == RDMA_ACCEPTING);

	lookup_cancel(rdma->lookup);
	rdma->lookup = NULL;
	if (connected && !rdma->device->gone)
		(void)rdma_disconnect(rdma->id); /* the peer hears of it */
	drop_id(rdma);
	watch_close(&rdma->events_watch);
	if (rdma->events != NULL)
		rdma_destroy_event_channel(rdma->events);
	rdma->events = NULL;
	if (rdma->found != NULL)
		freeaddrinfo(rdma->found);
	rdma->found = NULL;
}
