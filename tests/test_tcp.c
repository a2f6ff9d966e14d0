/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tcp: whom a name means, asked anew at each connect and without holding up
 * the loop; IPv4 and IPv6.
 *
 * The resolver is this test's: getaddrinfo() below takes the place of libc's.
 * It knows the name "peer.test", and may be held, on its helper thread, until
 * the test lets it go.
 */
#include "tests/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/io.h"
#include "core/pool.h"
#include "core/reason.h"
#include "replication/transport.h"

#define POOL_BYTES (8u << 20)
#define PATIENCE_S 60

/* --- the resolver --- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool held;
	unsigned int asked;
	const char *addresses[4]; /* of peer.test, in order; NULL-ended */
} names = { .lock = PTHREAD_MUTEX_INITIALIZER,
	    .changed = PTHREAD_COND_INITIALIZER };

/* An entry and its address, in one piece. */
struct entry {
	struct addrinfo info;
	struct sockaddr_storage address;
};

static struct addrinfo *
entry_new(const char *text, const char *port)
{
	struct entry *entry = calloc(1, sizeof(*entry));
	struct sockaddr_in *v4 = (void *)&entry->address;
	struct sockaddr_in6 *v6 = (void *)&entry->address;
	uint16_t number = htons((uint16_t)strtoul(port, NULL, 10));

	assert_non_null(entry);
	entry->info.ai_socktype = SOCK_STREAM;
	entry->info.ai_addr = (void *)&entry->address;
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		entry->info.ai_family = v4->sin_family = AF_INET;
		entry->info.ai_addrlen = sizeof(*v4);
		v4->sin_port = number;
		return &entry->info;
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		entry->info.ai_family = v6->sin6_family = AF_INET6;
		entry->info.ai_addrlen = sizeof(*v6);
		v6->sin6_port = number;
		return &entry->info;
	}
	free(entry);
	return NULL;
}

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
	    struct addrinfo **ret)
{
	struct addrinfo **end = ret;

	(void)hints;
	*ret = NULL;
	if (strcmp(node, "peer.test") != 0) {
		*ret = entry_new(node, service);
		return *ret == NULL ? EAI_NONAME : 0;
	}
	(void)pthread_mutex_lock(&names.lock);
	names.asked++;
	while (names.held)
		(void)pthread_cond_wait(&names.changed, &names.lock);
	for (int i = 0; names.addresses[i] != NULL; i++) {
		struct addrinfo *entry = entry_new(names.addresses[i], service);

		if (entry == NULL)
			break;
		*end = entry;
		end = &entry->ai_next;
	}
	(void)pthread_mutex_unlock(&names.lock);
	return *ret == NULL ? EAI_NONAME : 0;
}

void
freeaddrinfo(struct addrinfo *found)
{
	while (found != NULL) {
		struct addrinfo *next = found->ai_next;

		free(container_of(found, struct entry, info));
		found = next;
	}
}

static void
names_set(const char *first, const char *second)
{
	(void)pthread_mutex_lock(&names.lock);
	names.addresses[0] = first;
	names.addresses[1] = second;
	names.addresses[2] = NULL;
	(void)pthread_mutex_unlock(&names.lock);
}

static void
names_hold(bool hold)
{
	(void)pthread_mutex_lock(&names.lock);
	names.held = hold;
	(void)pthread_cond_broadcast(&names.changed);
	(void)pthread_mutex_unlock(&names.lock);
}

static unsigned int
names_asked(void)
{
	unsigned int asked;

	(void)pthread_mutex_lock(&names.lock);
	asked = names.asked;
	(void)pthread_mutex_unlock(&names.lock);
	return asked;
}

/* --- a host that calls, and two that listen --- */

struct side {
	struct acceptor *acceptor;
	struct channel *channel; /* accepted */
};

struct fixture {
	struct loop *loop;
	struct io *io;
	struct pool *pool;
	struct transport_context context;
	struct side side[2];
	struct channel *channel; /* that calls */
	bool open;
	int error;
	struct reason reason;
};

static void
on_open(struct channel *channel)
{
	struct fixture *f = channel->owner;

	if (channel == f->channel)
		f->open = true;
}

static void
on_message(struct channel *channel, const struct wire_header *header,
	   void *payload, size_t length)
{
	(void)channel;
	(void)header;
	(void)payload;
	(void)length;
	fail_msg("nobody said anything");
}

static void
on_close(struct channel *channel, int error, const struct reason *reason)
{
	struct fixture *f = channel->owner;

	if (channel != f->channel)
		return;
	f->error = error;
	f->reason = *reason;
}

static const struct channel_events events = {
	.on_open = on_open,
	.on_message = on_message,
	.on_close = on_close,
};

static struct fixture *the_fixture; /* for on_accept, whose owner is a side */

static void
on_accept(struct acceptor *acceptor, struct channel *channel)
{
	struct side *side = acceptor->owner;

	assert_null(side->channel);
	side->channel = channel;
	channel->events = &events;
	channel->owner = the_fixture;
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct reason reason;

	assert_non_null(f);
	f->loop = loop_new(&reason);
	f->io = io_new(f->loop, "libaio", &reason);
	f->pool = pool_new(f->loop, POOL_BYTES, &reason);
	assert_non_null(f->io);
	assert_non_null(f->pool);
	f->context = (struct transport_context){ .loop = f->loop,
						 .io = f->io,
						 .pool = f->pool };
	the_fixture = f;
	names.asked = 0;
	*state = f;
	return 0;
}

static void
hang_up(struct fixture *f)
{
	if (f->channel != NULL)
		transport_tcp.close(f->channel);
	f->channel = NULL;
	f->open = false;
	f->error = 0;
	for (int i = 0; i < 2; i++) {
		if (f->side[i].channel != NULL)
			transport_tcp.close(f->side[i].channel);
		f->side[i].channel = NULL;
	}
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	names_hold(false);
	hang_up(f);
	for (int i = 0; i < 2; i++) {
		if (f->side[i].acceptor != NULL)
			transport_tcp.stop(f->side[i].acceptor);
	}
	io_drain(f->io);
	pool_free(f->pool);
	io_free(f->io);
	loop_free(f->loop);
	free(f);
	return 0;
}

/* False if the host has not this address. */
static bool
listen_at(struct fixture *f, int index, const char *address)
{
	struct reason reason = { "" };

	f->side[index].acceptor = transport_tcp.listen(
		&f->context, address, on_accept, &f->side[index], &reason);
	if (f->side[index].acceptor == NULL)
		print_message("%s\n", reason.text);
	return f->side[index].acceptor != NULL;
}

static const char *
port_of(const struct fixture *f, int index)
{
	const char *address = f->side[index].acceptor->address;

	return address == NULL ? "" : strrchr(address, ':') + 1;
}

static void
call(struct fixture *f, const char *host, const char *port)
{
	struct reason reason = { "" };
	char address[128];

	(void)snprintf(address, sizeof(address), "%s:%s", host, port);
	f->channel = transport_tcp.connect(&f->context, address, &events, f,
					   &reason);
	assert_non_null(f->channel);
}

static void
turn(struct fixture *f)
{
	assert_true(loop_turn(f->loop, 10 * NS_PER_MS) >= 0);
}

#define wait_for(f, condition)                                                 \
	do {                                                                   \
		uint64_t end = loop_now((f)->loop) + PATIENCE_S * NS_PER_S;    \
		while (!(condition)) {                                         \
			turn(f);                                               \
			if (loop_now((f)->loop) > end)                         \
				fail_msg("never: %s", #condition);             \
		}                                                              \
	} while (0)

/* --- tests --- */

static void
test_a_name_is_looked_up_anew_at_each_connect(void **state)
{
	struct fixture *f = *state;
	char address[64];

	assert_true(listen_at(f, 0, "127.0.0.1:0"));
	(void)snprintf(address, sizeof(address), "127.0.0.2:%s", port_of(f, 0));
	assert_true(listen_at(f, 1, address));

	names_set("127.0.0.1", NULL);
	call(f, "peer.test", port_of(f, 0));
	wait_for(f, f->open && f->side[0].channel != NULL);
	assert_null(f->side[1].channel);
	hang_up(f);

	names_set("127.0.0.2", NULL); /* the host has moved */
	call(f, "peer.test", port_of(f, 0));
	wait_for(f, f->open && f->side[1].channel != NULL);
	assert_null(f->side[0].channel);
	assert_int_equal(names_asked(), 2);
}

static unsigned int ticks;

static void
on_tick(struct timer *timer)
{
	ticks++;
	timer_set(timer, NS_PER_MS);
}

static void
test_a_slow_look_up_holds_up_nobody(void **state)
{
	struct fixture *f = *state;
	struct timer timer;

	assert_true(listen_at(f, 0, "127.0.0.1:0"));
	names_set("127.0.0.1", NULL);
	names_hold(true);
	call(f, "peer.test", port_of(f, 0));
	wait_for(f, names_asked() == 1);
	ticks = 0;
	timer_init(&timer, f->loop, on_tick);
	timer_set(&timer, 0);
	wait_for(f, ticks >= 20);
	timer_clear(&timer);
	assert_false(f->open);
	assert_int_equal(f->error, 0);
	names_hold(false);
	wait_for(f, f->open);
}

static void
test_who_hangs_up_in_a_look_up_hears_nothing_of_it(void **state)
{
	struct fixture *f = *state;

	assert_true(listen_at(f, 0, "127.0.0.1:0"));
	names_set("127.0.0.1", NULL);
	names_hold(true);
	call(f, "peer.test", port_of(f, 0));
	wait_for(f, names_asked() == 1);
	hang_up(f);
	names_hold(false);
	io_drain(f->io);
	for (int i = 0; i < 5; i++)
		turn(f);
	assert_false(f->open);
	assert_null(f->side[0].channel);
}

static void
test_an_unknown_name_is_told(void **state)
{
	struct fixture *f = *state;

	names_set(NULL, NULL);
	call(f, "peer.test", "7788");
	wait_for(f, f->error != 0);
	assert_int_equal(f->error, -EHOSTUNREACH);
	assert_non_null(
		strstr(f->reason.text, "the host peer.test cannot be found"));
}

static void
test_each_address_of_a_name_is_tried(void **state)
{
	struct fixture *f = *state;

	assert_true(listen_at(f, 0, "127.0.0.1:0"));
	names_set("127.0.0.3", "127.0.0.1"); /* the first refuses */
	call(f, "peer.test", port_of(f, 0));
	wait_for(f, f->open && f->side[0].channel != NULL);
	hang_up(f);
	names_set("127.0.0.3", "127.0.0.4");
	call(f, "peer.test", port_of(f, 0));
	wait_for(f, f->error != 0);
	assert_int_equal(f->error, -ECONNREFUSED);
}

static void
test_a_peer_is_reached_over_ipv6(void **state)
{
	struct fixture *f = *state;

	if (!listen_at(f, 0, "[::1]:0"))
		skip(); /* after the sentence of listen_at() */
	call(f, "[::1]", port_of(f, 0));
	wait_for(f, f->open && f->side[0].channel != NULL);
	assert_int_equal(strncmp(f->side[0].channel->peer, "tcp://[::1]:", 12),
			 0);
	hang_up(f);
	/* a name that means both, and listens at the one only */
	names_set("127.0.0.3", "::1");
	call(f, "peer.test", port_of(f, 0));
	wait_for(f, f->open && f->side[0].channel != NULL);
}

static void
test_what_is_no_address_is_refused_at_once(void **state)
{
	static const char *const wrong[] = { "",      "host",	"host:",
					     ":7788", "host:x", "[::1]" };
	struct fixture *f = *state;
	struct reason reason = { "" };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_null(transport_tcp.connect(&f->context, wrong[i],
						  &events, f, &reason));
	assert_non_null(strstr(reason.text, "write HOST:PORT"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_name_is_looked_up_anew_at_each_connect, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_a_slow_look_up_holds_up_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_who_hangs_up_in_a_look_up_hears_nothing_of_it,
			setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_unknown_name_is_told,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_each_address_of_a_name_is_tried, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_peer_is_reached_over_ipv6, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_what_is_no_address_is_refused_at_once, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
