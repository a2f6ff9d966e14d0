/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd_status - metadata contexts and block status, see nbd_client.h.
 *
 * There is one context, base:allocation; its flags are TD_EXTENT_* as they
 * are.  All contexts of a reply cover the same length: there are clients that
 * walk by one of them and use the others.
 */
#include <assert.h>
#include <errno.h>

#include "core/frontends/nbd_client.h"

static const struct {
	const char *name;
	unsigned int bit; /* and the id on the wire */
} contexts[] = {
	{ "base:allocation", NBD_CONTEXT_ALLOCATION },
};
#define CONTEXTS (sizeof(contexts) / sizeof(contexts[0]))

_Static_assert(TD_EXTENT_HOLE == 1 && TD_EXTENT_ZERO == 2,
	       "the flags of base:allocation");

/* The contexts that a query names; of LIST a namespace alone names all of its
 * contexts.  Unknown ones name none. */
static unsigned int
find(const char *query, size_t length, bool list)
{
	unsigned int found = 0;

	for (unsigned int i = 0; i < CONTEXTS; i++) {
		const char *name = contexts[i].name;
		size_t space = (size_t)(strchr(name, ':') + 1 - name);
		bool equal = length == strlen(name) &&
			     memcmp(query, name, length) == 0;

		if (equal || (list && length == space &&
			      memcmp(query, name, length) == 0))
			found |= contexts[i].bit;
	}
	return found;
}

/* Queries up to the end of the data; false if they do not fit. */
static bool
take_queries(const char *data, size_t length, uint32_t count, bool list,
	     unsigned int *ret_found)
{
	unsigned int found = 0;

	for (uint32_t i = 0; i < count; i++) {
		const char *query = NULL;
		size_t query_length = 0;

		if (!nbd_option_string(&data, &length, &query, &query_length))
			return false;
		found |= find(query, query_length, list);
	}
	*ret_found = found;
	return length == 0;
}

static void
tell_contexts(struct nbd_client *client, uint32_t option, unsigned int found,
	      bool list)
{
	for (unsigned int i = 0; i < CONTEXTS; i++) {
		char data[4 + 64], *at = data;
		size_t length = strlen(contexts[i].name);

		if (!(found & contexts[i].bit))
			continue;
		assert(length <= sizeof(data) - 4);
		nbd_put32(&at, list ? 0 : contexts[i].bit);
		memcpy(at, contexts[i].name, length);
		nbd_option_reply(client, option, NBD_REP_META_CONTEXT, data,
				 4 + length);
	}
	nbd_option_reply(client, option, NBD_REP_ACK, NULL, 0);
}

void
nbd_contexts_take(struct nbd_client *client, uint32_t option, const char *data,
		  size_t length)
{
	const bool list = option == NBD_OPT_LIST_META_CONTEXT;
	const char *name = NULL;
	size_t name_length = 0;
	unsigned int found = 0;
	uint32_t count = 0;
	int export;

	if (!list)
		client->contexts = 0; /* also when this fails */
	if (!client->structured) {
		nbd_option_refuse(client, option, NBD_REP_ERR_INVALID,
				  "negotiate structured replies first");
		return;
	}
	if (nbd_option_string(&data, &length, &name, &name_length) &&
	    length >= sizeof(count)) {
		count = nbd_get32(&data);
		length -= sizeof(count);
	} else {
		name = NULL;
	}
	if (name == NULL || !take_queries(data, length, count, list, &found)) {
		nbd_option_refuse(client, option, NBD_REP_ERR_INVALID,
				  "the queries do not fit the option");
		return;
	}
	export = nbd_export_find(client->server, name, name_length);
	if (export < 0) {
		nbd_option_refuse(client, option, NBD_REP_ERR_UNKNOWN,
				  "there is no export \"%.*s\" here",
				  (int)(name_length < 64 ? name_length : 64),
				  name);
		return;
	}
	if (list && count == 0)
		found = ~0u;
	if (!list) {
		client->contexts = found;
		client->context_export = export;
	}
	tell_contexts(client, option, found, list);
}

/* The descriptors of base:allocation; returns how many bytes of the disk they
 * cover. */
static uint64_t
put_extents(const struct nbd_slot *slot, char **at)
{
	const struct td_extents *extents = slot->request.extents;
	int max = slot->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : TD_EXTENTS_MAX;
	uint64_t covered = 0;

	for (int i = 0; i < extents->count && i < max; i++) {
		uint64_t length = extents->extent[i].secs << SECTOR_SHIFT;

		if (length > slot->length - covered)
			length = slot->length - covered;
		if (length == 0)
			break;
		nbd_put32(at, (uint32_t)length);
		nbd_put32(at, extents->extent[i].flags);
		covered += length;
	}
	return covered;
}

void
nbd_status_reply(struct nbd_slot *slot)
{
	char *head = slot->buffer + sizeof(struct td_extents);
	char *body = head + NBD_STRUCTURED_BYTES;
	char *at = body;

	nbd_put32(&at, NBD_CONTEXT_ALLOCATION);
	if (put_extents(slot, &at) == 0) { /* nothing is known: it is data */
		nbd_put32(&at, (uint32_t)slot->length);
		nbd_put32(&at, 0);
	}
	assert((size_t)(at - slot->buffer) <= NBD_STATUS_BYTES);
	slot->send.iov[0].iov_base = head;
	slot->send.iov[0].iov_len = (size_t)(at - head);
	slot->send.iov_count = 1;
	nbd_put32(&head, NBD_STRUCTURED_MAGIC);
	nbd_put16(&head, NBD_REPLY_FLAG_DONE);
	nbd_put16(&head, NBD_REPLY_TYPE_BLOCK_STATUS);
	nbd_put64(&head, slot->cookie);
	nbd_put32(&head, (uint32_t)(at - body));
}
