/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma_listen - who listens: takes callers' connections, or tells them why
 * not.
 *
 * A caller whose greeting does not suit is rejected with a greeting that says
 * why, so that both sides can say what to change.  A listener whose device is
 * removed comes back when the device does.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "replication/rdma_private.h"

#define BACKLOG	    16
#define AGAIN_NS    (1 * NS_PER_S)
#define PRIVATE_MAX 256

struct rdma_acceptor {
	struct acceptor acceptor;
	struct transport_context context;
	char name[128];			   /* to listen on again */
	struct rdma_event_channel *events; /* owned, as the next */
	struct rdma_cm_id *id;
	struct watch watch;
	struct timer again;
};

static void on_event(struct watch *watch, unsigned int events);

/* --- callers --- */

static void
reject(struct rdma_acceptor *acceptor, struct rdma_cm_id *id,
       enum rdma_refusal refusal)
{
	struct rdma_greeting greeting = {
		.version_min = RDMA_VERSION,
		.version_max = RDMA_VERSION,
		.flags = rdma_greeting_flags(&acceptor->context),
		.slot = RDMA_SLOT,
		.receives = RDMA_RECEIVES_MIN,
		.refusal = refusal,
	};
	unsigned char bytes[RDMA_GREETING];

	rdma_encode_greeting(&greeting, bytes);
	(void)rdma_reject(id, bytes, sizeof(bytes));
}

static void
take_caller(struct rdma_acceptor *acceptor, struct rdma_cm_id *id,
	    const unsigned char *data, size_t length)
{
	enum rdma_refusal refusal = RDMA_REFUSED_VERSION;
	struct rdma_channel *rdma = NULL;
	struct rdma_greeting greeting;
	struct reason reason = { "" };

	if (rdma_decode_greeting(data, length, &greeting, &reason) == 0) {
		refusal = rdma_greeting_refusal(&acceptor->context, &greeting);
		rdma_refusal_reason(refusal, &reason);
	}
	if (refusal == RDMA_NOT_REFUSED) {
		rdma = rdma_channel_new(&acceptor->context);
		if (rdma == NULL ||
		    rdma_connect_accept(rdma, id, &greeting, &reason) < 0)
			refusal = RDMA_REFUSED_BUSY;
	}
	if (refusal == RDMA_NOT_REFUSED) {
		acceptor->acceptor.on_accept(&acceptor->acceptor,
					     &rdma->channel);
		return;
	}
	log_warn("rdma", "a call is refused: %s", reason.text);
	reject(acceptor, id, refusal);
	if (rdma != NULL && rdma->id == id)
		id = NULL; /* the channel has it */
	(void)rdma_channel_free(rdma);
	if (id != NULL)
		(void)rdma_destroy_id(id);
}

/* --- listening --- */

static void
stop_listening(struct rdma_acceptor *acceptor)
{
	watch_close(&acceptor->watch);
	if (acceptor->id != NULL)
		(void)rdma_destroy_id(acceptor->id);
	acceptor->id = NULL;
	if (acceptor->events != NULL)
		rdma_destroy_event_channel(acceptor->events);
	acceptor->events = NULL;
}

static int
bind_one(struct rdma_acceptor *acceptor, struct addrinfo *address)
{
	if (rdma_create_id(acceptor->events, &acceptor->id, acceptor,
			   RDMA_PS_TCP) < 0)
		return -errno;
	if (rdma_bind_addr(acceptor->id, address->ai_addr) == 0 &&
	    rdma_listen(acceptor->id, BACKLOG) == 0)
		return 0;
	return -errno;
}

static int
bind_any(struct rdma_acceptor *acceptor, struct reason *reason)
{
	struct addrinfo *found, *address;
	int r = lookup_now(acceptor->name, &found, reason);

	if (r < 0)
		return r;
	r = -ENODEV;
	for (address = found; address != NULL; address = address->ai_next) {
		r = bind_one(acceptor, address);
		if (r == 0)
			break;
		if (acceptor->id != NULL)
			(void)rdma_destroy_id(acceptor->id);
		acceptor->id = NULL;
	}
	freeaddrinfo(found);
	if (r < 0)
		return rdma_explain(r, "listening on", acceptor->name, reason);
	return 0;
}

static int
start_listening(struct rdma_acceptor *acceptor, struct reason *reason)
{
	int r = 0;

	acceptor->events = rdma_create_event_channel();
	if (acceptor->events == NULL) {
		r = errno == ENODEV ? -ENOENT : -errno;
		return rdma_explain(r, "listening on", acceptor->name, reason);
	}
	r = bind_any(acceptor, reason);
	if (r == 0)
		r = rdma_set_nonblocking(acceptor->events->fd);
	if (r == 0)
		r = watch_open(&acceptor->watch, acceptor->context.loop,
			       acceptor->events->fd, WATCH_READ, on_event);
	if (r < 0)
		stop_listening(acceptor);
	return r;
}

static void
on_again(struct timer *timer)
{
	struct rdma_acceptor *acceptor =
		container_of(timer, struct rdma_acceptor, again);
	struct reason reason = { "" };

	if (start_listening(acceptor, &reason) < 0)
		timer_set(timer, AGAIN_NS);
	else
		log_info("rdma", "listening on %s again", acceptor->name);
}

static void
device_removed(struct rdma_acceptor *acceptor)
{
	log_warn("rdma",
		 "the RDMA device behind %s was removed: nobody can "
		 "call there until it is back",
		 acceptor->name);
	stop_listening(acceptor);
	timer_set(&acceptor->again, AGAIN_NS);
}

static void
on_event(struct watch *watch, unsigned int events)
{
	struct rdma_acceptor *acceptor =
		container_of(watch, struct rdma_acceptor, watch);
	unsigned char data[PRIVATE_MAX];
	enum rdma_cm_event_type type;
	struct rdma_cm_event *event;
	struct rdma_cm_id *id;
	size_t length;

	(void)events;
	for (int i = 0; i < RDMA_EVENTS_MAX; i++) {
		if (rdma_get_cm_event(acceptor->events, &event) != 0)
			return;
		type = event->event;
		id = event->id;
		length = event->param.conn.private_data_len;
		if (event->param.conn.private_data == NULL)
			length = 0;
		if (length > sizeof(data))
			length = sizeof(data);
		if (length > 0)
			memcpy(data, event->param.conn.private_data, length);
		(void)rdma_ack_cm_event(event);
		if (type == RDMA_CM_EVENT_CONNECT_REQUEST) {
			take_caller(acceptor, id, data, length);
		} else if (type == RDMA_CM_EVENT_DEVICE_REMOVAL) {
			device_removed(acceptor);
			return;
		}
	}
}

struct acceptor *
rdma_listen_begin(const struct transport_context *context, const char *address,
		  void (*on_accept)(struct acceptor *, struct channel *),
		  void *owner, struct reason *reason)
{
	struct rdma_acceptor *acceptor = calloc(1, sizeof(*acceptor));
	int port = 0;

	if (acceptor == NULL)
		return NULL;
	acceptor->context = *context;
	acceptor->acceptor.transport = &transport_rdma;
	acceptor->acceptor.on_accept = on_accept;
	acceptor->acceptor.owner = owner;
	timer_init(&acceptor->again, context->loop, on_again);
	(void)snprintf(acceptor->name, sizeof(acceptor->name), "%s", address);
	if (start_listening(acceptor, reason) < 0) {
		free(acceptor);
		return NULL;
	}
	port = ntohs(rdma_get_src_port(acceptor->id));
	(void)snprintf(acceptor->acceptor.address,
		       sizeof(acceptor->acceptor.address), "rdma:%.*s:%d",
		       (int)(strrchr(address, ':') - address), address, port);
	return &acceptor->acceptor;
}

void
rdma_listen_end(struct acceptor *base)
{
	struct rdma_acceptor *acceptor =
		container_of(base, struct rdma_acceptor, acceptor);

	timer_clear(&acceptor->again);
	stop_listening(acceptor);
	free(acceptor);
}
