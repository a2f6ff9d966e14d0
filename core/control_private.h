/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_private.h - what control.c (calls, commands, events) and
 * control_client.c (connections and lines) know of each other.
 */
#ifndef CORE_CONTROL_PRIVATE_H
#define CORE_CONTROL_PRIVATE_H

#include "core/control.h"
#include "core/stream.h"

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

/* --- control_client.c --- */

void control_on_accept(struct listener *listener, int fd);
void control_client_free(struct control_client *client);

/* Must go: at the next turn, whatever is left. */
void control_client_drop(struct control_client *client);

void control_client_send(struct control_client *client, const json_t *object);

/* --- control.c --- */

/* One line, without its end; answers it now or later. */
void control_on_line(struct control_client *client, const char *line,
		     size_t length);

/* C1: the connection goes before its calls. */
void control_forget_client(struct control_client *client);

/* An answer that belongs to no call. */
void control_send_error(struct control_client *client, json_t *id, int error,
			const char *text);

#endif
