/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd_handshake - options on the wire, see nbd_client.h.
 *
 * Options are taken one at a time: all replies to one are gathered in
 * client->out, leave in one send, and the next option waits until they have
 * left.  So a client's haggling costs one fixed buffer, however fast it talks.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/frontends/nbd_client.h"

static void
on_replied(struct stream_send *send, int error)
{
	struct nbd_client *client =
		container_of(send, struct nbd_client, reply);

	client->replying = false;
	client->out_length = 0;
	if (client->phase == NBD_GONE)
		return;
	if (error < 0 || client->leaving) {
		nbd_client_end(client);
		return;
	}
	if (client->starting_tls) {
		struct reason reason = { "" };
		int r;

		client->starting_tls = false;
		client->phase = NBD_TLS;
		r = stream_start_tls(&client->stream,
				     client->server->tls_context, NULL,
				     &reason);
		if (r < 0)
			nbd_client_drop(client, "%s", reason_text(&reason, r));
		return;
	}
	if (client->phase == NBD_ENDING)
		task_post(&client->task);
	else
		nbd_client_run(client);
}

void
nbd_handshake_send(struct nbd_client *client)
{
	assert(!client->replying && client->out_length > 0);
	client->replying = true;
	client->reply.iov[0].iov_base = client->out;
	client->reply.iov[0].iov_len = client->out_length;
	client->reply.iov_count = 1;
	client->reply.on_done = on_replied;
	stream_send(&client->stream, &client->reply);
}

void
nbd_greet(struct nbd_client *client)
{
	char *at = client->out;

	nbd_put64(&at, NBD_MAGIC);
	nbd_put64(&at, NBD_OPTION_MAGIC);
	nbd_put16(&at, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	client->out_length = NBD_GREETING_BYTES;
	nbd_handshake_send(client);
}

void
nbd_option_reply(struct nbd_client *client, uint32_t option, uint32_t type,
		 const void *data, size_t length)
{
	char *at = client->out + client->out_length;

	assert(client->out_length + NBD_REPLY_BYTES + length <= NBD_OUT_BYTES);
	nbd_put64(&at, NBD_REPLY_MAGIC);
	nbd_put32(&at, option);
	nbd_put32(&at, type);
	nbd_put32(&at, (uint32_t)length);
	if (length > 0)
		memcpy(at, data, length);
	client->out_length += NBD_REPLY_BYTES + length;
}

void
nbd_option_refuse(struct nbd_client *client, uint32_t option, uint32_t type,
		  const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	nbd_option_reply(client, option, type, text, strlen(text));
}

static void
take_client_flags(struct nbd_client *client)
{
	const char *at = nbd_client_bytes(client);
	uint32_t flags = nbd_get32(&at);

	client->in_begin += sizeof(flags);
	if ((flags & ~(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)) !=
	    0) {
		nbd_client_drop(client, "unknown client flags 0x%x", flags);
		return;
	}
	client->no_zeroes = (flags & NBD_FLAG_C_NO_ZEROES) != 0;
	client->phase = NBD_OPTIONS;
}

/* Too much data for any option: refuse it and look the other way until it has
 * gone by. */
static void
take_oversized(struct nbd_client *client, uint32_t option, uint32_t length)
{
	if (length > NBD_SKIP_MAX || option == NBD_OPT_EXPORT_NAME) {
		nbd_client_drop(client, "option %u with %u bytes of data",
				option, length);
		return;
	}
	client->in_begin += NBD_OPTION_BYTES;
	client->skip = length;
	nbd_option_refuse(client, option, NBD_REP_ERR_TOO_BIG,
			  "%u bytes of data are more than the %u allowed",
			  length, NBD_OPTION_MAX);
}

/* One option, if it is all there. */
static size_t
take_option(struct nbd_client *client)
{
	const char *at = nbd_client_bytes(client);
	size_t have = nbd_client_available(client);
	uint64_t magic;
	uint32_t option, length;

	if (have < NBD_OPTION_BYTES)
		return NBD_OPTION_BYTES;
	magic = nbd_get64(&at);
	option = nbd_get32(&at);
	length = nbd_get32(&at);
	if (magic != NBD_OPTION_MAGIC) {
		nbd_client_drop(client, "it does not speak NBD");
		return 0;
	}
	if (length > NBD_OPTION_MAX) {
		take_oversized(client, option, length);
	} else {
		if (have < NBD_OPTION_BYTES + length)
			return NBD_OPTION_BYTES + length;
		client->in_begin += NBD_OPTION_BYTES + length;
		nbd_option_take(client, option, at, length);
	}
	if (client->phase != NBD_GONE && client->out_length > 0)
		nbd_handshake_send(client);
	return 0;
}

size_t
nbd_handshake_take(struct nbd_client *client)
{
	if (client->phase == NBD_OPTIONS)
		return client->replying ? 0 : take_option(client);
	if (nbd_client_available(client) < sizeof(uint32_t))
		return sizeof(uint32_t);
	take_client_flags(client);
	return 0;
}
