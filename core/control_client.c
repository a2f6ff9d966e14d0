/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_client.c - the connections to the control socket: lines in, lines
 * out.
 *
 * C3  Bounded: CONTROL_CLIENTS_MAX connections, CONTROL_BACKLOG_MAX bytes not
 *     yet taken by the peer, LINES_A_TURN lines a turn.  With more than
 *     ANSWERS_AHEAD bytes of answers unread no further line is taken, so only
 *     events cut off a client.
 * C4  A client is freed by its own task only, or with the whole, or by C5:
 *     whoever else finds that it must go drops it and returns.
 * C5  Idle connections cannot keep the operator out: with all places taken, a
 *     new one replaces the connection that has been silent longest, unless
 *     each waits for an answer or for events.
 *
 * Who may connect is decided by the mode and group of the socket file alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/control_private.h"
#include "core/log.h"

#define LINES_A_TURN  32
#define ANSWERS_AHEAD (1u << 20) /* bytes */
#define LINGER_S      5		 /* for the peer to take our last words */

struct answer {
	struct stream_send send;
	struct control_client *client; /* borrowed */
	char text[];
};

/* --- sending --- */

void
control_client_drop(struct control_client *client)
{
	client->dropped = true;
	task_post(&client->task);
}

static void
client_end(struct control_client *client)
{
	client->ending = true;
	task_post(&client->task);
}

static void
answer_on_done(struct stream_send *send, int error)
{
	struct answer *answer = container_of(send, struct answer, send);

	if (error < 0)
		control_client_drop(answer->client);
	else
		task_post(&answer->client->task);
	free(answer);
}

void
control_client_send(struct control_client *client, const json_t *object)
{
	size_t length = json_dumpb(object, NULL, 0, JSON_COMPACT);
	struct answer *answer;

	if (client->dropped)
		return;
	if (client->stream.send_bytes + length + 1 > CONTROL_BACKLOG_MAX) {
		log_warn("control", "a client does not read its answers: "
				    "its connection is closed");
		control_client_drop(client);
		return;
	}
	answer = malloc(sizeof(*answer) + length + 1);
	if (!answer || length == 0) {
		log_error("control", "no memory for an answer: the connection "
				     "is closed");
		free(answer);
		control_client_drop(client);
		return;
	}
	memset(answer, 0, sizeof(*answer));
	json_dumpb(object, answer->text, length, JSON_COMPACT);
	answer->text[length] = '\n';
	answer->client = client;
	answer->send.iov[0].iov_base = answer->text;
	answer->send.iov[0].iov_len = length + 1;
	answer->send.iov_count = 1;
	answer->send.length = length + 1;
	answer->send.on_done = answer_on_done;
	stream_send(&client->stream, &answer->send);
}

/* --- receiving --- */

/* It shall read first; its task is posted when it has. */
static bool
client_must_read(const struct control_client *client)
{
	return client->stream.send_bytes > ANSWERS_AHEAD;
}

/* Takes at most LINES_A_TURN lines; true if a whole one is left. */
static bool
client_take_lines(struct control_client *client)
{
	unsigned int lines = 0;
	size_t start = 0;
	char *end = NULL;

	while (!client->dropped && !client_must_read(client)) {
		end = memchr(client->line + start, '\n', client->used - start);
		if (!end || lines++ == LINES_A_TURN)
			break;
		control_on_line(client, client->line + start,
				(size_t)(end - client->line) - start);
		start = (size_t)(end - client->line) + 1;
	}
	client->used -= start;
	memmove(client->line, client->line + start, client->used);
	return end != NULL;
}

static void
client_receive(struct control_client *client)
{
	if (client->ending || client->dropped || client->stream.receive_buf ||
	    client_must_read(client))
		return;
	if (client_take_lines(client)) {
		task_post(&client->task);
		return;
	}
	if (client->dropped || client_must_read(client))
		return;
	if (client->used == sizeof(client->line)) {
		control_send_error(client, NULL, -EMSGSIZE,
				   "the line is too long");
		client_end(client);
		return;
	}
	stream_receive(&client->stream, client->line + client->used, 1,
		       sizeof(client->line) - client->used);
}

static void
client_on_receive(struct stream *stream, ssize_t received)
{
	struct control_client *client =
		container_of(stream, struct control_client, stream);

	if (received < 0) {
		control_client_drop(client);
		return;
	}
	client->active_ns = loop_now(client->control->loop);
	client->used += (size_t)received;
	if (received == 0) {
		if (client->used > 0)
			control_on_line(client, client->line, client->used);
		client_end(client);
		return;
	}
	client_receive(client);
}

static const struct stream_ops client_ops = {
	.on_receive = client_on_receive,
};

/* --- connections --- */

void
control_client_free(struct control_client *client)
{
	stream_close(&client->stream);
	task_cancel(&client->task);
	timer_clear(&client->linger);
	control_forget_client(client);
	list_del(&client->entry);
	client->control->client_count--;
	free(client);
}

static void
client_on_task(struct task *task)
{
	struct control_client *client =
		container_of(task, struct control_client, task);

	client_receive(client);
	if (client->ending && client->call_count == 0) {
		if (stream_is_flushed(&client->stream))
			client->dropped = true;
		else if (!timer_is_set(&client->linger))
			timer_set(&client->linger, LINGER_S * NS_PER_S);
	}
	if (client->dropped)
		control_client_free(client);
}

static void
client_on_linger(struct timer *timer)
{
	control_client_drop(container_of(timer, struct control_client, linger));
}

/* The client that has been silent longest and waits for nothing. */
static struct control_client *
find_idle(struct control *control)
{
	struct control_client *client, *found = NULL;

	list_for_each_entry (client, &control->clients, entry)
		if (client->call_count == 0 && !client->listening &&
		    (!found || client->active_ns < found->active_ns))
			found = client;
	return found;
}

static bool
make_room(struct control *control)
{
	struct control_client *idle;

	if (control->client_count < CONTROL_CLIENTS_MAX)
		return true;
	idle = find_idle(control);
	if (idle)
		control_client_free(idle);
	return idle != NULL;
}

void
control_on_accept(struct listener *listener, int fd)
{
	static const char full[] =
		"{\"version\":1,\"id\":null,\"error\":{\"errno\":\"EBUSY\","
		"\"message\":\"too many control connections; close one\"}}\n";
	struct control *control =
		container_of(listener, struct control, listener);
	struct control_client *client = NULL;
	int r;

	if (make_room(control))
		client = calloc(1, sizeof(*client));
	if (!client) {
		log_warn("control", "a connection was refused: no place left");
		send(fd, full, sizeof(full) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		close(fd);
		return;
	}
	r = stream_open(&client->stream, control->loop, fd, &client_ops);
	if (r < 0) { /* fd is closed */
		log_warn("control", "a connection was refused: %s",
			 strerror(-r));
		free(client);
		return;
	}
	client->control = control;
	client->active_ns = loop_now(control->loop);
	INIT_LIST_HEAD(&client->calls);
	task_init(&client->task, control->loop, client_on_task);
	timer_init(&client->linger, control->loop, client_on_linger);
	list_add_tail(&client->entry, &control->clients);
	control->client_count++;
	client_receive(client);
}
