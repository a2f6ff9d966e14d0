/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_nbd - bytes of an NBD client, over a socketpair, to a server with a disk
 * that fails in one place and is late in another.
 *
 * The first byte (HOW_*) says how they are said; the rest is what the client
 * says.  Magics are put right if wanted, or little behind them were reached.
 * What the server answers must keep to the framing, and when the client has
 * hung up nothing of it may be left: no client, no buffer, no request.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/frontends/nbd.h"
#include "core/frontends/nbd_protocol.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/pool.h"
#include "core/vbd.h"
#include "drivers/drivers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOW_CONNECTED  0x01 /* the handshake is made; commands follow */
#define HOW_STRUCTURED 0x02 /* with structured replies and a context */
#define HOW_MAGIC      0x04 /* magics are put right */
#define HOW_READ_ONLY  0x08 /* of the export that may not be written */
#define HOW_PIECES     0x10 /* a few bytes at a time */
#define HOW_DEAF       0x20 /* hears nothing, and hangs up at the end */

#define DISK                                                                   \
	"fault:from=16K,to=20K,error=EIO;from=32K,to=36K,delay=200us|ram:64K"
#define DISK_SIZE (64u << 10)
#define SAID_MAX  (64u << 10)
#define TURNS_MAX 20000
#define WAITS_MAX 2000 /* of a millisecond */

static struct loop *loop;
static struct pool *pool;
static struct vbd *vbd;
static struct nbd_server *servers[2]; /* the second is read-only */

static void
make_world(void)
{
	static struct driver_type types[] = {
		{ "ram", -1, &tapdisk_ram, "SIZE" },
		{ "fault", -1, &tapdisk_fault, "RULES" },
		{ NULL, -1, NULL, NULL },
	};
	static const char *const names[] = { "disk", "second", NULL };
	struct vbd_options disk = { .image = DISK };

	log_set_level(LOG_EMERG);
	loop = loop_new(NULL);
	pool = pool_new(loop, POOL_MAX, NULL);
	vbd = vbd_new(loop, NULL, types);
	if (vbd_open(vbd, &disk, NULL) < 0)
		abort();
	for (int i = 0; i < 2; i++) {
		struct nbd_options options = { .exports = names,
					       .description = "fuzzed",
					       .read_only = i == 1,
					       .group = -1 };

		servers[i] = nbd_server_new(loop, vbd, pool, &options, NULL);
		if (servers[i] == NULL)
			abort();
	}
}

/* --- what the client says --- */

static void
put_option(char **at, uint32_t option, const char *data, size_t length)
{
	nbd_put64(at, NBD_OPTION_MAGIC);
	nbd_put32(at, option);
	nbd_put32(at, (uint32_t)length);
	memcpy(*at, data, length);
	*at += length;
}

static size_t
put_handshake(char *said, bool structured)
{
	static const char context[] = "\0\0\0\0\0\0\0\1\0\0\0\17"
				      "base:allocation";
	char *at = said;

	nbd_put32(&at, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
	if (structured) {
		put_option(&at, NBD_OPT_STRUCTURED_REPLY, "", 0);
		put_option(&at, NBD_OPT_SET_META_CONTEXT, context,
			   sizeof(context) - 1);
	}
	put_option(&at, NBD_OPT_GO, "\0\0\0\0\0\0", 6);
	return (size_t)(at - said);
}

/* Magics of options, as far as one leads to the next. */
static void
put_right_options(char *said, size_t length)
{
	size_t i = 4; /* behind the client's flags */

	while (i + NBD_OPTION_BYTES <= length) {
		const char *field = said + i + 12;
		char *at = said + i;

		nbd_put64(&at, NBD_OPTION_MAGIC);
		i += NBD_OPTION_BYTES + (size_t)nbd_get32(&field);
	}
}

static void
put_right_commands(char *said, size_t length)
{
	size_t i = 0;

	while (i + NBD_REQUEST_BYTES <= length) {
		const char *type = said + i + 6, *field = said + i + 24;
		char *at = said + i;

		nbd_put32(&at, NBD_REQUEST_MAGIC);
		i += NBD_REQUEST_BYTES;
		if (nbd_get16(&type) == NBD_CMD_WRITE)
			i += (size_t)nbd_get32(&field);
	}
}

static size_t
put_said(char *said, uint8_t how, const uint8_t *data, size_t size)
{
	size_t begun = 0;

	if (how & HOW_CONNECTED)
		begun = put_handshake(said, (how & HOW_STRUCTURED) != 0);
	if (size > SAID_MAX - begun)
		size = SAID_MAX - begun;
	memcpy(said + begun, data, size);
	if ((how & HOW_MAGIC) && (how & HOW_CONNECTED))
		put_right_commands(said + begun, size);
	else if (how & HOW_MAGIC)
		put_right_options(said, size);
	return begun + size;
}

/* --- what it hears --- */

struct ear {
	unsigned char head[NBD_REPLY_BYTES];
	size_t have, need; /* of head */
	uint64_t skip;	   /* bytes of a body */
	bool greeted, structured;
	bool lost; /* what follows has no frame of its own */
};

static void
check_option_reply(struct ear *ear, const char *at)
{
	uint32_t option, type, length;
	uint64_t magic;

	if (ear->need < NBD_REPLY_BYTES) {
		ear->need = NBD_REPLY_BYTES;
		return;
	}
	magic = nbd_get64(&at);
	assert(magic == NBD_REPLY_MAGIC);
	option = nbd_get32(&at);
	type = nbd_get32(&at);
	length = nbd_get32(&at);
	assert(length <= 24u << 10);
	if (option == NBD_OPT_STRUCTURED_REPLY && type == NBD_REP_ACK)
		ear->structured = true;
	ear->skip = length;
	ear->have = 0;
}

static void
check_chunk(struct ear *ear, const char *at)
{
	uint16_t flags, type;

	if (ear->need < NBD_STRUCTURED_BYTES) {
		ear->need = NBD_STRUCTURED_BYTES;
		return;
	}
	assert(ear->structured);
	at += 4;
	flags = nbd_get16(&at);
	assert(flags == NBD_REPLY_FLAG_DONE);
	type = nbd_get16(&at);
	assert(type == NBD_REPLY_TYPE_OFFSET_DATA ||
	       type == NBD_REPLY_TYPE_BLOCK_STATUS ||
	       type == NBD_REPLY_TYPE_ERROR ||
	       type == NBD_REPLY_TYPE_ERROR_OFFSET);
	at += 8;
	ear->skip = nbd_get32(&at);
	assert(ear->skip <= DISK_SIZE + 8);
	ear->have = 0;
}

static void
check_simple(struct ear *ear, const char *at)
{
	uint32_t error;

	if (ear->need < NBD_SIMPLE_BYTES) {
		ear->need = NBD_SIMPLE_BYTES;
		return;
	}
	at += 4;
	error = nbd_get32(&at);
	/* with structured replies errors have words, and reads are chunks */
	assert(!ear->structured || error == 0);
	ear->lost = !ear->structured && error == 0; /* it may be a read's */
	ear->have = 0;
}

/* ear->need bytes are there. */
static void
check_head(struct ear *ear)
{
	const char *at = (const char *)ear->head, *magic = at;
	uint64_t first, second;

	if (!ear->greeted) {
		first = nbd_get64(&at);
		second = nbd_get64(&at);
		assert(first == NBD_MAGIC && second == NBD_OPTION_MAGIC);
		ear->greeted = true;
		ear->have = 0;
		ear->need = 4;
		return;
	}
	switch (nbd_get32(&magic)) {
	case (uint32_t)(NBD_REPLY_MAGIC >> 32):
		check_option_reply(ear, at);
		break;
	case NBD_STRUCTURED_MAGIC:
		check_chunk(ear, at);
		break;
	case NBD_SIMPLE_MAGIC:
		check_simple(ear, at);
		break;
	case 0: /* EXPORT_NAME's: the disk's size has nothing before it */
		ear->lost = true;
		break;
	default:
		assert(!"a reply without its magic");
	}
	if (ear->have == 0)
		ear->need = 4;
}

static void
check_heard(struct ear *ear, const unsigned char *heard, size_t length)
{
	while (length > 0 && !ear->lost) {
		size_t part = ear->skip > 0 ? ear->skip : ear->need - ear->have;

		if (part > length)
			part = length;
		if (ear->skip > 0) {
			ear->skip -= part;
		} else {
			memcpy(ear->head + ear->have, heard, part);
			ear->have += part;
			if (ear->have == ear->need)
				check_head(ear);
		}
		heard += part;
		length -= part;
	}
}

/* False at the end. */
static bool
hear(int fd, struct ear *ear)
{
	static unsigned char heard[128 << 10];
	ssize_t n = recv(fd, heard, sizeof(heard), 0);

	if (n > 0)
		check_heard(ear, heard, (size_t)n);
	return n > 0 || (n < 0 && errno == EAGAIN);
}

/* --- a session --- */

static void
turn(uint64_t wait_ns)
{
	if (loop_turn(loop, wait_ns) < 0)
		abort();
}

static void
talk(int fd, uint8_t how, const char *said, size_t length)
{
	struct ear ear = { .need = NBD_GREETING_BYTES };
	size_t piece = how & HOW_PIECES ? 1 + length / 16 : length;
	bool there = true;

	for (int i = 0; i < TURNS_MAX && there && length > 0; i++) {
		ssize_t n = send(fd, said, piece < length ? piece : length,
				 MSG_NOSIGNAL);

		if (n > 0) {
			said += n;
			length -= (size_t)n;
		}
		turn(0);
		if (!(how & HOW_DEAF))
			there = hear(fd, &ear);
		else if (n < 0)
			return; /* as it does not hear, neither do we */
	}
	assert(!there || length == 0);
	if (how & HOW_DEAF)
		return;
	(void)shutdown(fd, SHUT_WR);
	for (int i = 0; i < WAITS_MAX && there; i++) {
		turn(NS_PER_MS);
		there = hear(fd, &ear);
	}
	assert(!there); /* the server hangs up, too */
	assert(ear.lost || ear.skip == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char said[SAID_MAX];
	struct nbd_server *server;
	int fds[2];

	if (size == 0)
		return 0;
	if (loop == NULL)
		make_world();
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 ||
	    fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0)
		abort();
	server = servers[data[0] & HOW_READ_ONLY ? 1 : 0];
	nbd_server_adopt(server, fds[1]);
	talk(fds[0], data[0], said,
	     put_said(said, data[0], data + 1, size - 1));
	(void)close(fds[0]);
	for (int i = 0; i < WAITS_MAX && nbd_server_clients(server) > 0; i++)
		turn(NS_PER_MS);
	assert(nbd_server_clients(server) == 0);
	assert(vbd_pending(vbd) == 0 && pool_in_use(pool) == 0);
	return 0;
}
