/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd_peer - see nbd_peer.h.
 */
#include "tests/nbd_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/reason.h"
#include "drivers/drivers.h"
#include "tests/test.h"

#define TURNS_MAX 20000
#define POOL_SIZE (32u << 20)

static struct driver_type types[] = {
	{ NULL, -1, NULL, NULL }, /* fake */
	{ NULL, -1, NULL, NULL }, /* able */
	{ "ram", -1, &tapdisk_ram, "SIZE" },
	{ NULL, -1, NULL, NULL },
};

void
nbd_world_open(struct nbd_world *world, const char *image,
	       const struct nbd_options *options)
{
	static const char *const names[] = { "disk", "second", NULL };
	struct nbd_options usual = { .exports = names, .group = -1 };
	struct reason reason = { "" };
	struct vbd_options disk = { .image = image, .timeout_s = 1 };

	types[0] = fake_types[0];
	types[1] = fake_types[1];
	memset(world, 0, sizeof(*world));
	world->loop = loop_new(NULL);
	world->pool = pool_new(world->loop, POOL_SIZE, NULL);
	world->vbd = vbd_new(world->loop, NULL, types);
	if (vbd_open(world->vbd, &disk, &reason) < 0)
		fail_msg("%s", reason.text);
	if (strncmp(image, "ram:", 4) != 0)
		world->fake = fake_of(vbd_images(world->vbd), 0);
	world->server =
		nbd_server_new(world->loop, world->vbd, world->pool,
			       options != NULL ? options : &usual, &reason);
	if (world->server == NULL)
		fail_msg("%s", reason.text);
}

void
nbd_world_turn(struct nbd_world *world)
{
	assert_int_equal(loop_turn(world->loop, NS_PER_MS), 0);
}

static void
on_disk_closed(struct vbd_waiter *waiter, int error,
	       const struct reason *reason)
{
	(void)waiter;
	(void)error;
	(void)reason;
}

void
nbd_world_close_disk(struct nbd_world *world)
{
	static struct vbd_waiter waiter;

	waiter = (struct vbd_waiter){ .on_done = on_disk_closed };
	if (world->fake != NULL)
		world->fake->hold = false; /* or the last flush stays there */
	world->fake = NULL;
	vbd_close(world->vbd, &waiter);
	for (int i = 0; i < TURNS_MAX && vbd_state(world->vbd) != VBD_CLOSED;
	     i++)
		nbd_world_turn(world);
	assert_int_equal(vbd_state(world->vbd), VBD_CLOSED);
	world->disk_closed = true;
}

void
nbd_world_close(struct nbd_world *world)
{
	if (!world->disk_closed)
		nbd_world_close_disk(world);
	nbd_server_free(world->server);
	vbd_free(world->vbd);
	assert_int_equal(pool_in_use(world->pool), 0);
	pool_free(world->pool);
	loop_free(world->loop);
}

/* --- bytes --- */

struct peer *
peer_new(struct nbd_world *world)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	peer->world = world;
	peer->fd = fds[0];
	nbd_server_adopt(world->server, fds[1]);
	return peer;
}

void
peer_free(struct peer *peer)
{
	(void)close(peer->fd);
	free(peer);
}

void
peer_say(struct peer *peer, const void *data, size_t length)
{
	const char *at = data;

	for (int i = 0; i < TURNS_MAX && length > 0; i++) {
		ssize_t n = send(peer->fd, at, length, MSG_NOSIGNAL);

		if (n > 0) {
			at += n;
			length -= (size_t)n;
		} else if (errno != EAGAIN) {
			fail_msg("send: %s", strerror(errno));
		}
		nbd_world_turn(peer->world);
	}
	assert_int_equal(length, 0);
}

void
peer_hear(struct peer *peer, void *data, size_t length)
{
	char *at = data;

	for (int i = 0; i < TURNS_MAX && length > 0; i++) {
		ssize_t n = recv(peer->fd, at, length, 0);

		if (n > 0) {
			at += n;
			length -= (size_t)n;
			continue;
		}
		if (n == 0)
			fail_msg("the server hung up");
		nbd_world_turn(peer->world);
	}
	assert_int_equal(length, 0);
}

void
peer_expect_silence(struct peer *peer)
{
	char byte;

	for (int i = 0; i < 5; i++)
		nbd_world_turn(peer->world);
	assert_int_equal(recv(peer->fd, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

void
peer_expect_end(struct peer *peer)
{
	ssize_t n = -1;

	for (int i = 0; i < TURNS_MAX && n < 0; i++) {
		nbd_world_turn(peer->world);
		n = recv(peer->fd, peer->data, 1, 0);
		if (n < 0 && errno == ECONNRESET)
			n = 0; /* it left bytes of ours unread */
	}
	assert_int_equal(n, 0);
}

/* --- handshake --- */

void
peer_greet(struct peer *peer, uint32_t client_flags)
{
	char greeting[NBD_GREETING_BYTES], flags[4], *out = flags;
	const char *at = greeting;

	peer_hear(peer, greeting, sizeof(greeting));
	assert_true(nbd_get64(&at) == NBD_MAGIC);
	assert_true(nbd_get64(&at) == NBD_OPTION_MAGIC);
	assert_int_equal(nbd_get16(&at),
			 NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	nbd_put32(&out, client_flags);
	peer_say(peer, flags, sizeof(flags));
}

void
peer_option(struct peer *peer, uint32_t option, const void *data, size_t length)
{
	char head[NBD_OPTION_BYTES], *at = head;

	nbd_put64(&at, NBD_OPTION_MAGIC);
	nbd_put32(&at, option);
	nbd_put32(&at, (uint32_t)length);
	peer_say(peer, head, sizeof(head));
	peer_say(peer, data, length);
}

uint32_t
peer_option_reply(struct peer *peer, uint32_t option, size_t *ret_length)
{
	char head[NBD_REPLY_BYTES];
	const char *at = head;
	uint32_t type, length;

	peer_hear(peer, head, sizeof(head));
	assert_true(nbd_get64(&at) == NBD_REPLY_MAGIC);
	assert_int_equal(nbd_get32(&at), option);
	type = nbd_get32(&at);
	length = nbd_get32(&at);
	assert_true(length < PEER_DATA_MAX);
	peer_hear(peer, peer->data, length);
	peer->data[length] = '\0';
	if (ret_length != NULL)
		*ret_length = length;
	return type;
}

void
peer_expect_reply(struct peer *peer, uint32_t option, uint32_t type)
{
	assert_int_equal(peer_option_reply(peer, option, NULL), type);
}

void
peer_expect_refusal(struct peer *peer, uint32_t option, uint32_t type,
		    const char *words)
{
	assert_int_equal(peer_option_reply(peer, option, NULL), type);
	if (strstr(peer->data, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", peer->data, words);
}

static void
put_bytes(char **at, const char *bytes, size_t length)
{
	memcpy(*at, bytes, length);
	*at += length;
}

size_t
peer_go_data(char *data, const char *name, const uint16_t *infos,
	     unsigned int count)
{
	char *at = data;

	nbd_put32(&at, (uint32_t)strlen(name));
	put_bytes(&at, name, strlen(name));
	nbd_put16(&at, (uint16_t)count);
	for (unsigned int i = 0; i < count; i++)
		nbd_put16(&at, infos[i]);
	return (size_t)(at - data);
}

size_t
peer_context_data(char *data, const char *name, const char *query)
{
	char *at = data;

	nbd_put32(&at, (uint32_t)strlen(name));
	put_bytes(&at, name, strlen(name));
	nbd_put32(&at, query != NULL);
	if (query != NULL) {
		nbd_put32(&at, (uint32_t)strlen(query));
		put_bytes(&at, query, strlen(query));
	}
	return (size_t)(at - data);
}

struct peer *
peer_connect(struct nbd_world *world, bool structured)
{
	struct peer *peer = peer_new(world);
	char data[64];

	peer_greet(peer, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
	if (structured) {
		peer_option(peer, NBD_OPT_STRUCTURED_REPLY, "", 0);
		peer_expect_reply(peer, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
		peer_option(peer, NBD_OPT_SET_META_CONTEXT, data,
			    peer_context_data(data, "", "base:allocation"));
		peer_expect_reply(peer, NBD_OPT_SET_META_CONTEXT,
				  NBD_REP_META_CONTEXT);
		peer_expect_reply(peer, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	}
	peer_option(peer, NBD_OPT_GO, data, peer_go_data(data, "", NULL, 0));
	peer_expect_reply(peer, NBD_OPT_GO, NBD_REP_INFO);
	peer_expect_reply(peer, NBD_OPT_GO, NBD_REP_ACK);
	return peer;
}

/* --- transmission --- */

void
peer_command(struct peer *peer, uint16_t flags, uint16_t type, uint64_t cookie,
	     uint64_t offset, uint32_t length)
{
	char head[NBD_REQUEST_BYTES], *at = head;

	nbd_put32(&at, NBD_REQUEST_MAGIC);
	nbd_put16(&at, flags);
	nbd_put16(&at, type);
	nbd_put64(&at, cookie);
	nbd_put64(&at, offset);
	nbd_put32(&at, length);
	peer_say(peer, head, sizeof(head));
}

static void
hear_chunk(struct peer *peer, struct peer_answer *answer, const char *at)
{
	char rest[NBD_STRUCTURED_BYTES - NBD_SIMPLE_BYTES];
	const char *more = rest, *body = peer->data;
	size_t length, words;

	assert_int_equal(nbd_get16(&at), NBD_REPLY_FLAG_DONE);
	answer->type = nbd_get16(&at);
	answer->cookie = nbd_get64(&at);
	peer_hear(peer, rest, sizeof(rest));
	length = nbd_get32(&more);
	assert_true(length <= PEER_DATA_MAX);
	peer_hear(peer, peer->data, length);
	if (answer->type & 0x8000) {
		answer->error = nbd_get32(&body);
		words = nbd_get16(&body);
		assert_true(words < sizeof(answer->text));
		memcpy(answer->text, body, words);
		body += words;
		length -= 6 + words;
	}
	if (answer->type == NBD_REPLY_TYPE_OFFSET_DATA ||
	    answer->type == NBD_REPLY_TYPE_ERROR_OFFSET) {
		answer->where = nbd_get64(&body);
		length -= 8;
	}
	answer->length = length;
	memmove(peer->data, body, length);
}

struct peer_answer
peer_hear_answer(struct peer *peer, size_t length)
{
	struct peer_answer answer = { .structured = false };
	char head[NBD_SIMPLE_BYTES];
	const char *at = head;
	uint32_t magic;

	peer_hear(peer, head, sizeof(head));
	magic = nbd_get32(&at);
	if (magic == NBD_STRUCTURED_MAGIC) {
		answer.structured = true;
		hear_chunk(peer, &answer, at);
		return answer;
	}
	assert_int_equal(magic, NBD_SIMPLE_MAGIC);
	answer.error = nbd_get32(&at);
	answer.cookie = nbd_get64(&at);
	if (answer.error == 0 && length > 0) {
		peer_hear(peer, peer->data, length);
		answer.length = length;
	}
	return answer;
}

void
peer_expect_answer(struct peer *peer, uint64_t cookie, uint32_t error)
{
	struct peer_answer answer = peer_hear_answer(peer, 0);

	assert_int_equal(answer.error, error);
	assert_int_equal(answer.cookie, cookie);
}
