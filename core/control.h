/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control - the Unix socket by which tools command a daemon.
 *
 * Newline-delimited JSON, one object a line, at most CONTROL_LINE_MAX bytes:
 *
 *   -> {"version": 1, "id": 7, "command": "status", "arguments": {...}}
 *   <- {"version": 1, "id": 7, "result": {...}}
 *   <- {"version": 1, "id": 7, "error": {"errno": "ENOENT", "message": "..."}}
 *   <- {"version": 1, "event": "state", "time": 1700000000.123, ...}
 *
 * Every request is answered exactly once; answers may come out of order.
 * Events go to connections that sent the command "events".  A client that does
 * not read its answers gets no further ones until it does; one that does not
 * read its events is cut off at CONTROL_BACKLOG_MAX bytes.
 *
 * docs/control.md tells it to the writers of clients.  Commands come from
 * tables; control.c knows only "version", "events" and "commands".
 */
#ifndef CORE_CONTROL_H
#define CORE_CONTROL_H

#include <jansson.h>

#include "loop.h"

#define CONTROL_VERSION	    1
#define CONTROL_LINE_MAX    (64u << 10)
#define CONTROL_CLIENTS_MAX 16
#define CONTROL_BACKLOG_MAX (4u << 20)

struct control;
struct control_call;
struct reason;

struct control_command {
	const char *name; /* NULL ends a table */
	/* Answers now or later, once, by control_reply or control_refuse.
	 * `arguments` is an object, borrowed until the answer. */
	void (*handler)(struct control_call *call, json_t *arguments);
};

/* `path` is made with `mode` (0600 unless a group is given) and `group` (-1:
 * leave).  `context` is handed to handlers by control_context(). */
struct control *control_new(struct loop *loop, const char *path,
			    unsigned int mode, int group,
			    const struct control_command *commands,
			    void *context, struct reason *reason);
struct control *control_free(struct control *control);

/* Every request is answered, and every answer has left. */
bool control_is_quiet(const struct control *control);

void *control_context(struct control_call *call);

/* Takes `result` (NULL: an empty object). */
void control_reply(struct control_call *call, json_t *result);
void control_refuse(struct control_call *call, int error,
		    const struct reason *reason);

/* To all who listen.  Takes `fields`, to which "event" and "time" are added. */
void control_event(struct control *control, const char *event, json_t *fields);

/* Unpack `arguments` by a jansson format, or refuse the call with a sentence;
 * false when refused. */
bool control_unpack(struct control_call *call, json_t *arguments,
		    const char *format, ...);

#endif
