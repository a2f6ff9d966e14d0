/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_transport - see fake_transport.h.
 */
#include "tests/fake_transport.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/pool.h"
#include "core/reason.h"

struct message {
	struct list_head entry;
	unsigned char header[WIRE_HEADER];
	size_t length;
	unsigned char payload[];
};

/* One end of a connection. */
struct end {
	struct channel channel;
	struct transport_context context;
	struct list_head entry; /* of all ends */
	struct end *other;	/* NULL: it has closed */
	struct list_head arriving;
	struct list_head sent; /* whose on_done is due */
	struct task task;
	char address[32];
	bool caller, told_open;
	int error; /* on_close is due */
	bool *gone;
};

struct fake_acceptor {
	struct acceptor acceptor;
	struct transport_context context;
	struct list_head entry;
};

struct fake_network fake_network;

static struct end *
end_of(struct channel *channel)
{
	return container_of(channel, struct end, channel);
}

static void
break_end(struct end *end, int error)
{
	end->error = error;
	task_post(&end->task);
}

void
fake_network_open(void)
{
	memset(&fake_network, 0, sizeof(fake_network));
	INIT_LIST_HEAD(&fake_network.acceptors);
	INIT_LIST_HEAD(&fake_network.ends);
}

static void
drop_arriving(struct end *end)
{
	struct message *message, *spare;

	list_for_each_entry_safe (message, spare, &end->arriving, entry)
		free(message);
	INIT_LIST_HEAD(&end->arriving);
}

void
fake_network_hold(bool hold)
{
	struct end *end;

	fake_network.hold = hold;
	list_for_each_entry (end, &fake_network.ends, entry)
		task_post(&end->task);
}

void
fake_network_cut_address(const char *address)
{
	struct end *end;

	list_for_each_entry (end, &fake_network.ends, entry) {
		if (address != NULL && strcmp(end->address, address) != 0)
			continue;
		end->other = NULL;
		drop_arriving(end);
		break_end(end, -ECONNRESET);
	}
}

void
fake_network_cut(void)
{
	fake_network_cut_address(NULL);
}

unsigned int
fake_network_open_to(const char *address)
{
	unsigned int count = 0;
	struct end *end;

	list_for_each_entry (end, &fake_network.ends, entry)
		count += strcmp(end->address, address) == 0;
	return count;
}

/* --- delivering --- */

/* False when the end is gone. */
static bool
deliver(struct end *end, struct message *message)
{
	struct wire_header header;
	struct reason reason = { "" };
	void *payload = message->length > 0 ? message->payload : NULL;
	bool gone = false;

	if (wire_decode(message->header, &header, &reason) < 0) {
		end->channel.events->on_close(&end->channel, -EPROTO, &reason);
		return false;
	}
	if (payload != NULL && wire_is_sequenced(header.type)) {
		payload = pool_get(end->context.pool, message->length);
		assert(payload != NULL);
		memcpy(payload, message->payload, message->length);
	}
	/* cppcheck-suppress autoVariables */
	end->gone = &gone;
	end->channel.events->on_message(&end->channel, &header, payload,
					message->length);
	if (gone)
		return false;
	end->gone = NULL;
	return true;
}

static bool
end_sends(struct end *end)
{
	bool gone = false;

	/* cppcheck-suppress autoVariables */
	end->gone = &gone;
	while (!list_empty(&end->sent)) {
		struct channel_send *send = list_first_entry(
			&end->sent, struct channel_send, entry);

		list_del(&send->entry);
		send->on_done(send, 0);
		if (gone)
			return false;
	}
	end->gone = NULL;
	return true;
}

static void
on_task(struct task *task)
{
	struct end *end = container_of(task, struct end, task);
	struct reason reason = { "" };

	if (!end->told_open && end->error == 0) {
		bool gone = false;

		end->told_open = true;
		/* cppcheck-suppress autoVariables */
		end->gone = &gone;
		end->channel.events->on_open(&end->channel);
		if (gone)
			return;
		end->gone = NULL;
	}
	if (end->error == 0 && !end_sends(end))
		return;
	while (!list_empty(&end->arriving) && !fake_network.hold) {
		struct message *message =
			list_first_entry(&end->arriving, struct message, entry);
		bool alive;

		list_del(&message->entry);
		alive = deliver(end, message);
		free(message);
		if (!alive)
			return;
	}
	if (end->error == 0)
		return;
	(void)reason_set(&reason, end->error, "%s", strerror(-end->error));
	end->channel.events->on_close(&end->channel, end->error, &reason);
}

/* --- sending --- */

static void
fake_send(struct channel *channel, struct channel_send *send)
{
	struct end *end = end_of(channel);
	struct message *message = malloc(sizeof(*message) + send->length);

	assert(message != NULL);
	memcpy(message->header, send->header, WIRE_HEADER);
	message->length = send->length;
	if (send->length > 0)
		memcpy(message->payload, send->payload, send->length);
	if (end->caller &&
	    fake_network.tape_length + WIRE_HEADER + send->length <=
		    FAKE_TAPE_MAX) {
		unsigned char *at =
			fake_network.tape + fake_network.tape_length;

		memcpy(at, message->header, WIRE_HEADER);
		memcpy(at + WIRE_HEADER, message->payload, send->length);
		fake_network.tape_length += WIRE_HEADER + send->length;
	}
	if (fake_network.damage && send->length > 0) {
		message->payload[send->length - 1] ^= 1;
		fake_network.damage = false;
	}
	list_add_tail(&send->entry, &end->sent);
	task_post(&end->task);
	if (end->other == NULL) {
		free(message);
		return;
	}
	list_add_tail(&message->entry, &end->other->arriving);
	task_post(&end->other->task);
	if (fake_network.cut_in > 0 && --fake_network.cut_in == 0)
		fake_network_cut();
}

static void
fake_close(struct channel *channel)
{
	struct end *end = end_of(channel);

	if (end->gone != NULL)
		*end->gone = true;
	task_cancel(&end->task);
	list_del(&end->entry);
	fake_network.channels--;
	if (end->other != NULL) {
		end->other->other = NULL;
		break_end(end->other, -ECONNRESET);
	}
	drop_arriving(end);
	while (!list_empty(&end->sent)) {
		struct channel_send *send = list_first_entry(
			&end->sent, struct channel_send, entry);

		list_del(&send->entry);
		send->on_done(send, -ECANCELED);
	}
	free(end);
}

static bool
fake_is_private(const struct channel *channel)
{
	(void)channel;
	return false;
}

/* --- connecting --- */

static struct end *
end_new(const struct transport_context *context, const char *address,
	bool caller)
{
	struct end *end = calloc(1, sizeof(*end));

	assert(end != NULL);
	end->channel.transport = &transport_fake;
	(void)snprintf(end->channel.peer, sizeof(end->channel.peer),
		       "fake://%s", address);
	end->context = *context;
	end->caller = caller;
	(void)snprintf(end->address, sizeof(end->address), "%s", address);
	INIT_LIST_HEAD(&end->arriving);
	INIT_LIST_HEAD(&end->sent);
	task_init(&end->task, context->loop, on_task);
	list_add_tail(&end->entry, &fake_network.ends);
	fake_network.channels++;
	return end;
}

static bool
is_word(const char *word, const char *address)
{
	return word != NULL && strcmp(word, address) == 0;
}

static struct channel *
fake_connect(const struct transport_context *context, const char *address,
	     const struct channel_events *events, void *owner,
	     struct reason *reason)
{
	struct fake_acceptor *acceptor, *found = NULL;
	struct end *end = end_new(context, address, true);

	(void)reason;
	end->channel.events = events;
	end->channel.owner = owner;
	list_for_each_entry (acceptor, &fake_network.acceptors, entry) {
		if (strcmp(acceptor->acceptor.address, address) == 0)
			found = acceptor;
	}
	if (is_word(fake_network.dead_address, address))
		return &end->channel;
	if (found == NULL || fake_network.down ||
	    is_word(fake_network.down_address, address)) {
		break_end(end, -ECONNREFUSED);
		return &end->channel;
	}
	end->other = end_new(&found->context, address, false);
	end->other->other = end;
	task_post(&end->task);
	task_post(&end->other->task);
	found->acceptor.on_accept(&found->acceptor, &end->other->channel);
	return &end->channel;
}

static struct acceptor *
fake_listen(const struct transport_context *context, const char *address,
	    void (*on_accept)(struct acceptor *, struct channel *), void *owner,
	    struct reason *reason)
{
	struct fake_acceptor *acceptor = calloc(1, sizeof(*acceptor));

	(void)reason;
	assert(acceptor != NULL);
	acceptor->context = *context;
	acceptor->acceptor.transport = &transport_fake;
	acceptor->acceptor.on_accept = on_accept;
	acceptor->acceptor.owner = owner;
	(void)snprintf(acceptor->acceptor.address,
		       sizeof(acceptor->acceptor.address), "%s", address);
	list_add_tail(&acceptor->entry, &fake_network.acceptors);
	return &acceptor->acceptor;
}

static void
fake_stop(struct acceptor *base)
{
	struct fake_acceptor *acceptor =
		container_of(base, struct fake_acceptor, acceptor);

	list_del(&acceptor->entry);
	free(acceptor);
}

const struct transport transport_fake = {
	.scheme = "fake",
	.listen = fake_listen,
	.stop = fake_stop,
	.connect = fake_connect,
	.send = fake_send,
	.close = fake_close,
	.is_private = fake_is_private,
};
