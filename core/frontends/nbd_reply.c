/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd_reply - replies to commands, see nbd_client.h.
 *
 * A client that negotiated structured replies gets them for reads (one chunk
 * with all the data), for block status, and for every error, with words.  All
 * else is a simple reply, which is shorter and allowed.
 */
#include <errno.h>
#include <stdio.h>

#include "core/frontends/nbd_client.h"

static uint32_t
wire_error(int error)
{
	switch (-error) {
	case EPERM:
	case EROFS:
		return NBD_EPERM;
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
		return NBD_EINVAL;
	case ENOSPC:
	case EFBIG:
	case EDQUOT:
		return NBD_ENOSPC;
	case EOVERFLOW:
		return NBD_EOVERFLOW;
	case EOPNOTSUPP:
		return NBD_ENOTSUP;
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}

static void
on_sent(struct stream_send *send, int error)
{
	struct nbd_slot *slot = container_of(send, struct nbd_slot, send);

	if (error < 0)
		nbd_client_end(slot->client);
	nbd_slot_drop_hold(slot);
}

static void
add(struct nbd_slot *slot, void *data, size_t length)
{
	slot->send.iov[slot->send.iov_count].iov_base = data;
	slot->send.iov[slot->send.iov_count].iov_len = length;
	slot->send.iov_count++;
}

static char *
put_chunk(const struct nbd_slot *slot, char *at, uint16_t type, size_t length)
{
	nbd_put32(&at, NBD_STRUCTURED_MAGIC);
	nbd_put16(&at, NBD_REPLY_FLAG_DONE);
	nbd_put16(&at, type);
	nbd_put64(&at, slot->cookie);
	nbd_put32(&at, (uint32_t)length);
	return at;
}

static void
put_error(struct nbd_slot *slot, int error, const char *words)
{
	bool ranged = slot->type <= NBD_CMD_BLOCK_STATUS &&
		      slot->type != NBD_CMD_FLUSH;
	char text[NBD_TEXT_MAX];
	size_t length;
	char *at;

	if (words == NULL)
		words = error == -ETIMEDOUT ? "the disk did not answer in time"
					    : strerror(-error);
	(void)snprintf(text, sizeof(text), "%s", words);
	length = strlen(text);
	at = put_chunk(slot, slot->head,
		       ranged ? NBD_REPLY_TYPE_ERROR_OFFSET
			      : NBD_REPLY_TYPE_ERROR,
		       6 + length + (ranged ? 8 : 0));
	nbd_put32(&at, wire_error(error));
	nbd_put16(&at, (uint16_t)length);
	memcpy(at, text, length);
	at += length;
	if (ranged)
		nbd_put64(&at, slot->offset);
	add(slot, slot->head, (size_t)(at - slot->head));
}

static void
put_data(struct nbd_slot *slot)
{
	char *at = put_chunk(slot, slot->head, NBD_REPLY_TYPE_OFFSET_DATA,
			     8 + (size_t)slot->length);

	nbd_put64(&at, slot->offset);
	add(slot, slot->head, (size_t)(at - slot->head));
	add(slot, slot->buffer, (size_t)slot->length);
}

static void
put_simple(struct nbd_slot *slot, int error)
{
	char *at = slot->head;

	nbd_put32(&at, NBD_SIMPLE_MAGIC);
	nbd_put32(&at, error < 0 ? wire_error(error) : 0);
	nbd_put64(&at, slot->cookie);
	add(slot, slot->head, NBD_SIMPLE_BYTES);
	if (error == 0 && slot->type == NBD_CMD_READ)
		add(slot, slot->buffer, (size_t)slot->length);
}

void
nbd_reply(struct nbd_slot *slot, int error, const char *words)
{
	struct nbd_client *client = slot->client;

	slot->send.iov_count = 0;
	slot->send.on_done = on_sent;
	if (client->structured && error < 0)
		put_error(slot, error, words);
	else if (client->structured && slot->type == NBD_CMD_READ)
		put_data(slot);
	else if (slot->type == NBD_CMD_BLOCK_STATUS && error == 0)
		nbd_status_reply(slot);
	else
		put_simple(slot, error);
	nbd_client_expect_progress(client);
	stream_send(&client->stream, &slot->send);
}
