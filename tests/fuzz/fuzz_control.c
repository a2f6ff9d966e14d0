/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_control - bytes of a client of the control socket: lines, JSON, calls,
 * arguments, and behind "driver" the instructions that drivers read.
 *
 * The first byte (HOW_*) says how they are said; the rest is what is said.
 * Each answer must be a line of JSON with an id and either a result or an
 * error; a client that hears gets one for each line, then the end; and nothing
 * of it is left.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/control_private.h"
#include "core/log.h"
#include "core/reason.h"
#include "core/vbd.h"
#include "drivers/drivers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOW_PIECES 0x1 /* a few bytes at a time */
#define HOW_LONG   0x2 /* behind blanks that nearly fill a line */
#define HOW_DEAF   0x4 /* hears nothing, and hangs up */
#define HOW_LEAVE  0x8 /* hangs up with calls unanswered */

#define SAID_MAX   (2 * CONTROL_LINE_MAX)
#define HEARD_MAX  (16u << 20) /* more than 4 KiB can ask for */
#define TURNS_MAX  20000
#define CALLS_HELD 64
#define BIG_ANSWER 40000

static struct loop *loop;
static struct vbd *vbd;
static struct control *control;
static struct control_call *held[CALLS_HELD];
static int held_count;
static char heard[HEARD_MAX];
static size_t heard_length;

/* --- the commands --- */

static void
command_take(struct control_call *call, json_t *arguments)
{
	json_int_t size = 0;
	const char *name;
	int flag = 0, number = 0;

	if (control_unpack(call, arguments, "{s:s, s?b, s?i, s?I}", "name",
			   &name, "flag", &flag, "number", &number, "size",
			   &size))
		control_reply(call, json_pack("{s:s}", "name", name));
}

static void
command_driver(struct control_call *call, json_t *arguments)
{
	struct reason reason = { "" };
	const char *type, *command;
	json_t *result;
	int r;

	if (!control_unpack(call, arguments, "{s:s, s:s}", "type", &type,
			    "command", &command))
		return;
	result = json_object();
	r = image_stack_command(vbd_images(vbd), type, command, result,
				&reason);
	if (r == 0) {
		control_reply(call, result);
		return;
	}
	json_decref(result);
	control_refuse(call, r, &reason);
}

static void
command_later(struct control_call *call, json_t *arguments)
{
	(void)arguments;
	if (held_count < CALLS_HELD)
		held[held_count++] = call;
	else
		control_reply(call, NULL);
}

static void
command_big(struct control_call *call, json_t *arguments)
{
	static char text[BIG_ANSWER + 1];

	(void)arguments;
	memset(text, 'x', BIG_ANSWER);
	control_reply(call, json_pack("{s:s}", "text", text));
}

static void
make_world(void)
{
	static const struct control_command commands[] = {
		{ "take", command_take },
		{ "driver", command_driver },
		{ "later", command_later },
		{ "big", command_big },
		{ NULL, NULL },
	};
	static struct driver_type types[] = {
		{ "null", -1, &tapdisk_null, "SIZE" },
		{ "fault", -1, &tapdisk_fault, "RULES" },
		{ "lossy", -1, &tapdisk_lossy, "OPTIONS" },
		{ NULL, -1, NULL, NULL },
	};
	struct vbd_options disk = { .image = "fault:|lossy:|null:64K" };
	char directory[] = "/tmp/fuzz-control.XXXXXX", path[64];

	log_set_level(LOG_EMERG);
	loop = loop_new(NULL);
	vbd = vbd_new(loop, NULL, types);
	if (vbd_open(vbd, &disk, NULL) < 0 || mkdtemp(directory) == NULL)
		abort();
	/* clients come by socketpairs: the file may go at once */
	(void)snprintf(path, sizeof(path), "%s/s", directory);
	control = control_new(loop, path, 0600, -1, commands, NULL, NULL);
	if (control == NULL || unlink(path) < 0 || rmdir(directory) < 0)
		abort();
}

/* --- a session --- */

static void
turn(void)
{
	if (loop_turn(loop, 0) < 0)
		abort();
}

/* False at the end. */
static bool
hear(int fd)
{
	ssize_t n;

	turn();
	if (heard_length == HEARD_MAX)
		return true;
	n = recv(fd, heard + heard_length, HEARD_MAX - heard_length, 0);
	heard_length += n > 0 ? (size_t)n : 0;
	return n > 0 || (n < 0 && errno == EAGAIN);
}

/* How many answers were heard; each of them is one. */
static unsigned int
check_heard(void)
{
	const char *at = heard, *end;
	unsigned int count = 0;

	while ((end = memchr(at, '\n', heard_length - (size_t)(at - heard)))) {
		json_t *answer = json_loadb(at, (size_t)(end - at), 0, NULL);

		assert(json_is_object(answer));
		assert(json_object_size(answer) == 3);
		assert(json_object_get(answer, "id") != NULL);
		assert(json_is_object(json_object_get(answer, "result")) !=
		       json_is_object(json_object_get(answer, "error")));
		json_decref(answer);
		at = end + 1;
		count++;
	}
	assert(at == heard + heard_length);
	return count;
}

static void
answer_held(void)
{
	while (held_count > 0)
		control_reply(held[--held_count], NULL);
}

static void
say(int fd, uint8_t how, const char *said, size_t length)
{
	size_t piece = how & HOW_PIECES ? 1 + length / 16 : length;

	for (int i = 0; i < TURNS_MAX && length > 0; i++) {
		ssize_t n = send(fd, said, piece < length ? piece : length,
				 MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return;
		if (n > 0) {
			said += n;
			length -= (size_t)n;
		}
		if (!(how & HOW_DEAF))
			(void)hear(fd);
		else if (n < 0)
			return;
		else
			turn();
	}
}

static unsigned int
lines_of(const char *said, size_t length)
{
	unsigned int lines = 0;

	for (size_t i = 0; i < length; i++)
		lines += said[i] == '\n' || i == length - 1;
	return lines;
}

static void
talk(int fd, uint8_t how, const char *said, size_t length)
{
	bool there = true;

	say(fd, how, said, length);
	if (how & (HOW_DEAF | HOW_LEAVE))
		return;
	(void)shutdown(fd, SHUT_WR);
	for (int i = 0; i < TURNS_MAX && there; i++) {
		there = hear(fd);
		answer_held();
	}
	assert(!there);			/* the daemon hangs up, too */
	if (length <= CONTROL_LINE_MAX) /* no line is too long */
		assert(check_heard() == lines_of(said, length));
	else
		(void)check_heard();
}

static void
tidy_up(void)
{
	static const char *const orders[][2] = { { "fault", "release" },
						 { "fault", "clear" },
						 { "lossy", "revive" } };
	json_t *result = json_object();

	for (int i = 0; i < 200 && control->client_count > 0; i++) {
		turn();
		if (i >= 2) /* until then it is gone, and its calls are not */
			answer_held();
	}
	assert(control->client_count == 0);
	answer_held();
	for (int i = 0; i < 3; i++)
		(void)image_stack_command(vbd_images(vbd), orders[i][0],
					  orders[i][1], result, NULL);
	json_decref(result);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char said[SAID_MAX];
	size_t length = 0;
	int pair[2];

	if (loop == NULL)
		make_world();
	if (size < 1 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
		return 0;
	if (data[0] & HOW_LONG) {
		length = CONTROL_LINE_MAX - 64;
		memset(said, ' ', length);
	}
	if (size - 1 > SAID_MAX - length)
		size = SAID_MAX - length + 1;
	memcpy(said + length, data + 1, size - 1);
	length += size - 1;
	heard_length = 0;
	control_on_accept(&control->listener, pair[1]);
	talk(pair[0], data[0], said, length);
	close(pair[0]);
	tidy_up();
	return 0;
}
