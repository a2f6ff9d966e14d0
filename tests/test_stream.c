/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_stream - core/stream and core/tls over socketpairs: the promises T1 to
 * T4 of stream.h, plain and under TLS.
 */
#include "core/stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/reason.h"
#include "core/tls.h"
#include "tests/credentials.h"
#include "tests/test.h"

#define TURNS_MAX 20000
#define LARGE	  (3u << 20)

/* One end of a connection, and what was heard of it. */
struct end {
	struct stream stream;
	ssize_t received;
	int receives; /* on_receive calls */
	int tls_error;
	int handshakes; /* on_tls calls */
	char tls_text[REASON_MAX];
	bool close_on_receive;
};

struct sending {
	struct stream_send send;
	int error;
	int done; /* on_done calls */
};

struct fixture {
	struct loop *loop;
	struct end a, b;
	struct tls_context *contexts[2]; /* a's and b's */
};

static void
on_receive(struct stream *stream, ssize_t received)
{
	struct end *end = container_of(stream, struct end, stream);

	end->received = received;
	end->receives++;
	if (end->close_on_receive)
		stream_close(stream);
}

static void
on_tls(struct stream *stream, int error, const struct reason *reason)
{
	struct end *end = container_of(stream, struct end, stream);

	end->tls_error = error;
	end->handshakes++;
	(void)snprintf(end->tls_text, sizeof(end->tls_text), "%s",
		       reason_text(reason, error));
}

static const struct stream_ops end_ops = { .on_receive = on_receive,
					   .on_tls = on_tls };

static void
on_sent(struct stream_send *send, int error)
{
	struct sending *sending = container_of(send, struct sending, send);

	sending->error = error;
	sending->done++;
}

static void
send_bytes(struct end *end, struct sending *sending, const void *data,
	   size_t length)
{
	*sending = (struct sending){ .send.on_done = on_sent };
	sending->send.iov[0].iov_base = (void *)(uintptr_t)data;
	sending->send.iov[0].iov_len = length;
	sending->send.iov_count = 1;
	stream_send(&end->stream, &sending->send);
}

static void
turn(struct fixture *f)
{
	assert_int_equal(loop_turn(f->loop, NS_PER_MS), 0);
}

/* Turn until *count is at least `wanted`. */
static void
turn_until(struct fixture *f, const int *count, int wanted)
{
	for (int i = 0; i < TURNS_MAX && *count < wanted; i++)
		turn(f);
	assert_true(*count >= wanted);
}

static void
open_pair(struct fixture *f, int type)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, type, 0, fds), 0);
	assert_int_equal(stream_open(&f->a.stream, f->loop, fds[0], &end_ops),
			 0);
	assert_int_equal(stream_open(&f->b.stream, f->loop, fds[1], &end_ops),
			 0);
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->loop = loop_new(NULL);
	f->a.stream.fd = f->b.stream.fd = -1;
	*state = f;
	return f->loop == NULL;
}

static int
setup_pair(void **state)
{
	int r = setup(state);

	if (r == 0)
		open_pair(*state, SOCK_STREAM);
	return r;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	if (f->a.stream.ops != NULL)
		stream_close(&f->a.stream);
	if (f->b.stream.ops != NULL)
		stream_close(&f->b.stream);
	tls_context_free(f->contexts[0]);
	tls_context_free(f->contexts[1]);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void
test_sent_bytes_arrive_in_order(void **state)
{
	struct fixture *f = *state;
	struct sending s[3];
	char buf[16] = "";

	stream_receive(&f->b.stream, buf, 9, sizeof(buf));
	send_bytes(&f->a, &s[0], "one", 3);
	send_bytes(&f->a, &s[1], "two", 3);
	send_bytes(&f->a, &s[2], "six", 3);
	assert_false(stream_is_flushed(&f->a.stream));
	turn_until(f, &f->b.receives, 1);
	assert_int_equal(f->b.received, 9);
	assert_string_equal(buf, "onetwosix");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(s[i].done, 1);
		assert_int_equal(s[i].error, 0);
	}
	assert_true(stream_is_flushed(&f->a.stream));
	assert_int_equal(f->a.stream.bytes_out, 9);
	assert_int_equal(f->b.stream.bytes_in, 9);
}

static void
test_a_receive_waits_for_its_minimum(void **state)
{
	struct fixture *f = *state;
	struct sending s;
	char buf[16];

	stream_receive(&f->b.stream, buf, 5, sizeof(buf));
	send_bytes(&f->a, &s, "four", 4);
	turn_until(f, &s.done, 1);
	turn(f);
	assert_int_equal(f->b.receives, 0);
	send_bytes(&f->a, &s, "!", 1);
	turn_until(f, &f->b.receives, 1);
	assert_int_equal(f->b.received, 5);
	assert_memory_equal(buf, "four!", 5);
}

static void
test_nothing_is_called_back_from_inside(void **state)
{
	struct fixture *f = *state;
	struct sending s;
	char buf[4];

	send_bytes(&f->a, &s, "data", 4);
	assert_int_equal(s.done, 0);
	turn_until(f, &s.done, 1);
	turn(f); /* b hears that it is readable */
	stream_receive(&f->b.stream, buf, 4, 4);
	assert_int_equal(f->b.receives, 0);
	turn_until(f, &f->b.receives, 1);
}

static void
test_sends_of_one_turn_leave_together(void **state)
{
	struct fixture *f = *state;
	struct sending s[3];
	char buf[16] = "";

	open_pair(f, SOCK_SEQPACKET); /* keeps what one call sent together */
	send_bytes(&f->a, &s[0], "one", 3);
	send_bytes(&f->a, &s[1], "two", 3);
	send_bytes(&f->a, &s[2], "six", 3);
	turn_until(f, &s[2].done, 1);
	assert_int_equal(recv(f->b.stream.fd, buf, sizeof(buf), 0), 9);
	assert_string_equal(buf, "onetwosix");
}

static void
test_a_large_send_waits_for_a_slow_reader(void **state)
{
	struct fixture *f = *state;
	char *out = malloc(LARGE), *in = calloc(1, LARGE);
	struct sending large, small;

	for (size_t i = 0; i < LARGE; i++)
		out[i] = (char)(i * 7 + i / 251);
	send_bytes(&f->a, &large, out, LARGE);
	send_bytes(&f->a, &small, "end", 3);
	for (int i = 0; i < 10; i++)
		turn(f);
	assert_int_equal(large.done, 0);
	assert_true(f->a.stream.send_bytes > 0);
	stream_receive(&f->b.stream, in, LARGE, LARGE);
	turn_until(f, &f->b.receives, 1);
	assert_memory_equal(in, out, LARGE);
	stream_receive(&f->b.stream, in, 3, 3);
	turn_until(f, &f->b.receives, 2);
	assert_memory_equal(in, "end", 3);
	assert_int_equal(large.done, 1);
	assert_int_equal(small.done, 1);
	assert_int_equal(f->a.stream.send_bytes, 0);
	free(out);
	free(in);
}

static void
test_bytes_that_nobody_wants_do_not_wake_the_loop(void **state)
{
	struct fixture *f = *state;
	char buf[8];

	assert_int_equal(write(f->a.stream.fd, "x", 1), 1);
	turn(f);
	turn(f);
	assert_int_equal(f->b.stream.watch.events & WATCH_READ, 0);
	stream_receive(&f->b.stream, buf, 1, sizeof(buf));
	turn_until(f, &f->b.receives, 1);
	stream_receive(&f->b.stream, buf, 1, sizeof(buf));
	assert_int_equal(f->b.stream.watch.events & WATCH_READ, WATCH_READ);
	assert_int_equal(write(f->a.stream.fd, "y", 1), 1);
	turn_until(f, &f->b.receives, 2);
	assert_int_equal(buf[0], 'y');
}

static void
test_the_end_of_a_stream_is_zero(void **state)
{
	struct fixture *f = *state;
	char buf[8];

	assert_int_equal(write(f->a.stream.fd, "last", 4), 4);
	stream_close(&f->a.stream);
	for (int i = 0; i < 3; i++)
		turn(f);
	stream_receive(&f->b.stream, buf, 1, sizeof(buf));
	turn_until(f, &f->b.receives, 1);
	assert_int_equal(f->b.received, 4);
	stream_receive(&f->b.stream, buf, 1, sizeof(buf));
	turn_until(f, &f->b.receives, 2);
	assert_int_equal(f->b.received, 0);
	assert_null(f->b.stream.watch.loop); /* hung up: no more events */
}

static void
test_an_end_below_the_minimum_is_a_reset(void **state)
{
	struct fixture *f = *state;
	char buf[8];

	stream_receive(&f->b.stream, buf, 5, sizeof(buf));
	assert_int_equal(write(f->a.stream.fd, "1234", 4), 4);
	assert_int_equal(shutdown(f->a.stream.fd, SHUT_WR), 0);
	turn_until(f, &f->b.receives, 1);
	assert_int_equal(f->b.received, -ECONNRESET);
}

static void
test_after_an_error_everything_ends_with_it(void **state)
{
	struct fixture *f = *state;
	struct sending s[2];
	char buf[8];

	stream_close(&f->b.stream);
	send_bytes(&f->a, &s[0], "x", 1);
	turn_until(f, &s[0].done, 1);
	assert_int_equal(s[0].error, -EPIPE);
	send_bytes(&f->a, &s[1], "x", 1);
	turn_until(f, &s[1].done, 1);
	assert_int_equal(s[1].error, -EPIPE);
	stream_receive(&f->a.stream, buf, 1, 1);
	turn_until(f, &f->a.receives, 1);
	assert_int_equal(f->a.received, -EPIPE);
	assert_int_equal(s[0].done, 1);
}

static void
test_close_cancels_sends_and_drops_the_receive(void **state)
{
	struct fixture *f = *state;
	struct sending s;
	char buf[8];

	send_bytes(&f->a, &s, "x", 1);
	stream_receive(&f->a.stream, buf, 1, 1);
	stream_close(&f->a.stream);
	assert_int_equal(s.done, 1);
	assert_int_equal(s.error, -ECANCELED);
	turn(f);
	stream_close(&f->a.stream);
	assert_int_equal(f->a.receives, 0);
	assert_int_equal(s.done, 1);
}

static void
test_a_callback_may_close_and_free_the_stream(void **state)
{
	struct fixture *f = *state;
	struct end *end = calloc(1, sizeof(*end));
	char buf[8];
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(stream_open(&end->stream, f->loop, fds[0], &end_ops),
			 0);
	end->close_on_receive = true;
	stream_receive(&end->stream, buf, 1, 1);
	assert_int_equal(write(fds[1], "x", 1), 1);
	turn_until(f, &end->receives, 1);
	assert_int_equal(end->stream.fd, -1);
	free(end);
	turn(f);
	(void)close(fds[1]);
}

/* --- TLS --- */

struct keys {
	char directory[64];
	char psk[128];
};

static int
make_keys(void **state)
{
	struct keys *keys = calloc(1, sizeof(*keys));
	const char *tmp = getenv("TMPDIR");

	(void)snprintf(keys->directory, sizeof(keys->directory),
		       "%s/tapdisk-tls-XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(keys->directory));
	credentials_make(keys->directory);
	(void)snprintf(keys->psk, sizeof(keys->psk), "%s/keys.psk",
		       keys->directory);
	*state = keys;
	return 0;
}

static int
remove_keys(void **state)
{
	struct keys *keys = *state;

	credentials_remove(keys->directory);
	free(keys);
	return 0;
}

static struct tls_context *
context_new(const struct tls_options *options)
{
	struct reason reason = { "" };
	struct tls_context *context = tls_context_new(options, &reason);

	if (context == NULL)
		fail_msg("%s", reason.text);
	return context;
}

/* Both ends turn to TLS; returns when both have heard how it ended. */
static void
handshake(struct fixture *f, const struct tls_options *server,
	  const struct tls_options *client, const char *host)
{
	struct sending s;
	char buf[4] = "";

	f->contexts[0] = context_new(server);
	f->contexts[1] = context_new(client);
	open_pair(f, SOCK_STREAM);
	assert_int_equal(
		stream_start_tls(&f->a.stream, f->contexts[0], NULL, NULL), 0);
	assert_int_equal(
		stream_start_tls(&f->b.stream, f->contexts[1], host, NULL), 0);
	turn_until(f, &f->b.handshakes, 1);
	if (f->b.tls_error != 0)
		stream_close(&f->b.stream);
	turn_until(f, &f->a.handshakes, 1);
	/* under TLS 1.3 a client may hear of the server's refusal only now */
	if (f->b.tls_error == 0) {
		if (f->a.tls_error == 0)
			send_bytes(&f->a, &s, "ok", 2);
		else
			stream_close(&f->a.stream);
		stream_receive(&f->b.stream, buf, 2, 2);
		turn_until(f, &f->b.receives, 1);
		if (f->a.tls_error == 0)
			assert_string_equal(buf, "ok");
		f->b.receives = 0;
	}
}

/* 3 MiB to and fro at once, in pieces of many sizes. */
static void
exchange(struct fixture *f)
{
	char *out = malloc(LARGE), *in[2] = { malloc(LARGE), malloc(LARGE) };
	struct end *ends[2] = { &f->a, &f->b };
	static struct sending s[2][64];
	int sends = 0;

	for (size_t i = 0; i < LARGE; i++)
		out[i] = (char)(i * 31 + i / 253);
	for (size_t at = 0, piece = 1; at < LARGE; at += piece, sends++) {
		piece = sends == 63 ? LARGE - at : piece * 3 / 2 + 1;
		if (piece > LARGE - at)
			piece = LARGE - at;
		for (int i = 0; i < 2; i++)
			send_bytes(ends[i], &s[i][sends], out + at, piece);
	}
	for (int i = 0; i < 2; i++) {
		ends[i]->receives = 0;
		stream_receive(&ends[i]->stream, in[i], LARGE, LARGE);
	}
	for (int i = 0; i < 2; i++) {
		turn_until(f, &ends[i]->receives, 1);
		assert_int_equal(ends[i]->received, LARGE);
		assert_memory_equal(in[i], out, LARGE);
		turn_until(f, &s[i][sends - 1].done, 1);
		assert_int_equal(s[i][sends - 1].error, 0);
	}
	free(out);
	free(in[0]);
	free(in[1]);
}

static void
with_fixture(void (*body)(struct fixture *, const struct keys *), void **state)
{
	void *fixture;

	assert_int_equal(setup(&fixture), 0);
	body(fixture, *state);
	teardown(&fixture);
}

static void
psk_body(struct fixture *f, const struct keys *keys)
{
	char buf[1];

	handshake(
		f, &(struct tls_options){ .psk = keys->psk, .server = true },
		&(struct tls_options){ .psk = keys->psk, .psk_user = "alice" },
		NULL);
	assert_int_equal(f->a.tls_error, 0);
	assert_int_equal(f->b.tls_error, 0);
	exchange(f);
	stream_close(&f->a.stream); /* says goodbye: an honest end */
	stream_receive(&f->b.stream, buf, 1, 1);
	turn_until(f, &f->b.receives, 2);
	assert_int_equal(f->b.received, 0);
}

static void
test_a_shared_key_opens_a_session(void **state)
{
	with_fixture(psk_body, state);
}

static void
x509_body(struct fixture *f, const struct keys *keys)
{
	handshake(f,
		  &(struct tls_options){ .certificates = keys->directory,
					 .server = true },
		  &(struct tls_options){ .certificates = keys->directory },
		  "localhost");
	assert_int_equal(f->a.tls_error, 0);
	assert_int_equal(f->b.tls_error, 0);
	exchange(f);
}

static void
test_certificates_open_a_session(void **state)
{
	with_fixture(x509_body, state);
}

static void
verified_body(struct fixture *f, const struct keys *keys)
{
	handshake(f,
		  &(struct tls_options){ .certificates = keys->directory,
					 .server = true,
					 .verify_peer = true },
		  &(struct tls_options){ .certificates = keys->directory },
		  "localhost");
	assert_int_equal(f->a.tls_error, 0);
	assert_int_equal(f->b.tls_error, 0);
}

static void
test_a_client_with_a_certificate_is_let_in(void **state)
{
	with_fixture(verified_body, state);
}

static void
nameless_body(struct fixture *f, const struct keys *keys)
{
	char path[128], hidden[160];

	(void)snprintf(path, sizeof(path), "%s/client-cert.pem",
		       keys->directory);
	(void)snprintf(hidden, sizeof(hidden), "%s.away", path);
	assert_int_equal(rename(path, hidden), 0);
	handshake(f,
		  &(struct tls_options){ .certificates = keys->directory,
					 .server = true,
					 .verify_peer = true },
		  &(struct tls_options){ .certificates = keys->directory },
		  "localhost");
	assert_int_equal(rename(hidden, path), 0);
	assert_true(f->a.tls_error < 0);
}

static void
test_a_client_without_a_certificate_is_refused(void **state)
{
	with_fixture(nameless_body, state);
}

static void
wrong_host_body(struct fixture *f, const struct keys *keys)
{
	handshake(f,
		  &(struct tls_options){ .certificates = keys->directory,
					 .server = true },
		  &(struct tls_options){ .certificates = keys->directory },
		  "elsewhere.example");
	assert_int_equal(f->b.tls_error, -EACCES);
	assert_non_null(strstr(f->b.tls_text, "certificate"));
	assert_true(f->a.tls_error < 0);
}

static void
test_a_certificate_for_another_host_is_refused(void **state)
{
	with_fixture(wrong_host_body, state);
}

static void
wrong_key_body(struct fixture *f, const struct keys *keys)
{
	char path[160];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s.other", keys->psk);
	file = fopen(path, "w");
	assert_non_null(file);
	(void)fputs("alice:ffeeddccbbaa99887766554433221100\n", file);
	(void)fclose(file);
	handshake(f, &(struct tls_options){ .psk = keys->psk, .server = true },
		  &(struct tls_options){ .psk = path, .psk_user = "alice" },
		  NULL);
	(void)unlink(path);
	assert_true(f->a.tls_error < 0);
}

static void
test_another_key_is_refused(void **state)
{
	with_fixture(wrong_key_body, state);
}

static void
garbage_body(struct fixture *f, const struct keys *keys)
{
	struct tls_context *context = context_new(
		&(struct tls_options){ .psk = keys->psk, .server = true });

	open_pair(f, SOCK_STREAM);
	assert_int_equal(stream_start_tls(&f->a.stream, context, NULL, NULL),
			 0);
	assert_int_equal(write(f->b.stream.fd, "GET / HTTP/1.0\r\n\r\n", 18),
			 18);
	turn_until(f, &f->a.handshakes, 1);
	assert_true(f->a.tls_error < 0);
	stream_close(&f->a.stream);
	tls_context_free(context);
}

static void
test_garbage_ends_a_handshake(void **state)
{
	with_fixture(garbage_body, state);
}

static void
hang_up_body(struct fixture *f, const struct keys *keys)
{
	struct tls_context *context = context_new(
		&(struct tls_options){ .psk = keys->psk, .server = true });

	open_pair(f, SOCK_STREAM);
	assert_int_equal(stream_start_tls(&f->a.stream, context, NULL, NULL),
			 0);
	turn(f);
	stream_close(&f->b.stream);
	turn_until(f, &f->a.handshakes, 1);
	assert_true(f->a.tls_error < 0);
	stream_close(&f->a.stream);
	tls_context_free(context);
}

static void
test_a_peer_that_leaves_ends_a_handshake(void **state)
{
	with_fixture(hang_up_body, state);
}

static void
expect_refusal(const struct tls_options *options, const char *word)
{
	struct reason reason = { "" };

	assert_null(tls_context_new(options, &reason));
	if (strstr(reason.text, word) == NULL)
		fail_msg("\"%s\" does not name %s", reason.text, word);
}

static void
test_missing_credentials_are_named(void **state)
{
	const struct keys *keys = *state;

	expect_refusal(&(struct tls_options){ .server = true }, "certificates");
	expect_refusal(&(struct tls_options){ .certificates = "/nonexistent",
					      .server = true },
		       "/nonexistent/server-cert.pem");
	expect_refusal(
		&(struct tls_options){ .psk = "/nonexistent", .server = true },
		"/nonexistent");
	expect_refusal(
		&(struct tls_options){ .psk = keys->psk, .psk_user = "bob" },
		"bob");
}

#define PAIR_TEST(name)                                                        \
	cmocka_unit_test_setup_teardown(name, setup_pair, teardown)

int
main(void)
{
	const struct CMUnitTest plain[] = {
		PAIR_TEST(test_sent_bytes_arrive_in_order),
		PAIR_TEST(test_a_receive_waits_for_its_minimum),
		PAIR_TEST(test_nothing_is_called_back_from_inside),
		cmocka_unit_test_setup_teardown(
			test_sends_of_one_turn_leave_together, setup, teardown),
		PAIR_TEST(test_a_large_send_waits_for_a_slow_reader),
		PAIR_TEST(test_bytes_that_nobody_wants_do_not_wake_the_loop),
		PAIR_TEST(test_the_end_of_a_stream_is_zero),
		PAIR_TEST(test_an_end_below_the_minimum_is_a_reset),
		PAIR_TEST(test_after_an_error_everything_ends_with_it),
		PAIR_TEST(test_close_cancels_sends_and_drops_the_receive),
		PAIR_TEST(test_a_callback_may_close_and_free_the_stream),
	};
	const struct CMUnitTest tls[] = {
		cmocka_unit_test(test_a_shared_key_opens_a_session),
		cmocka_unit_test(test_certificates_open_a_session),
		cmocka_unit_test(test_a_client_with_a_certificate_is_let_in),
		cmocka_unit_test(
			test_a_client_without_a_certificate_is_refused),
		cmocka_unit_test(
			test_a_certificate_for_another_host_is_refused),
		cmocka_unit_test(test_another_key_is_refused),
		cmocka_unit_test(test_garbage_ends_a_handshake),
		cmocka_unit_test(test_a_peer_that_leaves_ends_a_handshake),
		cmocka_unit_test(test_missing_credentials_are_named),
	};
	int r = cmocka_run_group_tests_name("stream", plain, NULL, NULL);

	return r +
	       cmocka_run_group_tests_name("tls", tls, make_keys, remove_keys);
}
