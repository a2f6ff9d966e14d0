/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_control - the control socket as a client meets it: what is answered, in
 * which words, what is bounded (C1 to C5 of core/control*.c), and who may
 * connect.  The commands here are a test's own; those of the daemon are proven
 * by tests/control_manual.sh and tests/tap_ctl.sh.
 */
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/control_private.h"
#include "core/log.h"
#include "core/reason.h"

#define TURNS_MAX  20000
#define HELD_MAX   32
#define CALLS_MAX  16 /* of a connection, as control.c has it */
#define BIG_ANSWER 60000
#define NOBODY	   65534

struct fixture {
	struct loop *loop;
	struct control *control;
	char directory[64];
	char path[96];
	struct control_call *held[HELD_MAX]; /* of "later" */
	int held_count;
};

struct peer {
	struct fixture *f;
	int fd;
	size_t used;
	char got[CONTROL_LINE_MAX * 2];
	char line[CONTROL_LINE_MAX * 2]; /* the one heard last */
};

/* --- the commands --- */

static void
command_echo(struct control_call *call, json_t *arguments)
{
	const char *text = "";

	if (control_unpack(call, arguments, "{s?s}", "text", &text))
		control_reply(call, json_pack("{s:s}", "text", text));
}

static void
command_later(struct control_call *call, json_t *arguments)
{
	struct fixture *f = control_context(call);

	(void)arguments;
	assert_true(f->held_count < HELD_MAX);
	f->held[f->held_count++] = call;
}

static void
command_big(struct control_call *call, json_t *arguments)
{
	char text[BIG_ANSWER + 1];

	(void)arguments;
	memset(text, 'x', BIG_ANSWER);
	text[BIG_ANSWER] = '\0';
	control_reply(call, json_pack("{s:s}", "text", text));
}

static void
command_refuse(struct control_call *call, json_t *arguments)
{
	struct reason reason;

	(void)arguments;
	control_refuse(call,
		       reason_set(&reason, -EIO, "the file \xff\xfe is gone"),
		       &reason);
}

static const struct control_command commands[] = {
	{ "echo", command_echo }, { "later", command_later },
	{ "big", command_big },	  { "refuse", command_refuse },
	{ NULL, NULL },
};

/* --- the world --- */

static void
serve(struct fixture *f, unsigned int mode, int group)
{
	f->control =
		control_new(f->loop, f->path, mode, group, commands, f, NULL);
	assert_non_null(f->control);
}

static int
set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");

	log_set_level(LOG_EMERG);
	f->loop = loop_new(NULL);
	(void)snprintf(f->directory, sizeof(f->directory),
		       "%s/tapdisk-control-XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->directory));
	(void)snprintf(f->path, sizeof(f->path), "%s/s", f->directory);
	*state = f;
	return 0;
}

static int
set_up_and_serve(void **state)
{
	set_up(state);
	serve(*state, 0600, -1);
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	control_free(f->control);
	loop_free(f->loop);
	assert_int_equal(access(f->path, F_OK), -1); /* it cleans up */
	assert_int_equal(rmdir(f->directory), 0);
	free(f);
	log_set_level(LOG_INFO);
	return 0;
}

/* --- a client --- */

static struct peer *
peer_new(struct fixture *f)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct peer *peer = calloc(1, sizeof(*peer));

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s",
		       f->path);
	peer->f = f;
	peer->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(
		connect(peer->fd, (struct sockaddr *)&address, sizeof(address)),
		0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(loop_turn(f->loop, 0), 0);
	return peer;
}

static void
peer_free(struct peer *peer)
{
	struct fixture *f = peer->f;

	close(peer->fd);
	free(peer);
	for (int i = 0; i < 4; i++)
		loop_turn(f->loop, 0);
}

static void
say_bytes(struct peer *peer, const char *bytes, size_t length)
{
	for (int turns = 0; length > 0 && turns < TURNS_MAX; turns++) {
		ssize_t n = send(peer->fd, bytes, length, MSG_NOSIGNAL);

		if (n > 0) {
			bytes += n;
			length -= (size_t)n;
		}
		loop_turn(peer->f->loop, 0);
	}
	assert_int_equal(length, 0);
}

static void
say(struct peer *peer, const char *text)
{
	say_bytes(peer, text, strlen(text));
}

/* The next line; NULL when the connection has ended instead. */
static const char *
hear(struct peer *peer)
{
	for (int turns = 0; turns < TURNS_MAX; turns++) {
		char *end = memchr(peer->got, '\n', peer->used);
		ssize_t n;

		if (end != NULL) {
			size_t length = (size_t)(end - peer->got) + 1;

			memcpy(peer->line, peer->got, length - 1);
			peer->line[length - 1] = '\0';
			peer->used -= length;
			memmove(peer->got, end + 1, peer->used);
			return peer->line;
		}
		loop_turn(peer->f->loop, NS_PER_MS / 10);
		n = recv(peer->fd, peer->got + peer->used,
			 sizeof(peer->got) - peer->used, 0);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return NULL;
		peer->used += n > 0 ? (size_t)n : 0;
	}
	fail_msg("nothing was heard");
	return NULL;
}

static void
hears(struct peer *peer, const char *line)
{
	assert_string_equal(hear(peer) ?: "the end", line);
}

/* An answer with this error, whose sentence has `text` in it. */
static void
hears_error(struct peer *peer, const char *name, const char *text)
{
	const char *line = hear(peer);
	char error[64];

	assert_non_null(line);
	(void)snprintf(error, sizeof(error), "\"error\":{\"errno\":\"%s\",",
		       name);
	if (strstr(line, error) == NULL || strstr(line, text) == NULL)
		fail_msg("heard %.300s, not %s and %s", line, name, text);
}

static bool
hears_nothing(struct peer *peer)
{
	for (int i = 0; i < 20; i++)
		loop_turn(peer->f->loop, 0);
	return peer->used == 0 && recv(peer->fd, peer->got, 1, MSG_PEEK) < 0 &&
	       errno == EAGAIN;
}

/* It is still served. */
static void
is_well(struct peer *peer)
{
	say(peer, "{\"id\":0,\"command\":\"echo\"}\n");
	hears(peer, "{\"version\":1,\"id\":0,\"result\":{\"text\":\"\"}}");
}

/* --- answers --- */

static void
test_an_answer_carries_the_id_of_its_request(void **state)
{
	struct peer *peer = peer_new(*state);

	say(peer, "{\"version\":1,\"id\":7,\"command\":\"echo\"}\n");
	hears(peer, "{\"version\":1,\"id\":7,\"result\":{\"text\":\"\"}}");
	say(peer, "{\"id\":\"a\",\"command\":\"echo\",\"arguments\":"
		  "{\"text\":\"b\"}}\n");
	hears(peer, "{\"version\":1,\"id\":\"a\",\"result\":{\"text\":\"b\"}}");
	say(peer, "{\"command\":\"echo\"}\n");
	hears(peer, "{\"version\":1,\"id\":null,\"result\":{\"text\":\"\"}}");
	peer_free(peer);
}

static void
test_another_version_is_refused_and_told_ours(void **state)
{
	struct peer *peer = peer_new(*state);

	say(peer, "{\"version\":2,\"id\":7,\"command\":\"echo\"}\n");
	hears(peer, "{\"version\":1,\"id\":7,\"error\":{\"errno\":"
		    "\"EPROTONOSUPPORT\",\"message\":\"version 2 of the "
		    "control protocol was asked for; this daemon speaks "
		    "version 1\"}}");
	say(peer, "{\"version\":0,\"command\":\"echo\"}\n");
	hears_error(peer, "EPROTONOSUPPORT", "version 0");
	say(peer, "{\"version\":\"1\",\"command\":\"echo\"}\n");
	hears_error(peer, "EINVAL", "bad request");
	is_well(peer);
	peer_free(peer);
}

static void
test_garbage_gets_one_sentence_a_line_and_does_no_harm(void **state)
{
	static const char *const garbage[] = {
		"\n",
		"{\n",
		"[]\n",
		"17\n",
		"null\n",
		"{}\n",
		"\x16\x03\x01\x02\n",
		"{\"command\":\"\xff\xfe\"}\n",
		"{\"command\":1}\n",
		"{\"command\":null}\n",
		"{\"command\":\"echo\"} {\"command\":\"echo\"}\n",
		"{\"command\":\"echo\",\"command\":\"later\"}\n",
		"{\"command\":\"echo\",\"more\":1}\n",
		"{\"command\":\"echo\",\"id\":[1]}\n",
		"{\"command\":\"echo\",\"id\":1.5}\n",
		"{\"command\":\"echo\",\"arguments\":[]}\n",
		"{\"command\":\"echo\",\"arguments\":{\"text\":1}}\n",
		"{\"command\":\"echo\",\"arguments\":{\"txet\":\"\"}}\n",
		"{\"version\":1e99,\"command\":\"echo\"}\n",
	};
	struct peer *peer = peer_new(*state);

	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		say(peer, garbage[i]);
		hears_error(peer, "EINVAL", "bad ");
		is_well(peer);
	}
	say_bytes(peer, "{\"command\":\"ec\0ho\"}\n", 20);
	hears_error(peer, "EINVAL", "bad request: not JSON");
	is_well(peer);
	peer_free(peer);
}

static void
test_deep_nesting_is_refused_and_not_followed(void **state)
{
	static char line[60001];
	struct peer *peer = peer_new(*state);

	memset(line, '[', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\n';
	say_bytes(peer, line, sizeof(line));
	hears_error(peer, "EINVAL", "not JSON");
	is_well(peer);
	peer_free(peer);
}

static void
test_an_unknown_command_is_told_where_the_known_ones_are(void **state)
{
	struct peer *peer = peer_new(*state);

	say(peer, "{\"id\":1,\"command\":\"reboot\"}\n");
	hears(peer, "{\"version\":1,\"id\":1,\"error\":{\"errno\":"
		    "\"EOPNOTSUPP\",\"message\":\"unknown command "
		    "\\\"reboot\\\"; \\\"commands\\\" lists those there "
		    "are\"}}");
	say(peer, "{\"command\":\"commands\"}\n");
	hears(peer, "{\"version\":1,\"id\":null,\"result\":{\"commands\":"
		    "[\"commands\",\"events\",\"echo\",\"later\",\"big\","
		    "\"refuse\"]}}");
	peer_free(peer);
}

static void
test_a_sentence_that_is_not_utf8_arrives_as_json(void **state)
{
	struct peer *peer = peer_new(*state);

	say(peer, "{\"command\":\"refuse\"}\n");
	hears(peer, "{\"version\":1,\"id\":null,\"error\":{\"errno\":\"EIO\","
		    "\"message\":\"the file ?? is gone\"}}");
	peer_free(peer);
}

/* --- lines --- */

static void
test_a_line_may_come_in_any_pieces(void **state)
{
	static const char text[] = "{\"id\":1,\"command\":\"echo\"}\n";
	static char many[100 * sizeof(text)];
	struct peer *peer = peer_new(*state);
	size_t length = 0;

	for (const char *byte = text; *byte; byte++)
		say_bytes(peer, byte, 1);
	hears(peer, "{\"version\":1,\"id\":1,\"result\":{\"text\":\"\"}}");

	for (int i = 0; i < 100; i++) /* more than are taken in one turn */
		length += (size_t)snprintf(many + length, sizeof(many) - length,
					   "%s", text);
	say_bytes(peer, many, length);
	for (int i = 0; i < 100; i++)
		hears(peer,
		      "{\"version\":1,\"id\":1,\"result\":{\"text\":\"\"}}");
	assert_true(hears_nothing(peer));
	peer_free(peer);
}

static void
test_a_line_is_as_long_as_is_said_and_a_longer_one_ends_it(void **state)
{
	static const char head[] = "{\"command\":\"echo\"}";
	static char line[CONTROL_LINE_MAX + 2];
	struct peer *peer = peer_new(*state);

	memset(line, ' ', sizeof(line));
	memcpy(line, head, sizeof(head) - 1);
	line[CONTROL_LINE_MAX] = '\n';
	say_bytes(peer, line, CONTROL_LINE_MAX + 1);
	hears(peer, "{\"version\":1,\"id\":null,\"result\":{\"text\":\"\"}}");

	line[CONTROL_LINE_MAX] = ' ';
	line[CONTROL_LINE_MAX + 1] = '\n';
	say_bytes(peer, line, sizeof(line) - 1);
	hears_error(peer, "EMSGSIZE", "the line is too long");
	assert_null(hear(peer));
	peer_free(peer);
}

static void
test_a_last_line_without_its_end_is_answered(void **state)
{
	struct peer *peer = peer_new(*state);

	say(peer, "{\"id\":1,\"command\":\"echo\"}\n"
		  "{\"id\":2,\"command\":\"later\"}\n"
		  "{\"id\":3,\"command\":\"echo\"}");
	shutdown(peer->fd, SHUT_WR);
	hears(peer, "{\"version\":1,\"id\":1,\"result\":{\"text\":\"\"}}");
	hears(peer, "{\"version\":1,\"id\":3,\"result\":{\"text\":\"\"}}");
	assert_true(hears_nothing(peer)); /* the call keeps it */
	control_reply(peer->f->held[0], NULL);
	hears(peer, "{\"version\":1,\"id\":2,\"result\":{}}");
	assert_null(hear(peer));
	peer_free(peer);
}

/* --- C1 and C2: calls --- */

static void
test_answers_come_when_they_are_ready(void **state)
{
	struct fixture *f = *state;
	struct peer *peer = peer_new(f);

	say(peer, "{\"id\":1,\"command\":\"later\"}\n"
		  "{\"id\":2,\"command\":\"later\"}\n"
		  "{\"id\":3,\"command\":\"echo\"}\n");
	hears(peer, "{\"version\":1,\"id\":3,\"result\":{\"text\":\"\"}}");
	assert_false(control_is_quiet(f->control));
	control_reply(f->held[1], NULL);
	hears(peer, "{\"version\":1,\"id\":2,\"result\":{}}");
	control_refuse(f->held[0], -ENOENT, NULL);
	hears_error(peer, "ENOENT", "No such file or directory");
	assert_true(control_is_quiet(f->control));
	peer_free(peer);
}

static void
test_a_call_outlives_its_connection(void **state)
{
	struct fixture *f = *state;
	struct peer *peer = peer_new(f), *other = peer_new(f);

	say(peer, "{\"command\":\"later\"}\n{\"command\":\"later\"}\n");
	say(other, "{\"command\":\"later\"}\n");
	peer_free(peer);
	control_reply(f->held[0], json_pack("{s:i}", "a", 1));
	control_refuse(f->held[1], -EIO, NULL);
	is_well(other);
	f->control = control_free(f->control);
	control_reply(f->held[2], NULL);
	peer_free(other);
}

static void
test_a_connection_has_so_many_calls_and_no_more(void **state)
{
	struct fixture *f = *state;
	struct peer *peer = peer_new(f), *other = peer_new(f);

	for (int i = 0; i < CALLS_MAX; i++)
		say(peer, "{\"command\":\"later\"}\n");
	say(peer, "{\"id\":1,\"command\":\"echo\"}\n");
	hears_error(peer, "EBUSY", "too many unanswered commands");
	is_well(other);
	assert_int_equal(f->held_count, CALLS_MAX);
	control_reply(f->held[0], NULL);
	hears(peer, "{\"version\":1,\"id\":null,\"result\":{}}");
	is_well(peer);
	for (int i = 1; i < CALLS_MAX; i++)
		control_reply(f->held[i], NULL);
	peer_free(peer);
	peer_free(other);
}

/* --- C3 to C5: connections --- */

static void
test_a_new_client_replaces_the_one_silent_longest(void **state)
{
	struct fixture *f = *state;
	struct peer *peers[CONTROL_CLIENTS_MAX + 1];
	int i;

	for (i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		peers[i] = peer_new(f);
		is_well(peers[i]);
	}
	is_well(peers[0]);
	say(peers[1], "{\"command\":\"events\"}\n");
	hears(peers[1], "{\"version\":1,\"id\":null,\"result\":{}}");
	say(peers[2], "{\"command\":\"later\"}\n");
	peers[i] = peer_new(f);
	is_well(peers[i]);
	for (i = 0; i <= CONTROL_CLIENTS_MAX; i++) {
		if (i == 3)
			assert_null(hear(peers[i]));
		else
			is_well(peers[i]);
	}
	control_reply(f->held[0], NULL);
	for (i = 0; i <= CONTROL_CLIENTS_MAX; i++)
		peer_free(peers[i]);
}

static void
test_a_client_too_many_is_told_so(void **state)
{
	struct fixture *f = *state;
	struct peer *peers[CONTROL_CLIENTS_MAX + 1];
	int i;

	for (i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		peers[i] = peer_new(f);
		say(peers[i], "{\"command\":\"events\"}\n");
		hears(peers[i], "{\"version\":1,\"id\":null,\"result\":{}}");
	}
	peers[i] = peer_new(f);
	hears_error(peers[i], "EBUSY", "too many control connections");
	assert_null(hear(peers[i]));
	for (i = 0; i < CONTROL_CLIENTS_MAX; i++)
		is_well(peers[i]);
	peer_free(peers[0]);
	peer_free(peers[CONTROL_CLIENTS_MAX]);
	peers[0] = peer_new(f);
	is_well(peers[0]);
	for (i = 0; i < CONTROL_CLIENTS_MAX; i++)
		peer_free(peers[i]);
}

static void
test_a_client_that_does_not_read_waits_and_gets_all(void **state)
{
	struct fixture *f = *state;
	struct peer *slow = peer_new(f), *other = peer_new(f);
	struct control_client *client = list_first_entry(
		&f->control->clients, struct control_client, entry);
	size_t asked = 0, lines = 0;
	ssize_t n = 0;
	char text[1024];

	/* long lines, so that few fill the sockets */
	(void)snprintf(text, sizeof(text), "%-*s\n", (int)sizeof(text) - 2,
		       "{\"command\":\"big\"}");
	while (n >= 0) {
		n = send(slow->fd, text, sizeof(text) - 1, MSG_NOSIGNAL);
		assert_true(n < 0 ? errno == EAGAIN : n == sizeof(text) - 1);
		asked += n >= 0;
		for (int i = 0; i < 4; i++)
			loop_turn(f->loop, 0);
		assert_true(client->stream.send_bytes <
			    CONTROL_BACKLOG_MAX / 2);
	}
	assert_true(asked > CONTROL_BACKLOG_MAX / BIG_ANSWER);
	is_well(other);
	for (int i = 0; i < 100000 && lines < asked; i++) {
		loop_turn(f->loop, 0);
		n = recv(slow->fd, slow->got, sizeof(slow->got), 0);
		for (ssize_t j = 0; j < n; j++)
			lines += slow->got[j] == '\n';
	}
	assert_int_equal(lines, asked);
	peer_free(slow);
	peer_free(other);
}

/* --- events --- */

static void
test_events_go_to_those_who_listen(void **state)
{
	struct fixture *f = *state;
	struct peer *peer = peer_new(f), *other = peer_new(f);
	const char *line;
	json_t *event;

	control_event(f->control, "early", NULL);
	say(peer, "{\"command\":\"events\"}\n");
	hears(peer, "{\"version\":1,\"id\":null,\"result\":{}}");
	control_event(f->control, "paused", json_pack("{s:i}", "size", 5));
	line = hear(peer);
	assert_non_null(line);
	event = json_loads(line, 0, NULL);
	assert_int_equal(json_object_size(event), 4);
	assert_int_equal(json_integer_value(json_object_get(event, "version")),
			 1);
	assert_string_equal(json_string_value(json_object_get(event, "event")),
			    "paused");
	assert_int_equal(json_integer_value(json_object_get(event, "size")), 5);
	assert_true(json_real_value(json_object_get(event, "time")) > 1e9);
	json_decref(event);
	assert_true(hears_nothing(other));
	peer_free(peer);
	control_event(f->control, "late", NULL);
	peer_free(other);
}

static void
test_a_listener_that_does_not_read_is_cut_off_alone(void **state)
{
	static char text[BIG_ANSWER + 1];
	struct fixture *f = *state;
	struct peer *slow = peer_new(f), *other = peer_new(f);
	unsigned int events = 0;

	memset(text, 'x', BIG_ANSWER);
	say(slow, "{\"command\":\"events\"}\n");
	hears(slow, "{\"version\":1,\"id\":null,\"result\":{}}");
	assert_int_equal(f->control->client_count, 2);
	while (f->control->client_count == 2 && events++ < 1000) {
		control_event(f->control, "big", json_pack("{s:s}", "t", text));
		loop_turn(f->loop, 0);
	}
	assert_true(events > CONTROL_BACKLOG_MAX / (BIG_ANSWER + 100));
	assert_true(events < 1000);
	is_well(other);
	peer_free(slow);
	peer_free(other);
}

/* --- who may connect --- */

static void
has_mode(const struct fixture *f, unsigned int mode, gid_t group)
{
	struct stat st;

	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, mode);
	assert_int_equal(st.st_gid, group);
}

static void
test_the_socket_has_the_mode_and_group_asked_for(void **state)
{
	struct fixture *f = *state;
	gid_t groups[1024], group = getegid();
	mode_t old = umask(0);
	int count = getgroups(1024, groups);

	for (int i = 0; i < count; i++) /* another than the first, if any */
		if (groups[i] != group)
			group = groups[i];
	if (geteuid() == 0)
		group = NOBODY;
	serve(f, 0600, -1);
	has_mode(f, 0600, getegid());
	f->control = control_free(f->control);
	serve(f, 0660, (int)group);
	has_mode(f, 0660, group);
	umask(old);
}

/* As the user and group NOBODY, root's other groups given up: 0, or errno. */
static int
connect_as_nobody(const struct fixture *f)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int status = -1, fd;
	pid_t pid = fork();

	if (pid == 0) {
		(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s",
			       f->path);
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		if (setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 ||
		    setuid(NOBODY) < 0)
			_exit(255);
		_exit(connect(fd, (struct sockaddr *)&address,
			      sizeof(address)) < 0
			      ? errno
			      : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void
test_another_user_connects_by_the_group_or_not_at_all(void **state)
{
	struct fixture *f = *state;

	if (geteuid() != 0) {
		print_message("only root can be another user\n");
		skip();
	}
	assert_int_equal(chmod(f->directory, 0755), 0);
	serve(f, 0600, -1);
	assert_int_equal(connect_as_nobody(f), EACCES);
	f->control = control_free(f->control);
	serve(f, 0660, NOBODY);
	assert_int_equal(connect_as_nobody(f), 0);
}

static void
test_a_socket_in_use_is_refused_with_a_sentence(void **state)
{
	struct fixture *f = *state;
	struct reason reason = { "" };

	assert_null(
		control_new(f->loop, f->path, 0600, -1, commands, f, &reason));
	assert_non_null(strstr(reason.text, f->path));
	assert_null(control_new(f->loop, "/nonexistent/s", 0600, -1, commands,
				f, &reason));
	assert_non_null(strstr(reason.text, "/nonexistent/s"));
}

#define SERVED(test)                                                           \
	cmocka_unit_test_setup_teardown(test, set_up_and_serve, tear_down)
#define UNSERVED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SERVED(test_an_answer_carries_the_id_of_its_request),
		SERVED(test_another_version_is_refused_and_told_ours),
		SERVED(test_garbage_gets_one_sentence_a_line_and_does_no_harm),
		SERVED(test_deep_nesting_is_refused_and_not_followed),
		SERVED(test_an_unknown_command_is_told_where_the_known_ones_are),
		SERVED(test_a_sentence_that_is_not_utf8_arrives_as_json),
		SERVED(test_a_line_may_come_in_any_pieces),
		SERVED(test_a_line_is_as_long_as_is_said_and_a_longer_one_ends_it),
		SERVED(test_a_last_line_without_its_end_is_answered),
		SERVED(test_answers_come_when_they_are_ready),
		SERVED(test_a_call_outlives_its_connection),
		SERVED(test_a_connection_has_so_many_calls_and_no_more),
		SERVED(test_a_new_client_replaces_the_one_silent_longest),
		SERVED(test_a_client_too_many_is_told_so),
		SERVED(test_a_client_that_does_not_read_waits_and_gets_all),
		SERVED(test_a_listener_that_does_not_read_is_cut_off_alone),
		SERVED(test_events_go_to_those_who_listen),
		UNSERVED(test_the_socket_has_the_mode_and_group_asked_for),
		UNSERVED(test_another_user_connects_by_the_group_or_not_at_all),
		SERVED(test_a_socket_in_use_is_refused_with_a_sentence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
