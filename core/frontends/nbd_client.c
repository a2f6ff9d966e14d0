/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd_client - one connection of an NBD client, see nbd_client.h: its buffer,
 * its time limits, its end.  What the bytes mean is decided elsewhere.
 */
#include "core/frontends/nbd_client.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/log.h"

static void client_on_receive(struct stream *stream, ssize_t received);
static void client_on_tls(struct stream *stream, int error,
			  const struct reason *reason);
static void client_on_timer(struct timer *timer);
static void client_on_task(struct task *task);
static void client_on_buffer(struct pool_waiter *waiter, void *buffer);

static const struct stream_ops client_stream_ops = {
	.on_receive = client_on_receive,
	.on_tls = client_on_tls,
};

/* Who it is, for people: "pid 4711", "[::1]:40312". */
static void
name_peer(struct nbd_client *client)
{
	struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
	socklen_t length = sizeof(address);
	char host[64], port[8];
	struct ucred who;

	(void)snprintf(client->peer, sizeof(client->peer), "unknown");
	if (getpeername(client->stream.fd, (struct sockaddr *)&address,
			&length) < 0)
		return;
	if (address.ss_family == AF_UNIX) {
		length = sizeof(who);
		if (getsockopt(client->stream.fd, SOL_SOCKET, SO_PEERCRED, &who,
			       &length) == 0)
			(void)snprintf(client->peer, sizeof(client->peer),
				       "pid %d", (int)who.pid);
	} else if (getnameinfo((struct sockaddr *)&address, length, host,
			       sizeof(host), port, sizeof(port),
			       NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
		(void)snprintf(client->peer, sizeof(client->peer),
			       address.ss_family == AF_INET6 ? "[%s]:%s"
							     : "%s:%s",
			       host, port);
	}
}

int
nbd_client_new(struct nbd_server *server, int fd)
{
	struct nbd_client *client = calloc(1, sizeof(*client));
	int r;

	if (client == NULL) {
		(void)close(fd);
		return -ENOMEM;
	}
	r = stream_open(&client->stream, server->loop, fd, &client_stream_ops);
	if (r < 0) {
		free(client);
		return r;
	}
	client->server = server;
	client->id = ++server->last_id;
	client->context_export = -1;
	name_peer(client);
	task_init(&client->task, server->loop, client_on_task);
	timer_init(&client->timer, server->loop, client_on_timer);
	pool_waiter_init(&client->waiter, client_on_buffer);
	INIT_LIST_HEAD(&client->idle);
	for (int i = 0; i < NBD_REQUESTS_MAX; i++) {
		client->slots[i].client = client;
		list_add_tail(&client->slots[i].entry, &client->idle);
	}
	list_add_tail(&client->entry, &server->clients);
	server->client_count++;
	timer_set(&client->timer, server->handshake_ns);
	nbd_greet(client);
	nbd_client_run(client);
	return 0;
}

/* --- bytes --- */

/* Move what is left to the front and ask for more behind it. */
static void
receive_more(struct nbd_client *client, size_t need)
{
	size_t have = nbd_client_available(client);
	size_t max = NBD_IN_BYTES - have;

	assert(need > have && need <= NBD_IN_BYTES);
	if (client->in_begin > 0) {
		memmove(client->in, nbd_client_bytes(client), have);
		client->in_begin = 0;
		client->in_end = have;
	}
	/* behind a large payload expect another: its bytes need no copy if
	 * they stay in the socket until their header has been read */
	if (client->large && need <= NBD_REQUEST_BYTES)
		max = need - have;
	stream_receive(&client->stream, client->in + have, need - have, max);
}

/* Drop what is to be dropped; false if there is more of it to come. */
static bool
skip(struct nbd_client *client)
{
	size_t have = nbd_client_available(client);
	size_t part = client->skip < have ? (size_t)client->skip : have;

	client->in_begin += part;
	client->skip -= part;
	return client->skip == 0;
}

/* It has begun a command, and we wait for the rest. */
static bool
owes_bytes(const struct nbd_client *client)
{
	return client->stream.receive_buf != NULL &&
	       (client->filling != NULL || client->skip > 0 ||
		nbd_client_available(client) > 0);
}

void
nbd_client_run(struct nbd_client *client)
{
	enum nbd_phase phase;
	size_t need = 0;

	do {
		if (client->stream.receive_buf != NULL)
			return; /* more is on the way */
		phase = client->phase;
		switch (phase) {
		case NBD_GREETING:
		case NBD_OPTIONS:
			need = skip(client) ? nbd_handshake_take(client) : 1;
			break;
		case NBD_TRANSMISSION:
			need = skip(client) ? nbd_transmission_take(client) : 1;
			break;
		case NBD_TLS:
		case NBD_ENDING:
		case NBD_GONE:
			return;
		}
	} while (client->phase != phase ||
		 (client->skip > 0 && nbd_client_available(client) > 0));
	if (need == 0)
		return;
	receive_more(client, need);
	if (client->phase == NBD_TRANSMISSION && owes_bytes(client))
		nbd_client_expect_progress(client);
}

static void
client_on_receive(struct stream *stream, ssize_t received)
{
	struct nbd_client *client =
		container_of(stream, struct nbd_client, stream);

	if (received > 0) {
		if (client->filling != NULL)
			nbd_transmission_filled(client, (size_t)received);
		else
			client->in_end += (size_t)received;
		nbd_client_run(client);
		return;
	}
	if (received < 0)
		log_debug("nbd", "client %u (%s): %s", client->id, client->peer,
			  strerror((int)-received));
	if (received == 0 && client->phase == NBD_ENDING)
		return; /* it waits for its replies, as we do */
	/* an end between two commands: what was taken may still be answered */
	if (received == 0 && client->phase == NBD_TRANSMISSION &&
	    client->filling == NULL && nbd_client_available(client) == 0)
		nbd_client_finish(client);
	else
		nbd_client_end(client);
}

static void
client_on_tls(struct stream *stream, int error, const struct reason *reason)
{
	struct nbd_client *client =
		container_of(stream, struct nbd_client, stream);

	if (error < 0) {
		nbd_client_drop(client, "%s", reason_text(reason, error));
		return;
	}
	client->tls = true;
	client->structured = false; /* nothing said in the open counts */
	client->contexts = 0;
	client->phase = NBD_OPTIONS;
	nbd_client_run(client);
}

static void
client_on_buffer(struct pool_waiter *waiter, void *buffer)
{
	struct nbd_client *client =
		container_of(waiter, struct nbd_client, waiter);

	assert(client->granted == NULL);
	client->granted = buffer;
	nbd_client_run(client);
}

/* --- time limits --- */

static uint64_t
progress(const struct nbd_client *client)
{
	return client->stream.bytes_in + client->stream.bytes_out;
}

void
nbd_client_expect_progress(struct nbd_client *client)
{
	if (timer_is_set(&client->timer))
		return;
	client->progress = progress(client);
	timer_set(&client->timer, client->server->stall_ns);
}

static void
client_on_timer(struct timer *timer)
{
	struct nbd_client *client =
		container_of(timer, struct nbd_client, timer);

	if (client->phase < NBD_TRANSMISSION) {
		nbd_client_drop(client, "handshake not finished in %u s",
				(unsigned int)(client->server->handshake_ns /
					       NS_PER_S));
		return;
	}
	if (stream_is_flushed(&client->stream) && !owes_bytes(client))
		return;
	if (client->progress == progress(client)) {
		nbd_client_drop(
			client, "%s nothing for %u s",
			owes_bytes(client) ? "sends" : "reads",
			(unsigned int)(client->server->stall_ns / NS_PER_S));
		return;
	}
	nbd_client_expect_progress(client);
}

/* --- the end --- */

static void
client_on_task(struct task *task)
{
	struct nbd_client *client = container_of(task, struct nbd_client, task);

	if (client->phase != NBD_GONE) {
		if (client->phase == NBD_ENDING && client->busy == 0 &&
		    stream_is_flushed(&client->stream))
			nbd_client_end(client);
		else
			nbd_client_run(client);
		return;
	}
	if (client->busy == 0)
		nbd_client_free(client);
}

void
nbd_client_free(struct nbd_client *client)
{
	assert(client->phase == NBD_GONE);
	assert(client->busy == 0 && client->held == 0);
	task_cancel(&client->task);
	list_del(&client->entry);
	client->server->client_count--;
	free(client);
}

void
nbd_client_finish(struct nbd_client *client)
{
	if (client->phase >= NBD_ENDING)
		return;
	if (client->phase < NBD_TRANSMISSION || client->filling != NULL) {
		nbd_client_end(client);
		return;
	}
	client->phase = NBD_ENDING;
	task_post(&client->task);
}

void
nbd_client_end(struct nbd_client *client)
{
	struct nbd_slot *filling = client->filling;

	if (client->phase == NBD_GONE)
		return;
	log_debug("nbd", "client %u (%s): gone", client->id, client->peer);
	client->phase = NBD_GONE;
	client->filling = NULL;
	timer_clear(&client->timer);
	pool_cancel(client->server->pool, &client->waiter);
	pool_put(client->server->pool, client->granted);
	client->granted = NULL;
	stream_close(&client->stream);
	if (filling != NULL) { /* neither submitted nor answered */
		nbd_slot_drop_hold(filling);
		nbd_slot_drop_hold(filling);
	}
	task_post(&client->task);
}

void
nbd_client_drop(struct nbd_client *client, const char *format, ...)
{
	char text[256];
	va_list args;

	if (client->phase == NBD_GONE)
		return;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_warn("nbd", "client %u (%s) dropped: %s", client->id, client->peer,
		 text);
	nbd_client_end(client);
}
