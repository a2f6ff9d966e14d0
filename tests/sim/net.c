/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net - see sim.h: two transports, each over a network of its own that delays,
 * breaks and goes deaf.
 *
 * A connection is a stream each way.  What a cut direction carries is held, as
 * by a kernel that sends again, and comes when it is healed; what a broken
 * connection carried is gone.  A process that dies resets its connections, a
 * host that dies says nothing.
 *
 * N1  Parcels of a direction are numbered and taken in order.
 * N2  A payload is taken from its owner when it leaves, not when it is sent.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/reason.h"
#include "tests/sim/sim.h"

#define TRY_AGAIN_NS (50 * NS_PER_US)
#define SYN_LIMIT_NS (3 * NS_PER_S)

enum parcel_kind {
	PARCEL_CALL,	/* wants to connect */
	PARCEL_OPENED,	/* the call was taken */
	PARCEL_LEAVE,	/* on its own host: a message leaves */
	PARCEL_MESSAGE, /* it arrives */
	PARCEL_CLOSED,
};

struct connection;

struct end {
	struct channel channel;
	struct connection *connection;
	struct node *node; /* NULL: not there, or not any more */
	struct transport_context context;
	struct list_head sends; /* that have not left */
	uint64_t leave_ns, arrive_ns, healed_ns;
	uint64_t sent, taken; /* parcels from, and by, this end */
	bool deaf;	      /* what is sent to it is lost from now on */
};

/* Owned by the net until it ends. */
struct connection {
	struct list_head entry;
	struct end end[2]; /* 0: who called */
	int fabric;
	bool broken;
};

struct parcel {
	struct list_head entry;
	uint64_t due_ns, number;
	enum parcel_kind kind;
	struct end *to;
	int from; /* the node that sent it; -1: nobody's network */
	int fabric;
	int error;
	struct wire_header header;
	unsigned char *payload; /* owned */
	size_t length;
};

struct sim_acceptor {
	struct acceptor acceptor;
	struct node *node;
	int fabric;
};

static struct end *
end_of(struct channel *channel)
{
	return container_of(channel, struct end, channel);
}

static struct end *
other(struct end *end)
{
	return &end->connection->end[end == &end->connection->end[0]];
}

static bool
is_there(const struct end *end)
{
	return end->node != NULL && node_is_live(end->node);
}

/* --- parcels --- */

static void
insert(struct parcel *parcel)
{
	struct list_head *at = sim->net.parcels.prev;

	while (at != &sim->net.parcels &&
	       list_entry(at, struct parcel, entry)->due_ns > parcel->due_ns)
		at = at->prev;
	list_add(&parcel->entry, at);
}

static struct parcel *
parcel_new(enum parcel_kind kind, struct end *to, int from, uint64_t due_ns)
{
	struct parcel *parcel = calloc(1, sizeof(*parcel));

	if (parcel == NULL)
		abort();
	parcel->kind = kind;
	parcel->to = to;
	parcel->from = from;
	parcel->due_ns = due_ns;
	return parcel;
}

static void
parcel_free(struct parcel *parcel)
{
	free(parcel->payload);
	free(parcel);
}

static uint64_t
delay(void)
{
	const struct net *net = &sim->net;

	return net->latency_ns +
	       (uint64_t)(sim_random(STREAM_NET) * (double)net->jitter_ns);
}

/* Over the network, in order behind all that went there before. */
static struct parcel *
post(enum parcel_kind kind, struct end *from)
{
	struct end *to = other(from);
	uint64_t due = sim->now_ns + delay();
	struct parcel *parcel;

	if (due < to->arrive_ns)
		due = to->arrive_ns;
	to->arrive_ns = due;
	parcel = parcel_new(kind, to, from->node->index, due);
	parcel->number = from->sent++;
	parcel->fabric = from->connection->fabric;
	insert(parcel);
	return parcel;
}

/* By the host itself. */
static void
tell_closed(struct end *end, int error, uint64_t delay_ns)
{
	struct parcel *parcel =
		parcel_new(PARCEL_CLOSED, end, -1, sim->now_ns + delay_ns);

	parcel->number = UINT64_MAX; /* whatever was to come does not */
	parcel->error = error;
	insert(parcel);
}

/* --- the transport --- */

static void
end_init(struct end *end, struct connection *connection, struct node *node,
	 const struct transport_context *context)
{
	end->channel.transport =
		connection->fabric == 0 ? &transport_sim : &transport_alt;
	end->connection = connection;
	end->node = node;
	if (context != NULL)
		end->context = *context;
	INIT_LIST_HEAD(&end->sends);
}

static struct channel *
connect_over(int fabric, const struct transport_context *context,
	     const char *address, const struct channel_events *events,
	     void *owner)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	struct node *node = node_of(context->loop);
	struct end *end;

	if (connection == NULL)
		abort();
	list_add_tail(&connection->entry, &sim->net.connections);
	connection->fabric = fabric;
	end = &connection->end[0];
	end_init(end, connection, node, context);
	end_init(&connection->end[1], connection, NULL, NULL);
	end->channel.events = events;
	end->channel.owner = owner;
	(void)snprintf(end->channel.peer, sizeof(end->channel.peer), "%s",
		       address);
	if (node_is_live(node))
		(void)post(PARCEL_CALL, end);
	return &end->channel;
}

static struct acceptor *
listen_on(int fabric, const struct transport_context *context,
	  const char *address,
	  void (*on_accept)(struct acceptor *, struct channel *), void *owner)
{
	struct sim_acceptor *acceptor = calloc(1, sizeof(*acceptor));

	if (acceptor == NULL)
		abort();
	acceptor->acceptor.transport =
		fabric == 0 ? &transport_sim : &transport_alt;
	acceptor->acceptor.on_accept = on_accept;
	acceptor->acceptor.owner = owner;
	(void)snprintf(acceptor->acceptor.address,
		       sizeof(acceptor->acceptor.address), "%s", address);
	acceptor->fabric = fabric;
	acceptor->node = node_of(context->loop);
	acceptor->node->acceptor[fabric] = acceptor;
	/* what on_accept takes needs surroundings, too */
	return &acceptor->acceptor;
}

static struct channel *
sim_connect(const struct transport_context *context, const char *address,
	    const struct channel_events *events, void *owner,
	    struct reason *reason)
{
	(void)reason;
	return connect_over(0, context, address, events, owner);
}

static struct channel *
alt_connect(const struct transport_context *context, const char *address,
	    const struct channel_events *events, void *owner,
	    struct reason *reason)
{
	(void)reason;
	return connect_over(1, context, address, events, owner);
}

static struct acceptor *
sim_listen(const struct transport_context *context, const char *address,
	   void (*on_accept)(struct acceptor *, struct channel *), void *owner,
	   struct reason *reason)
{
	(void)reason;
	return listen_on(0, context, address, on_accept, owner);
}

static struct acceptor *
alt_listen(const struct transport_context *context, const char *address,
	   void (*on_accept)(struct acceptor *, struct channel *), void *owner,
	   struct reason *reason)
{
	(void)reason;
	return listen_on(1, context, address, on_accept, owner);
}

static void
sim_stop(struct acceptor *base)
{
	struct sim_acceptor *acceptor =
		container_of(base, struct sim_acceptor, acceptor);

	if (acceptor->node->acceptor[acceptor->fabric] == acceptor)
		acceptor->node->acceptor[acceptor->fabric] = NULL;
	free(acceptor);
}

static void
sim_send(struct channel *channel, struct channel_send *send)
{
	struct end *end = end_of(channel);

	list_add_tail(&send->entry, &end->sends);
	if (end->node == NULL || !node_acts(end->node))
		return;
	if (end->leave_ns < sim->now_ns)
		end->leave_ns = sim->now_ns;
	end->leave_ns += sim_below(STREAM_NET, 20 * NS_PER_US);
	insert(parcel_new(PARCEL_LEAVE, end, -1, end->leave_ns));
}

static void
sim_close(struct channel *channel)
{
	struct end *end = end_of(channel);
	bool told = is_there(end) && !end->connection->broken;

	if (told)
		post(PARCEL_CLOSED, end)->error = -ECONNRESET;
	end->node = NULL;
	while (!list_empty(&end->sends)) {
		struct channel_send *send = list_first_entry(
			&end->sends, struct channel_send, entry);

		list_del(&send->entry);
		send->on_done(send, -ECANCELED);
	}
}

static bool
sim_is_private(const struct channel *channel)
{
	(void)channel;
	return true;
}

const struct transport transport_sim = {
	.scheme = "sim",
	.listen = sim_listen,
	.stop = sim_stop,
	.connect = sim_connect,
	.send = sim_send,
	.close = sim_close,
	.is_private = sim_is_private,
};

const struct transport transport_alt = {
	.scheme = "alt",
	.listen = alt_listen,
	.stop = sim_stop,
	.connect = alt_connect,
	.send = sim_send,
	.close = sim_close,
	.is_private = sim_is_private,
};

/* --- arrivals --- */

static void
take_call(struct end *end)
{
	struct end *caller = other(end);
	struct node *node;
	struct sim_acceptor *listener;
	struct acceptor *acceptor;

	if (caller->node == NULL)
		return;
	node = node_peer(caller->node);
	if (!node_is_live(node)) {
		/* a host that is off does not even say so */
		tell_closed(caller, -ETIMEDOUT, SYN_LIMIT_NS);
		return;
	}
	listener = node->acceptor[end->connection->fabric];
	if (listener == NULL) {
		tell_closed(caller, -ECONNREFUSED, delay());
		return;
	}
	acceptor = &listener->acceptor;
	end->node = node;
	end->context = caller->context;
	end->context.loop = node->loop;
	end->context.pool = node->pool;
	(void)snprintf(end->channel.peer, sizeof(end->channel.peer), "%s",
		       caller->node->address);
	acceptor->on_accept(acceptor, &end->channel);
	if (end->node == NULL)
		return;
	(void)post(PARCEL_OPENED, end);
	end->channel.events->on_open(&end->channel);
}

static void
leave(struct end *end)
{
	struct channel_send *send;
	struct parcel *parcel;
	struct reason reason;

	if (!is_there(end) || list_empty(&end->sends))
		return;
	send = list_first_entry(&end->sends, struct channel_send, entry);
	list_del(&send->entry);
	if (!end->connection->broken) {
		parcel = post(PARCEL_MESSAGE, end);
		if (wire_decode(send->header, &parcel->header, &reason) < 0)
			world_fail("%s sent a header that is none: %s",
				   end->node->name, reason.text);
		parcel->length = send->length;
		if (send->length > 0) {
			parcel->payload = malloc(send->length);
			if (parcel->payload == NULL)
				abort();
			memcpy(parcel->payload, send->payload, send->length);
		}
	}
	send->on_done(send, 0);
}

/* False: later, there is no buffer. */
static bool
take_message(struct end *end, struct parcel *parcel)
{
	void *payload = parcel->payload;

	if (wire_is_sequenced(parcel->header.type) && parcel->length > 0) {
		payload = pool_get(end->context.pool, parcel->length);
		if (payload == NULL)
			return false;
		memcpy(payload, parcel->payload, parcel->length);
	}
	end->channel.events->on_message(&end->channel, &parcel->header, payload,
					parcel->length);
	return true;
}

static void
take_closed(struct end *end, int error)
{
	struct reason reason;

	end->connection->broken = true;
	(void)reason_set(&reason, error, "%s", strerror(-error));
	end->channel.events->on_close(&end->channel, error, &reason);
}

/* False: it is to come again. */
static bool
arrive(struct parcel *parcel)
{
	struct end *end = parcel->to;

	if (end->node != NULL)
		cover(end->node);

	if (parcel->kind == PARCEL_LEAVE) {
		leave(end);
		return true;
	}
	if (parcel->kind == PARCEL_CALL) {
		other(end)->connection->end[1].taken++;
		take_call(end);
		return true;
	}
	if (!is_there(end) ||
	    (end->connection->broken && parcel->kind != PARCEL_CLOSED))
		return true;
	if (end->deaf && parcel->kind == PARCEL_MESSAGE)
		return true;
	if (parcel->number != UINT64_MAX && !end->connection->broken &&
	    !end->deaf && parcel->number != end->taken)
		return false; /* N1 */
	if (parcel->kind == PARCEL_OPENED)
		end->channel.events->on_open(&end->channel);
	else if (parcel->kind == PARCEL_CLOSED)
		take_closed(end, parcel->error);
	else if (!take_message(end, parcel))
		return false;
	end->taken++;
	return true;
}

void
net_run(struct net *net)
{
	while (!list_empty(&net->parcels) && !sim->failed) {
		struct parcel *parcel =
			list_first_entry(&net->parcels, struct parcel, entry);

		/* list_del() took out the one before, which is not seen
		 * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		if (parcel->due_ns > sim->now_ns)
			break;
		list_del(&parcel->entry);
		if (parcel->from >= 0 &&
		    net->cut[parcel->fabric][parcel->from]) {
			list_add_tail(&parcel->entry, &net->held);
		} else if (arrive(parcel)) {
			parcel_free(parcel);
		} else {
			parcel->due_ns = sim->now_ns + TRY_AGAIN_NS;
			insert(parcel);
		}
	}
}

uint64_t
net_next(const struct net *net)
{
	if (list_empty(&net->parcels))
		return UINT64_MAX;
	return list_first_entry(&net->parcels, struct parcel, entry)->due_ns;
}

/* --- faults --- */

/* Over all networks. */
void
net_reset(struct net *net)
{
	struct connection *connection;

	list_for_each_entry (connection, &net->connections, entry) {
		if (connection->broken || (connection->end[0].node == NULL &&
					   connection->end[1].node == NULL))
			continue;
		connection->broken = true;
		for (int i = 0; i < 2; i++)
			tell_closed(&connection->end[i], -ECONNRESET, delay());
	}
}

void
net_cut(struct net *net, int fabric, int from, bool cut)
{
	struct parcel *parcel, *spare;

	net->cut[fabric][from] = cut;
	list_for_each_entry_safe (parcel, spare, &net->held, entry) {
		if (parcel->fabric == fabric && parcel->from == from && !cut) {
			list_del(&parcel->entry);
			parcel->due_ns = sim->now_ns + delay();
			if (parcel->due_ns < parcel->to->healed_ns)
				parcel->due_ns = parcel->to->healed_ns;
			parcel->to->healed_ns = parcel->due_ns;
			insert(parcel);
		}
	}
}

/* Connections stay open, and nothing gets through them any more. */
void
net_drop(struct net *net)
{
	struct connection *connection;

	list_for_each_entry (connection, &net->connections, entry) {
		connection->end[0].deaf = true;
		connection->end[1].deaf = true;
	}
}

bool
net_is_whole(const struct net *net)
{
	for (int fabric = 0; fabric < SIM_FABRICS; fabric++) {
		if (net->cut[fabric][0] || net->cut[fabric][1])
			return false;
	}
	return true;
}

bool
net_is_idle(const struct net *net)
{
	const struct parcel *parcel;

	list_for_each_entry (parcel, &net->parcels, entry) {
		if (parcel->kind == PARCEL_MESSAGE &&
		    wire_is_sequenced(parcel->header.type))
			return false;
	}
	return list_empty(&net->held);
}

void
net_node_dies(struct net *net, struct node *node, bool power)
{
	struct connection *connection;

	list_for_each_entry (connection, &net->connections, entry) {
		for (int i = 0; i < 2; i++) {
			struct end *end = &connection->end[i];

			if (end->node != node)
				continue;
			if (!power && !connection->broken)
				post(PARCEL_CLOSED, end)->error = -ECONNRESET;
			end->node = NULL;
		}
	}
	for (int fabric = 0; fabric < SIM_FABRICS; fabric++)
		node->acceptor[fabric] = NULL;
}

void
net_init(struct net *net)
{
	INIT_LIST_HEAD(&net->parcels);
	INIT_LIST_HEAD(&net->held);
	INIT_LIST_HEAD(&net->connections);
	net->latency_ns = 20 * NS_PER_US;
	net->jitter_ns = 500 * NS_PER_US;
}

void
net_done(struct net *net)
{
	struct parcel *parcel, *spare;
	struct connection *connection, *next;

	list_splice_tail_init(&net->held, &net->parcels);
	list_for_each_entry_safe (parcel, spare, &net->parcels, entry)
		parcel_free(parcel);
	list_for_each_entry_safe (connection, next, &net->connections, entry)
		free(connection);
}
