/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_stream_listen - the listening half of core/stream: what is bound, what
 * is refused and in which words, what is left behind.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/log.h"
#include "core/reason.h"
#include "core/stream.h"
#include "tests/test.h"

#define TURNS_MAX 1000

struct fixture {
	struct loop *loop;
	struct listener listener;
	char directory[64];
	char path[96];
	char address[104]; /* "unix:" path */
	int accepted;
	bool close_on_accept;
};

static struct fixture *fixture_of_listener;

static void
on_accept(struct listener *listener, int fd)
{
	struct fixture *f = fixture_of_listener;

	assert_true(fd >= 0);
	(void)close(fd);
	f->accepted++;
	if (f->close_on_accept)
		listener_close(listener);
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");

	f->loop = loop_new(NULL);
	(void)snprintf(f->directory, sizeof(f->directory),
		       "%s/tapdisk-listen-XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->directory));
	(void)snprintf(f->path, sizeof(f->path), "%s/s", f->directory);
	(void)snprintf(f->address, sizeof(f->address), "unix:%s", f->path);
	f->listener.fd = -1;
	fixture_of_listener = f;
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	listener_close(&f->listener);
	loop_free(f->loop);
	(void)unlink(f->path);
	(void)rmdir(f->directory);
	free(f);
	return 0;
}

static void
open_listener(struct fixture *f, const char *address)
{
	struct reason reason = { "" };

	if (listener_open(&f->listener, f->loop, address, 0600, -1, on_accept,
			  &reason) < 0)
		fail_msg("%s: %s", address, reason.text);
}

static void
expect_refusal(struct fixture *f, const char *address, int error,
	       const char *words)
{
	struct reason reason = { "" };
	struct listener listener;

	assert_int_equal(listener_open(&listener, f->loop, address, 0600, -1,
				       on_accept, &reason),
			 error);
	if (strstr(reason.text, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", reason.text, words);
	assert_int_equal(listener.fd, -1);
}

static int
connect_unix(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(
		connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* A socket file that nobody listens on, as a killed process leaves it. */
static void
leave_stale_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)),
			 0);
	assert_int_equal(listen(fd, 1), 0);
	(void)close(fd);
}

static void
turn_until_accepted(struct fixture *f, int wanted)
{
	for (int i = 0; i < TURNS_MAX && f->accepted < wanted; i++)
		assert_int_equal(loop_turn(f->loop, NS_PER_MS), 0);
	assert_int_equal(f->accepted, wanted);
}

static void
test_a_unix_socket_accepts_and_is_removed_at_the_end(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	int fd;

	open_listener(f, f->address);
	assert_string_equal(f->listener.name, f->address);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	fd = connect_unix(f->path);
	turn_until_accepted(f, 1);
	(void)close(fd);
	listener_close(&f->listener);
	assert_int_equal(access(f->path, F_OK), -1);
}

static void
test_mode_and_group_are_set_whatever_the_umask(void **state)
{
	struct fixture *f = *state;
	mode_t mask = umask(0077);
	struct stat st;
	int r = listener_open(&f->listener, f->loop, f->address, 0660,
			      (int)getegid(), on_accept, NULL);

	(void)umask(mask);
	assert_int_equal(r, 0);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(st.st_gid, getegid());
}

static void
test_a_dead_process_socket_is_replaced(void **state)
{
	struct fixture *f = *state;

	leave_stale_socket(f->path);
	open_listener(f, f->address);
	(void)close(connect_unix(f->path));
	turn_until_accepted(f, 1);
}

static void
test_a_live_socket_is_refused(void **state)
{
	struct fixture *f = *state;

	open_listener(f, f->address);
	expect_refusal(f, f->address, -EADDRINUSE, "another process listens");
	(void)close(connect_unix(f->path)); /* and was not harmed */
}

static void
test_a_file_that_is_no_socket_is_left_alone(void **state)
{
	struct fixture *f = *state;
	FILE *file = fopen(f->path, "w");

	assert_non_null(file);
	(void)fclose(file);
	expect_refusal(f, f->address, -EEXIST, "not a socket");
	assert_int_equal(access(f->path, F_OK), 0);
}

static void
test_a_successor_socket_is_not_removed(void **state)
{
	struct fixture *f = *state;

	open_listener(f, f->address);
	assert_int_equal(unlink(f->path), 0);
	leave_stale_socket(f->path);
	listener_close(&f->listener);
	assert_int_equal(access(f->path, F_OK), 0);
}

static void
test_bad_addresses_get_a_sentence(void **state)
{
	struct fixture *f = *state;
	char lengthy[200];

	memset(lengthy, 'x', sizeof(lengthy) - 1);
	lengthy[sizeof(lengthy) - 1] = '\0';
	memcpy(lengthy, "unix:/", 6);
	expect_refusal(f, lengthy, -ENAMETOOLONG, "at most 107 bytes");
	expect_refusal(f, "unix:", -EINVAL, "needs a path");
	expect_refusal(f, "unix:/nonexistent/s", -ENOENT, "/nonexistent/s");
	expect_refusal(f, "/run/x.sock", -EINVAL, "unix:PATH");
	expect_refusal(f, "tcp:localhost", -EINVAL, "tcp:HOST:PORT");
	expect_refusal(f, "tcp::1", -EINVAL, "tcp:HOST:PORT");
	expect_refusal(f, "tcp:127.0.0.1:", -EINVAL, "tcp:HOST:PORT");
	expect_refusal(f, "tcp:127.0.0.1:70000", -EINVAL, "not a port");
	expect_refusal(f, "tcp:127.0.0.1:nbd", -EINVAL, "not a port");
	expect_refusal(f, "tcp:::1:10809", -EINVAL, "brackets");
	expect_refusal(f, "tcp:256.1.1.1:0", -EADDRNOTAVAIL, "256.1.1.1");
}

static void
test_a_directory_without_rights_is_named(void **state)
{
	struct fixture *f = *state;

	if (geteuid() == 0) {
		print_message("root may write everywhere\n");
		skip();
	}
	assert_int_equal(chmod(f->directory, 0500), 0);
	expect_refusal(f, f->address, -EACCES, f->path);
	assert_int_equal(chmod(f->directory, 0700), 0);
}

static unsigned int
port_of(const struct listener *listener)
{
	return (unsigned int)strtoul(strrchr(listener->name, ':') + 1, NULL,
				     10);
}

static void
test_port_zero_is_named_after_the_port_it_got(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_in address = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char again[64];

	open_listener(f, "tcp:127.0.0.1:0");
	assert_memory_equal(f->listener.name, "tcp:127.0.0.1:", 14);
	assert_true(port_of(&f->listener) > 0);
	address.sin_port = htons((uint16_t)port_of(&f->listener));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(
		connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	turn_until_accepted(f, 1);
	(void)close(fd);
	(void)snprintf(again, sizeof(again), "%s", f->listener.name);
	expect_refusal(f, again, -EADDRINUSE, "port is in use");
}

static void
test_ipv6_addresses_are_written_in_brackets(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_in6 address = { .sin6_family = AF_INET6,
					.sin6_addr = in6addr_loopback };
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	if (fd < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		print_message("no IPv6 here\n");
		skip();
	}
	(void)close(fd);
	open_listener(f, "tcp:[::1]:0");
	assert_memory_equal(f->listener.name, "tcp:[::1]:", 10);
}

static void
test_a_star_takes_ipv4_and_names_work(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_in address = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	open_listener(f, "tcp:*:0");
	address.sin_port = htons((uint16_t)port_of(&f->listener));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(
		connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	turn_until_accepted(f, 1);
	(void)close(fd);
	listener_close(&f->listener);
	open_listener(f, "tcp:localhost:0");
}

static void
test_a_listener_may_be_closed_by_its_own_callback(void **state)
{
	struct fixture *f = *state;
	int a, b;

	open_listener(f, f->address);
	f->close_on_accept = true;
	a = connect_unix(f->path);
	b = connect_unix(f->path);
	turn_until_accepted(f, 1);
	assert_int_equal(f->listener.fd, -1);
	(void)close(a);
	(void)close(b);
}

static void
test_out_of_descriptors_does_not_spin(void **state)
{
	struct fixture *f = *state;
	struct rlimit limit, low;
	int fd, probe;

	if (getenv("UNDER_VALGRIND")) {
		print_message("valgrind has limits of its own\n");
		skip();
	}
	open_listener(f, f->address);
	fd = connect_unix(f->path);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	probe = dup(fd);
	low.rlim_cur = (rlim_t)probe;
	(void)close(probe);
	log_set_level(LOG_ERR); /* the warning is meant */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(loop_turn(f->loop, NS_PER_MS), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	log_set_level(LOG_INFO);
	assert_int_equal(f->accepted, 0);
	assert_int_equal(f->listener.watch.events, 0);
	assert_true(timer_is_set(&f->listener.pause));
	timer_set(&f->listener.pause, 0); /* as if the second were over */
	turn_until_accepted(f, 1);
	(void)close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_unix_socket_accepts_and_is_removed_at_the_end),
		TEST(test_mode_and_group_are_set_whatever_the_umask),
		TEST(test_a_dead_process_socket_is_replaced),
		TEST(test_a_live_socket_is_refused),
		TEST(test_a_file_that_is_no_socket_is_left_alone),
		TEST(test_a_successor_socket_is_not_removed),
		TEST(test_bad_addresses_get_a_sentence),
		TEST(test_a_directory_without_rights_is_named),
		TEST(test_port_zero_is_named_after_the_port_it_got),
		TEST(test_ipv6_addresses_are_written_in_brackets),
		TEST(test_a_star_takes_ipv4_and_names_work),
		TEST(test_a_listener_may_be_closed_by_its_own_callback),
		TEST(test_out_of_descriptors_does_not_spin),
	};

	return cmocka_run_group_tests_name("stream_listen", tests, NULL, NULL);
}
