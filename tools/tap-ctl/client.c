/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client.c - see client.h.
 *
 * Blocking sockets with a receive time limit: a tool has nothing else to do.
 */
#include "tools/tap-ctl/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/control.h"
#include "core/reason.h"
#include "tools/common/run_dir.h"

#define FIRST_SIZE 16384

struct client {
	int fd; /* owned */
	pid_t pid;
	char *buffer; /* owned: what came; lines before `taken` are done */
	size_t taken, used, size;
};

static bool traced;

void
client_trace(void)
{
	traced = true;
}

static void
trace(const struct client *client, const char *arrow, const char *line,
      size_t length)
{
	if (traced)
		fprintf(stderr, "tapdisk %d %s %.*s\n", (int)client->pid, arrow,
			(int)length, line);
}

static int
connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

int
client_open(struct client **ret_client, const char *run_dir, pid_t pid,
	    struct reason *reason)
{
	struct client *client;
	char path[RUN_DIR_PATH_MAX];
	int r;

	r = run_dir_path(path, run_dir, reason, "ctl%d", (int)pid);
	if (r < 0)
		return r;
	r = connect_to(path);
	if (r == -ECONNREFUSED)
		run_dir_sweep(run_dir);
	if (r == -ECONNREFUSED || r == -ENOENT)
		return reason_set(reason, -ENOENT,
				  "there is no tapdisk with process id %d; "
				  "\"tap-ctl list\" shows those there are",
				  (int)pid);
	if (r < 0)
		return reason_set(reason, r, "cannot connect to %s: %s", path,
				  strerror(-r));
	client = calloc(1, sizeof(*client));
	if (client)
		client->buffer = malloc(FIRST_SIZE);
	if (!client || !client->buffer) {
		close(r);
		free(client);
		return reason_set(reason, -ENOMEM, "out of memory");
	}
	client->size = FIRST_SIZE;
	client->fd = r;
	client->pid = pid;
	*ret_client = client;
	return 0;
}

void
client_free(struct client *client)
{
	if (!client)
		return;
	close(client->fd);
	free(client->buffer);
	free(client);
}

int
client_fd(const struct client *client)
{
	return client->fd;
}

/* Make room and read some: above 0 if something came.  A line may have any
 * length: the daemon is trusted with our memory. */
static ssize_t
read_more(struct client *client)
{
	ssize_t length;
	char *grown;

	memmove(client->buffer, client->buffer + client->taken,
		client->used - client->taken);
	client->used -= client->taken;
	client->taken = 0;
	if (client->used == client->size) {
		grown = realloc(client->buffer, 2 * client->size);
		if (!grown)
			return -1;
		client->buffer = grown;
		client->size *= 2;
	}
	do
		length = read(client->fd, client->buffer + client->used,
			      client->size - client->used);
	while (length < 0 && errno == EINTR);
	if (length > 0)
		client->used += (size_t)length;
	return length;
}

static char *
line_end(const struct client *client)
{
	return memchr(client->buffer + client->taken, '\n',
		      client->used - client->taken);
}

bool
client_has_line(const struct client *client)
{
	return line_end(client) != NULL;
}

json_t *
client_next(struct client *client)
{
	char *line, *end;

	while (!(end = line_end(client)))
		if (read_more(client) <= 0)
			return NULL;
	line = client->buffer + client->taken;
	client->taken += (size_t)(end - line) + 1;
	trace(client, "<-", line, (size_t)(end - line));
	return json_loadb(line, (size_t)(end - line), 0, NULL);
}

void
client_wait_end(struct client *client)
{
	json_t *line;

	while ((line = client_next(client)))
		json_decref(line);
}

static int
send_line(struct client *client, json_t *object)
{
	char *text = json_dumps(object, JSON_COMPACT);
	struct iovec iov[] = {
		{ text, text ? strlen(text) : 0 },
		{ (char[]){ '\n' }, 1 },
	};
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t sent;
	int r = 0;

	if (!text)
		return -ENOMEM;
	trace(client, "->", text, iov[0].iov_len);
	/* A line is at most CONTROL_LINE_MAX bytes, the kernel takes it whole
	 * or waits. */
	sent = sendmsg(client->fd, &message, MSG_NOSIGNAL);
	if (sent < 0)
		r = -errno;
	else if ((size_t)sent != iov[0].iov_len + 1)
		r = -EIO;
	free(text);
	return r;
}

static int
take_answer(json_t *answer, json_t **ret_result, struct reason *reason)
{
	const char *name = NULL, *message = NULL;
	json_t *result = json_object_get(answer, "result");

	if (result) {
		*ret_result = json_incref(result);
		return 0;
	}
	if (json_unpack(answer, "{s:{s:s, s:s}}", "error", "errno", &name,
			"message", &message) < 0)
		return reason_set(reason, -EPROTO,
				  "the daemon's answer is not understood");
	return reason_set(reason, -EREMOTEIO, "%s", message);
}

int
client_call(struct client *client, const char *command, json_t *arguments,
	    unsigned int limit_s, json_t **ret_result, struct reason *reason)
{
	struct timeval limit = { .tv_sec = (time_t)limit_s };
	json_t *request, *answer = NULL, *result = NULL;
	int r;

	request =
		json_pack("{s:i, s:i, s:s, s:o*}", "version", CONTROL_VERSION,
			  "id", 1, "command", command, "arguments", arguments);
	if (!request)
		return reason_set(reason, -EINVAL,
				  "the command is not UTF-8 or there is no "
				  "memory");
	setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	r = send_line(client, request);
	json_decref(request);
	errno = 0;
	if (r == 0)
		answer = client_next(client);
	if (answer)
		r = take_answer(answer, &result, reason);
	else if (errno == EAGAIN)
		r = reason_set(reason, -ETIMEDOUT,
			       "tapdisk %d has not answered within %u s",
			       (int)client->pid, limit_s);
	else
		r = reason_set(reason, -ECONNRESET,
			       "tapdisk %d has closed the connection",
			       (int)client->pid);
	json_decref(answer);
	if (r == 0 && ret_result)
		*ret_result = result;
	else
		json_decref(result);
	return r;
}
