/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_rdma_cm - see fake_verbs.h: librdmacm's functions, within one process.
 */
#include "tests/fake_verbs.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define REJECT_NO_LISTENER 8
#define REJECT_CONSUMER	   28

struct channel_of_events {
	struct rdma_event_channel channel;
	struct list_head events;
};

struct id {
	struct rdma_cm_id id;
	struct list_head entry; /* of all */
	struct id *other;	/* joined, or about to be; NULL */
	bool listens, bound, caller, established;
	unsigned int unacknowledged;
};

struct event {
	struct rdma_cm_event event;
	struct list_head entry;
	unsigned char data[256];
};

static int
fail(int error)
{
	errno = error;
	return -1;
}

static struct id *
id_of(struct rdma_cm_id *id)
{
	return container_of(id, struct id, id);
}

static struct channel_of_events *
channel_of(struct rdma_event_channel *channel)
{
	return container_of(channel, struct channel_of_events, channel);
}

/* --- events --- */

static void
tell_with(struct id *id, struct rdma_event_channel *channel,
	  enum rdma_cm_event_type type, int status, const void *data,
	  size_t length)
{
	struct event *event = calloc(1, sizeof(*event));

	assert(event != NULL && length <= sizeof(event->data));
	event->event.id = &id->id;
	event->event.event = type;
	event->event.status = status;
	if (length > 0) {
		/* it may come longer than it was sent */
		memcpy(event->data, data, length);
		event->event.param.conn.private_data = event->data;
		event->event.param.conn.private_data_len =
			(uint8_t)(length + 8);
	}
	list_add_tail(&event->entry, &channel_of(channel)->events);
	fabric_ring(channel->fd);
}

static void
tell(struct id *id, enum rdma_cm_event_type type, int status)
{
	tell_with(id, id->id.channel, type, status, NULL, 0);
}

void
fabric_event(struct rdma_cm_id *id, enum rdma_cm_event_type type, int status)
{
	tell(id_of(id), type, status);
}

int
rdma_get_cm_event(struct rdma_event_channel *base, struct rdma_cm_event **ret)
{
	struct channel_of_events *channel = channel_of(base);
	struct event *event;
	uint64_t count;

	if (list_empty(&channel->events))
		return fail(EAGAIN);
	event = list_first_entry(&channel->events, struct event, entry);
	list_del(&event->entry);
	if (list_empty(&channel->events) &&
	    read(base->fd, &count, sizeof(count)) < 0)
		abort();
	id_of(event->event.id)->unacknowledged++;
	fabric.events++;
	if (event->event.event == RDMA_CM_EVENT_DEVICE_REMOVAL &&
	    !id_of(event->event.id)->listens)
		fabric.removal_told = fabric.removed;
	*ret = &event->event;
	return 0;
}

int
rdma_ack_cm_event(struct rdma_cm_event *event)
{
	id_of(event->id)->unacknowledged--;
	fabric.events--;
	free(container_of(event, struct event, event));
	return 0;
}

struct rdma_event_channel *
rdma_create_event_channel(void)
{
	struct channel_of_events *channel;

	if (fabric.absent) {
		errno = ENODEV;
		return NULL;
	}
	channel = calloc(1, sizeof(*channel));
	assert(channel != NULL);
	INIT_LIST_HEAD(&channel->events);
	channel->channel.fd = eventfd(0, EFD_CLOEXEC);
	assert(channel->channel.fd >= 0);
	fabric.channels++;
	return &channel->channel;
}

void
rdma_destroy_event_channel(struct rdma_event_channel *base)
{
	struct channel_of_events *channel = channel_of(base);
	struct event *event, *next;
	struct id *id;

	list_for_each_entry (id, &fabric.all_ids, entry) {
		if (id->id.channel == base)
			fabric_die(
				"an event channel is destroyed before its ids");
	}
	/* calls that nobody took */
	list_for_each_entry_safe (event, next, &channel->events, entry)
		free(event);
	close(base->fd);
	free(channel);
	fabric.channels--;
}

static void
drop_events(struct id *id)
{
	struct channel_of_events *channel = channel_of(id->id.channel);
	struct event *event, *spare;
	uint64_t count;
	bool any = !list_empty(&channel->events);

	list_for_each_entry_safe (event, spare, &channel->events, entry) {
		if (event->event.id != &id->id)
			continue;
		list_del(&event->entry);
		free(event);
	}
	if (any && list_empty(&channel->events) &&
	    read(channel->channel.fd, &count, sizeof(count)) < 0)
		abort();
}

/* --- ids --- */

static struct id *
id_new(struct rdma_event_channel *channel, void *context)
{
	struct id *id = calloc(1, sizeof(*id));

	assert(id != NULL);
	id->id.channel = channel;
	id->id.context = context;
	list_add_tail(&id->entry, &fabric.all_ids);
	fabric.ids++;
	return id;
}

int
rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **ret_id,
	       void *context, enum rdma_port_space ps)
{
	assert(ps == RDMA_PS_TCP);
	*ret_id = &id_new(channel, context)->id;
	return 0;
}

static void
part(struct id *id)
{
	if (id->other == NULL)
		return;
	id->other->other = NULL;
	id->other = NULL;
}

/* The connection ends: both queue pairs break, the other hears of it. */
static void
end_connection(struct id *id)
{
	struct id *other = id->other;

	if (id->id.qp != NULL)
		fabric_pair_break(id->id.qp);
	if (other == NULL)
		return;
	if (other->id.qp != NULL && other->established)
		fabric_pair_break(other->id.qp);
	if (id->established)
		tell(other, RDMA_CM_EVENT_DISCONNECTED, 0);
	else
		tell_with(other, other->id.channel, RDMA_CM_EVENT_REJECTED,
			  REJECT_CONSUMER, NULL, 0);
	part(id);
}

int
rdma_destroy_id(struct rdma_cm_id *base)
{
	struct id *id = id_of(base);

	if (base->qp != NULL)
		fabric_die("an id is destroyed before its queue pair");
	if (id->unacknowledged > 0)
		fabric_die(
			"an id is destroyed with an event not acknowledged: it "
			"would block");
	end_connection(id);
	drop_events(id);
	list_del(&id->entry);
	free(id);
	fabric.ids--;
	return 0;
}

static void
give_address(struct id *id)
{
	struct sockaddr_in *own = &id->id.route.addr.src_sin;

	own->sin_family = AF_INET;
	(void)inet_pton(AF_INET, FAKE_ADDRESS, &own->sin_addr);
	id->id.verbs = fabric_context();
	id->id.port_num = 1;
}

int
rdma_bind_addr(struct rdma_cm_id *base, struct sockaddr *address)
{
	static uint16_t port = 1000;
	struct id *id = id_of(base);
	struct sockaddr_in *own = &base->route.addr.src_sin;

	if (fabric.elsewhere || fabric.removed)
		return fail(ENODEV);
	give_address(id);
	own->sin_port = ((struct sockaddr_in *)(void *)address)->sin_port;
	if (own->sin_port == 0)
		own->sin_port = htons(++port);
	id->bound = true;
	return 0;
}

__be16
rdma_get_src_port(struct rdma_cm_id *id)
{
	return id->route.addr.src_sin.sin_port;
}

int
rdma_listen(struct rdma_cm_id *id, int backlog)
{
	(void)backlog;
	id_of(id)->listens = true;
	return 0;
}

int
rdma_resolve_addr(struct rdma_cm_id *base, struct sockaddr *own,
		  struct sockaddr *peer, int timeout_ms)
{
	struct id *id = id_of(base);

	(void)own;
	(void)timeout_ms;
	if (fabric.elsewhere || fabric.removed)
		return fail(ENODEV);
	memcpy(&base->route.addr.dst_addr, peer, sizeof(struct sockaddr_in));
	give_address(id);
	id->caller = true;
	if (fabric.stop != FABRIC_STOP_ADDRESS)
		tell(id, RDMA_CM_EVENT_ADDR_RESOLVED, 0);
	return 0;
}

int
rdma_resolve_route(struct rdma_cm_id *id, int timeout_ms)
{
	(void)timeout_ms;
	fabric_check_alive("rdma_resolve_route");
	if (fabric.stop != FABRIC_STOP_ROUTE)
		tell(id_of(id), RDMA_CM_EVENT_ROUTE_RESOLVED, 0);
	return 0;
}

int
rdma_set_option(struct rdma_cm_id *id, int level, int name, void *value,
		size_t length)
{
	(void)id;
	(void)value;
	assert(level == RDMA_OPTION_ID && name == RDMA_OPTION_ID_ACK_TIMEOUT &&
	       length == 1);
	return 0;
}

int
rdma_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd,
	       struct ibv_qp_init_attr *attributes)
{
	assert(id->qp == NULL && pd != NULL);
	id->qp = fabric_pair_new(pd, attributes);
	return id->qp == NULL ? -1 : 0;
}

void
rdma_destroy_qp(struct rdma_cm_id *id)
{
	fabric_pair_free(id->qp);
	id->qp = NULL;
}

static struct id *
find_listener(const struct id *caller)
{
	const struct sockaddr_in *wanted = &caller->id.route.addr.dst_sin;
	struct id *id;

	list_for_each_entry (id, &fabric.all_ids, entry) {
		if (id->listens &&
		    rdma_get_src_port(&id->id) == wanted->sin_port)
			return id;
	}
	return NULL;
}

int
rdma_connect(struct rdma_cm_id *base, struct rdma_conn_param *param)
{
	struct id *id = id_of(base), *listener, *called;

	fabric_check_alive("rdma_connect");
	assert(param->private_data_len <= 56 && param->retry_count > 0 &&
	       param->rnr_retry_count == 7);
	if (fabric.stop == FABRIC_STOP_CONNECT)
		return 0;
	listener = find_listener(id);
	if (listener == NULL || fabric.reject != 0) {
		tell(id, RDMA_CM_EVENT_REJECTED,
		     fabric.reject != 0 ? fabric.reject : REJECT_NO_LISTENER);
		return 0;
	}
	called = id_new(listener->id.channel, NULL);
	give_address(called);
	called->id.route.addr.dst_addr = id->id.route.addr.src_addr;
	called->other = id;
	id->other = called;
	tell_with(called, listener->id.channel, RDMA_CM_EVENT_CONNECT_REQUEST,
		  0, param->private_data, param->private_data_len);
	return 0;
}

int
rdma_accept(struct rdma_cm_id *base, struct rdma_conn_param *param)
{
	struct id *id = id_of(base);

	fabric_check_alive("rdma_accept");
	if (id->other == NULL)
		return fail(EINVAL); /* he has hung up */
	if (fabric.stop == FABRIC_STOP_ACCEPT)
		return 0;
	fabric_pair_join(id->id.qp, id->other->id.qp);
	id->established = true;
	id->other->established = true;
	tell_with(id->other, id->other->id.channel, RDMA_CM_EVENT_ESTABLISHED,
		  0, param->private_data, param->private_data_len);
	tell(id, RDMA_CM_EVENT_ESTABLISHED, 0);
	return 0;
}

int
rdma_reject(struct rdma_cm_id *base, const void *data, uint8_t length)
{
	struct id *id = id_of(base);

	if (id->other == NULL)
		return fail(EINVAL);
	tell_with(id->other, id->other->id.channel, RDMA_CM_EVENT_REJECTED,
		  REJECT_CONSUMER, data, length);
	part(id);
	return 0;
}

int
rdma_disconnect(struct rdma_cm_id *base)
{
	struct id *id = id_of(base);

	fabric_check_alive("rdma_disconnect");
	if (id->other == NULL)
		return fail(EINVAL);
	end_connection(id);
	return 0;
}

int
rdma_notify(struct rdma_cm_id *base, enum ibv_event_type type)
{
	assert(type == IBV_EVENT_COMM_EST);
	tell(id_of(base), RDMA_CM_EVENT_ESTABLISHED, 0);
	return 0;
}

int
rdma_migrate_id(struct rdma_cm_id *base, struct rdma_event_channel *channel)
{
	struct id *id = id_of(base);
	struct channel_of_events *from = channel_of(base->channel);
	struct event *event, *spare;

	if (id->unacknowledged > 0)
		fabric_die(
			"an id is migrated with an event not acknowledged: it "
			"would block");
	list_for_each_entry_safe (event, spare, &from->events, entry) {
		if (event->event.id != base)
			continue;
		list_move_tail(&event->entry, &channel_of(channel)->events);
		fabric_ring(channel->fd);
	}
	base->channel = channel;
	return 0;
}

/* --- what tests do --- */

struct rdma_cm_id *
fabric_id(unsigned int n)
{
	struct id *id;

	list_for_each_entry (id, &fabric.all_ids, entry) {
		if (!id->listens && !id->bound && n-- == 0)
			return &id->id;
	}
	return NULL;
}

void
fabric_remove(void)
{
	struct id *id;

	fabric.removed = true;
	list_for_each_entry (id, &fabric.all_ids, entry) {
		if (id->id.verbs != NULL)
			tell(id, RDMA_CM_EVENT_DEVICE_REMOVAL, 0);
	}
}

void
fabric_return(void)
{
	fabric_plug();
	fabric.removed = false;
	fabric.removal_told = false;
}
