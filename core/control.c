/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control.c - calls, commands and events of the control socket.
 *
 *   listener -> control_client: line[] -> control_call -> a command's handler
 *                     ^-------- answer ------'   (now or later)
 *
 * C1  Every line gets exactly one answer; a call outlives its connection, and
 *     its answer is then dropped.
 * C2  At most CALLS_MAX calls of a connection are open.
 *
 * Connections and lines are the business of control_client.c.
 */
#include "core/control.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/control_private.h"
#include "core/reason.h"

#define CALLS_MAX 16

struct control_call {
	struct list_head entry;
	struct control_client *client; /* borrowed; NULL once it is gone */
	void *context;		       /* borrowed */
	json_t *request;	       /* owned: the whole line */
	json_t *id;		       /* borrowed from request, or NULL */
};

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

void
control_send_error(struct control_client *client, json_t *id, int error,
		   const char *text)
{
	json_t *object;

	object = json_pack("{s:i, s:O?, s:{s:s, s:o}}", "version",
			   CONTROL_VERSION, "id", id, "error", "errno",
			   errno_name(error), "message", sentence_json(text));
	if (object)
		control_client_send(client, object);
	else
		control_client_drop(client);
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

void
control_forget_client(struct control_client *client)
{
	struct control_call *call;

	list_for_each_entry (call, &client->calls, entry)
		call->client = NULL;
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
		control_client_send(call->client, object);
	else if (call->client)
		control_client_drop(call->client);
	json_decref(object);
	call_free(call);
}

void
control_refuse(struct control_call *call, int error,
	       const struct reason *reason)
{
	if (call->client)
		control_send_error(call->client, call->id, error,
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
		control_send_error(client, id, -ENOMEM, "out of memory");
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
		control_send_error(client, NULL, -EINVAL,
				   "bad request: \"id\" must be a number or "
				   "a string");
		return;
	}
	if (json_unpack_ex(request, &error, JSON_STRICT, "{s?i, s?o, s:s, s?o}",
			   "version", &version, "id", &id, "command", &name,
			   "arguments", &arguments) < 0) {
		reason_set(&reason, -EINVAL, "bad request: %s", error.text);
		control_send_error(client, id, -EINVAL, reason.text);
		return;
	}
	if (version != CONTROL_VERSION) {
		reason_set(&reason, -EPROTONOSUPPORT,
			   "version %d of the control protocol was asked for; "
			   "this daemon speaks version %d",
			   version, CONTROL_VERSION);
		control_send_error(client, id, -EPROTONOSUPPORT, reason.text);
		return;
	}
	if (arguments && !json_is_object(arguments)) {
		control_send_error(client, id, -EINVAL,
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
		control_send_error(client, id, -EOPNOTSUPP, reason.text);
		return;
	}
	if (client->call_count >= CALLS_MAX) {
		control_send_error(client, id, -EBUSY,
				   "too many unanswered commands on this "
				   "connection; wait for their answers");
		return;
	}
	call_begin(client, request, id, arguments, command);
}

void
control_on_line(struct control_client *client, const char *line, size_t length)
{
	struct reason reason;
	json_error_t error;
	json_t *request;

	request = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
	if (!request) {
		reason_set(&reason, -EINVAL, "bad request: not JSON: %s",
			   error.text);
		control_send_error(client, NULL, -EINVAL, reason.text);
		return;
	}
	if (json_is_object(request))
		client_on_request(client, request);
	else
		control_send_error(client, NULL, -EINVAL,
				   "bad request: a line must be a JSON object");
	json_decref(request);
}

/* --- the whole --- */

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

bool
control_is_quiet(const struct control *control)
{
	const struct control_client *client;

	list_for_each_entry (client, &control->clients, entry) {
		if (client->call_count > 0 ||
		    !stream_is_flushed(&client->stream))
			return false;
	}
	return true;
}

struct control *
control_free(struct control *control)
{
	struct control_client *client, *spare;

	if (!control)
		return NULL;
	listener_close(&control->listener);
	list_for_each_entry_safe (client, spare, &control->clients, entry)
		control_client_free(client);
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
			control_client_send(client, fields);
	json_decref(fields);
}
