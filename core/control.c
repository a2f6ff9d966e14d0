/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control.c - connections, lines, calls and events of the control socket.
 *
 *   listener -> control_client: line[] -> control_call -> a command's handler
 *                     ^-------- answer ------'   (now or later)
 *
 * C1  Every line gets exactly one answer; a call outlives its connection, and
 *     its answer is then dropped.
 * C2  Bounded: CONTROL_CLIENTS_MAX connections, CALLS_MAX open calls on each,
 *     CONTROL_BACKLOG_MAX bytes not yet taken by the peer, LINES_A_TURN lines
 *     a turn.
 * C3  A client is freed by its own task only, or by control_free(): whoever
 *     finds that it must go calls client_drop() and returns.
 * C4  Idle connections cannot keep the operator out: with all places taken, a
 *     new one replaces the connection that has been silent longest, unless
 *     each waits for an answer or for events.
 *
 * Who may connect is decided by the mode and group of the socket file alone.
 */
#include "control.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "reason.h"
#include "stream.h"

#define CALLS_MAX    16
#define LINES_A_TURN 32
#define LINGER_S     5 /* for the peer to take our last words */

struct control {
	struct loop *loop;			/* borrowed */
	const struct control_command *commands; /* borrowed */
	void *context;				/* borrowed */
	struct listener listener;
	struct list_head clients; /* owned */
	unsigned int client_count;
};

struct control_client {
	struct list_head entry;
	struct control *control; /* borrowed */
	struct stream stream;
	struct task task;    /* further lines, and the end */
	struct timer linger; /* set once only sends are left */
	struct list_head calls;
	unsigned int call_count;
	uint64_t active_ns; /* when it last sent something */
	bool listening;	    /* to events */
	bool ending;	    /* reads no more; goes when all is answered */
	bool dropped;	    /* goes at once */
	size_t used;	    /* bytes of line[] */
	char line[CONTROL_LINE_MAX + 1];
};

struct control_call {
	struct list_head entry;
	struct control_client *client; /* borrowed; NULL once it is gone */
	void *context;		       /* borrowed */
	json_t *request;	       /* owned: the whole line */
	json_t *id;		       /* borrowed from request, or NULL */
};

struct answer {
	struct stream_send send;
	struct control_client *client; /* borrowed */
	char text[];
};

/* --- sending --- */

static void
client_drop(struct control_client *client)
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
		client_drop(answer->client);
	else
		task_post(&answer->client->task);
	free(answer);
}

static void
client_send(struct control_client *client, const json_t *object)
{
	size_t length = json_dumpb(object, NULL, 0, JSON_COMPACT);
	struct answer *answer;

	if (client->dropped)
		return;
	if (client->stream.send_bytes + length + 1 > CONTROL_BACKLOG_MAX) {
		log_warn("control", "a client does not read its answers: "
				    "its connection is closed");
		client_drop(client);
		return;
	}
	answer = malloc(sizeof(*answer) + length + 1);
	if (!answer || length == 0) {
		log_error("control", "no memory for an answer: the connection "
				     "is closed");
		free(answer);
		client_drop(client);
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

/* A sentence may quote a path or an input that is not UTF-8. */
static json_t *
sentence_json(const char *text)
{
	char plain[REASON_MAX];
	size_t i;

	for (i = 0; i + 1 < sizeof(plain) && text[i]; i++)
		plain[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
	plain[i] = '\0';
	return json_string(text) ?: json_string(plain);
}

static void
client_send_error(struct control_client *client, json_t *id, int error,
		  const char *text)
{
	json_t *object;

	object = json_pack("{s:i, s:O?, s:{s:s, s:o}}", "version",
			   CONTROL_VERSION, "id", id, "error", "errno",
			   errno_name(error), "message", sentence_json(text));
	if (object)
		client_send(client, object);
	else
		client_drop(client);
	json_decref(object);
}

/* --- calls --- */

static void
call_free(struct control_call *call)
{
	if (call->client) {
		call->client->call_count--;
		list_del(&call->entry);
		task_post(&call->client->task);
	}
	json_decref(call->request);
	free(call);
}

void *
control_context(struct control_call *call)
{
	return call->context;
}

void
control_reply(struct control_call *call, json_t *result)
{
	json_t *object;

	if (!result)
		result = json_object();
	object = json_pack("{s:i, s:O?, s:o}", "version", CONTROL_VERSION, "id",
			   call->id, "result", result);
	if (call->client && object)
		client_send(call->client, object);
	else if (call->client)
		client_drop(call->client);
	json_decref(object);
	call_free(call);
}

void
control_refuse(struct control_call *call, int error,
	       const struct reason *reason)
{
	if (call->client)
		client_send_error(call->client, call->id, error,
				  reason_text(reason, error));
	call_free(call);
}

bool
control_unpack(struct control_call *call, json_t *arguments, const char *format,
	       ...)
{
	struct reason reason;
	json_error_t error;
	va_list list;
	int result;

	va_start(list, format);
	result = json_vunpack_ex(arguments, &error, JSON_STRICT, format, list);
	va_end(list);
	if (result == 0)
		return true;
	reason_set(&reason, -EINVAL, "bad arguments: %s", error.text);
	control_refuse(call, -EINVAL, &reason);
	return false;
}

/* --- the commands that every daemon has --- */

static void
command_events(struct control_call *call, json_t *arguments)
{
	struct control_client *client = call->client;

	if (!control_unpack(call, arguments, "{}"))
		return;
	control_reply(call, NULL);
	client->listening = true;
}

static void command_commands(struct control_call *call, json_t *arguments);

static const struct control_command own_commands[] = {
	{ "commands", command_commands },
	{ "events", command_events },
	{ NULL, NULL },
};

static void
append_names(json_t *names, const struct control_command *command)
{
	for (; command->name; command++)
		json_array_append_new(names, json_string(command->name));
}

static void
command_commands(struct control_call *call, json_t *arguments)
{
	json_t *names;

	if (!control_unpack(call, arguments, "{}"))
		return;
	names = json_array();
	append_names(names, own_commands);
	append_names(names, call->client->control->commands);
	control_reply(call, json_pack("{s:o}", "commands", names));
}

static const struct control_command *
find_command(const struct control_command *command, const char *name)
{
	for (; command->name; command++)
		if (strcmp(command->name, name) == 0)
			return command;
	return NULL;
}

/* --- from a line to a handler --- */

static void
call_begin(struct control_client *client, json_t *request, json_t *id,
	   json_t *arguments, const struct control_command *command)
{
	struct control_call *call = calloc(1, sizeof(*call));

	if (arguments)
		json_incref(arguments);
	else
		arguments = json_object();
	if (!call || !arguments) {
		client_send_error(client, id, -ENOMEM, "out of memory");
		json_decref(arguments);
		free(call);
		return;
	}
	/* The call keeps `arguments` alive through its request. */
	json_object_set_new(request, "arguments", arguments);
	call->client = client;
	call->context = client->control->context;
	call->request = json_incref(request);
	call->id = id;
	list_add_tail(&call->entry, &client->calls);
	client->call_count++;
	command->handler(call, arguments);
}

static void
client_on_request(struct control_client *client, json_t *request)
{
	json_t *id = json_object_get(request, "id"), *arguments = NULL;
	int version = CONTROL_VERSION;
	const struct control_command *command;
	struct reason reason;
	json_error_t error;
	const char *name;

	if (id && !json_is_integer(id) && !json_is_string(id)) {
		client_send_error(client, NULL, -EINVAL,
				  "bad request: \"id\" must be a number or "
				  "a string");
		return;
	}
	if (json_unpack_ex(request, &error, JSON_STRICT, "{s?i, s?o, s:s, s?o}",
			   "version", &version, "id", &id, "command", &name,
			   "arguments", &arguments) < 0) {
		reason_set(&reason, -EINVAL, "bad request: %s", error.text);
		client_send_error(client, id, -EINVAL, reason.text);
		return;
	}
	if (version != CONTROL_VERSION) {
		reason_set(&reason, -EPROTONOSUPPORT,
			   "version %d of the control protocol was asked for; "
			   "this daemon speaks version %d",
			   version, CONTROL_VERSION);
		client_send_error(client, id, -EPROTONOSUPPORT, reason.text);
		return;
	}
	if (arguments && !json_is_object(arguments)) {
		client_send_error(client, id, -EINVAL,
				  "bad request: \"arguments\" must be an "
				  "object");
		return;
	}
	command = find_command(own_commands, name)
			  ?: find_command(client->control->commands, name);
	if (!command) {
		reason_set(&reason, -EOPNOTSUPP,
			   "unknown command \"%.64s\"; \"commands\" lists "
			   "those there are",
			   name);
		client_send_error(client, id, -EOPNOTSUPP, reason.text);
		return;
	}
	if (client->call_count >= CALLS_MAX) {
		client_send_error(client, id, -EBUSY,
				  "too many unanswered commands on this "
				  "connection; wait for their answers");
		return;
	}
	call_begin(client, request, id, arguments, command);
}

static void
client_on_line(struct control_client *client, const char *line, size_t length)
{
	struct reason reason;
	json_error_t error;
	json_t *request;

	request = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
	if (!request) {
		reason_set(&reason, -EINVAL, "bad request: not JSON: %s",
			   error.text);
		client_send_error(client, NULL, -EINVAL, reason.text);
		return;
	}
	if (json_is_object(request))
		client_on_request(client, request);
	else
		client_send_error(client, NULL, -EINVAL,
				  "bad request: a line must be a JSON object");
	json_decref(request);
}

/* --- receiving --- */

/* Takes at most LINES_A_TURN lines; true if a whole one is left. */
static bool
client_take_lines(struct control_client *client)
{
	unsigned int lines = 0;
	size_t start = 0;
	char *end = NULL;

	while (!client->dropped) {
		end = memchr(client->line + start, '\n', client->used - start);
		if (!end || lines++ == LINES_A_TURN)
			break;
		client_on_line(client, client->line + start,
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
	if (client->ending || client->dropped || client->stream.receive_buf)
		return;
	if (client_take_lines(client)) {
		task_post(&client->task);
		return;
	}
	if (client->dropped)
		return;
	if (client->used == sizeof(client->line)) {
		client_send_error(client, NULL, -EMSGSIZE,
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
		client_drop(client);
		return;
	}
	client->active_ns = loop_now(client->control->loop);
	client->used += (size_t)received;
	if (received == 0) {
		if (client->used > 0)
			client_on_line(client, client->line, client->used);
		client_end(client);
		return;
	}
	client_receive(client);
}

static const struct stream_ops client_ops = {
	.on_receive = client_on_receive,
};

/* --- connections --- */

static void
client_free(struct control_client *client)
{
	struct control_call *call;

	stream_close(&client->stream);
	task_cancel(&client->task);
	timer_clear(&client->linger);
	list_for_each_entry (call, &client->calls, entry)
		call->client = NULL;
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
		client_free(client);
}

static void
client_on_linger(struct timer *timer)
{
	client_drop(container_of(timer, struct control_client, linger));
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
		client_free(idle);
	return idle != NULL;
}

static void
control_on_accept(struct listener *listener, int fd)
{
	static const char full[] =
		"{\"version\":1,\"id\":null,\"error\":{\"errno\":\"EBUSY\","
		"\"message\":\"too many control connections; close one\"}}\n";
	struct control *control =
		container_of(listener, struct control, listener);
	struct control_client *client = NULL;

	if (make_room(control))
		client = calloc(1, sizeof(*client));
	if (!client ||
	    stream_open(&client->stream, control->loop, fd, &client_ops) < 0) {
		log_warn("control", "a connection was refused: no place left");
		send(fd, full, sizeof(full) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		close(fd);
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

struct control *
control_new(struct loop *loop, const char *path, unsigned int mode, int group,
	    const struct control_command *commands, void *context,
	    struct reason *reason)
{
	struct control *control = calloc(1, sizeof(*control));
	char *address = NULL;
	int error = -ENOMEM;

	if (!control || asprintf(&address, "unix:%s", path) < 0) {
		reason_set(reason, error, "out of memory");
		free(control);
		return NULL;
	}
	control->loop = loop;
	control->commands = commands;
	control->context = context;
	INIT_LIST_HEAD(&control->clients);
	error = listener_open(&control->listener, loop, address, mode, group,
			      control_on_accept, reason);
	free(address);
	if (error < 0) {
		free(control);
		return NULL;
	}
	return control;
}

struct control *
control_free(struct control *control)
{
	struct control_client *client, *spare;

	if (!control)
		return NULL;
	listener_close(&control->listener);
	list_for_each_entry_safe (client, spare, &control->clients, entry)
		client_free(client);
	assert(control->client_count == 0);
	free(control);
	return NULL;
}

void
control_event(struct control *control, const char *event, json_t *fields)
{
	struct control_client *client;
	struct timespec now;

	if (!fields)
		fields = json_object();
	clock_gettime(CLOCK_REALTIME, &now);
	json_object_set_new(fields, "version", json_integer(CONTROL_VERSION));
	json_object_set_new(fields, "event", json_string(event));
	json_object_set_new(
		fields, "time",
		json_real((double)now.tv_sec + (double)now.tv_nsec / 1e9));
	list_for_each_entry (client, &control->clients, entry)
		if (client->listening)
			client_send(client, fields);
	json_decref(fields);
}
