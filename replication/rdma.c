/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma - messages over RDMA: a reliable connection by rdma_cm, and nothing but
 * SEND and RECEIVE on it.  No memory of this host can be read or written by
 * another.  rdma_private.h tells which room does what.
 *
 * A channel passes through these states, all of them written here or in
 * rdma_connect.c:
 *
 *   LOOKING_UP -> RESOLVING -> ROUTING -> CONNECTING -> OPEN -> BROKEN
 *        ^____________|___________|___________|           ^
 *              the name's next address       ACCEPTING ___|
 *
 * Whatever ends it goes through rdma_fail(); the owner is told from the loop,
 * after what had arrived before.  close() destroys the queue pair first: from
 * then on no buffer is touched any more, and everything can be given back.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/rdma_private.h"

int
rdma_set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno
								       : 0;
}

void
rdma_fail(struct rdma_channel *rdma, int error, const struct reason *reason)
{
	rdma->state = RDMA_BROKEN;
	if (rdma->close_error != 0)
		return;
	rdma->close_error = error;
	if (reason != NULL)
		rdma->close_reason = *reason;
	else
		(void)reason_set(&rdma->close_reason, error, "%s",
				 strerror(-error));
	task_post(&rdma->task);
}

/* False when the channel is gone. */
static bool
tell_open(struct rdma_channel *rdma)
{
	bool gone = false;

	rdma->told_open = true;
	/* cppcheck-suppress autoVariables */
	rdma->gone = &gone;
	rdma->channel.events->on_open(&rdma->channel);
	if (gone)
		return false;
	rdma->gone = NULL;
	return true;
}

static void
tell_close(struct rdma_channel *rdma)
{
	rdma->told_close = true;
	rdma->channel.events->on_close(&rdma->channel, rdma->close_error,
				       &rdma->close_reason);
}

/* More can be delivered of what came before the end. */
static bool
has_more(const struct rdma_channel *rdma)
{
	return rdma->told_open && !rdma->deaf && !rdma->assembling &&
	       !list_empty(&rdma->arrived);
}

/* A turn: whatever is due. */
static void
on_task(struct task *task)
{
	struct rdma_channel *rdma =
		container_of(task, struct rdma_channel, task);

	if (rdma->state == RDMA_OPEN && !rdma->told_open && !tell_open(rdma))
		return;
	if (rdma->told_open) {
		if (!rdma_send_reap(rdma))
			return;
		rdma_receive_take(rdma);
		if (!rdma_receive_deliver(rdma))
			return;
	}
	if (rdma->close_error != 0) {
		if (has_more(rdma))
			task_post(task);
		else if (!rdma->told_close)
			tell_close(rdma);
		return;
	}
	if (rdma->state != RDMA_OPEN)
		return;
	rdma_receive_fill(rdma);
	rdma_send_push(rdma);
	if (rdma->state == RDMA_OPEN)
		rdma_queue_rest(rdma);
}

struct rdma_channel *
rdma_channel_new(const struct transport_context *context)
{
	struct rdma_channel *rdma = calloc(1, sizeof(*rdma));

	if (rdma == NULL)
		return NULL;
	rdma->channel.transport = &transport_rdma;
	rdma->context = *context;
	task_init(&rdma->task, context->loop, on_task);
	INIT_LIST_HEAD(&rdma->waiting);
	INIT_LIST_HEAD(&rdma->ended);
	INIT_LIST_HEAD(&rdma->arrived);
	INIT_LIST_HEAD(&rdma->lacking);
	return rdma;
}

void *
rdma_channel_free(struct rdma_channel *rdma)
{
	if (rdma == NULL)
		return NULL;
	task_cancel(&rdma->task);
	rdma_connect_end(rdma);
	rdma_send_give_back(rdma);
	free(rdma);
	return NULL;
}

static struct channel *
connect_to(const struct transport_context *context, const char *address,
	   const struct channel_events *events, void *owner,
	   struct reason *reason)
{
	struct rdma_channel *rdma = rdma_channel_new(context);

	if (rdma == NULL)
		return NULL;
	(void)snprintf(rdma->channel.peer, sizeof(rdma->channel.peer),
		       "rdma://%s", address);
	rdma->channel.events = events;
	rdma->channel.owner = owner;
	rdma->caller = true;
	if (!rdma_connect_begin(rdma, address, reason))
		return rdma_channel_free(rdma);
	return &rdma->channel;
}

static void
send_message(struct channel *channel, struct channel_send *send)
{
	struct rdma_channel *rdma = rdma_of(channel);

	memset(send->private, 0, sizeof(struct rdma_progress));
	list_add_tail(&send->entry, &rdma->waiting);
	task_post(&rdma->task);
}

static void
close_channel(struct channel *channel)
{
	struct rdma_channel *rdma = rdma_of(channel);

	if (rdma->gone != NULL)
		*rdma->gone = true;
	(void)rdma_channel_free(rdma);
}

static bool
is_private(const struct channel *channel)
{
	(void)channel;
	return false;
}

static bool
is_authentic(const struct channel *channel)
{
	return rdma_of(channel)->seal != NULL;
}

static bool
is_safe(const struct transport_context *context)
{
	return (rdma_greeting_flags(context) & RDMA_SEALED) != 0;
}

static void
bind_proof(struct channel *channel, unsigned char ret_binding[WIRE_MAC])
{
	const struct rdma_channel *rdma = rdma_of(channel);

	memset(ret_binding, 0, WIRE_MAC);
	if (rdma->seal != NULL)
		rdma_seal_binding(rdma->seal, ret_binding);
}

const struct transport transport_rdma = {
	.scheme = "rdma",
	.piece = RDMA_SLOT,
	.listen = rdma_listen_begin,
	.stop = rdma_listen_end,
	.connect = connect_to,
	.send = send_message,
	.close = close_channel,
	.is_private = is_private,
	.is_authentic = is_authentic,
	.is_safe = is_safe,
	.bind = bind_proof,
};
