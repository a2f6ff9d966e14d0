/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd_options - what each option of the handshake does, see nbd_client.h.
 *
 * Where TLS is required nothing but STARTTLS and ABORT is heard before it:
 * a name that is refused, or not, would tell too much already.
 */
#include <assert.h>
#include <stdio.h>

#include "core/frontends/nbd_client.h"
#include "core/log.h"

int
nbd_export_find(const struct nbd_server *server, const char *name,
		size_t length)
{
	if (length == 0)
		return 0;
	for (unsigned int i = 0; i < server->export_count; i++) {
		if (strlen(server->exports[i]) == length &&
		    memcmp(server->exports[i], name, length) == 0)
			return (int)i;
	}
	return -1;
}

/* In whole sectors. */
uint64_t
nbd_export_size(const struct nbd_server *server)
{
	uint64_t size = vbd_size(server->vbd);
	unsigned int sector = vbd_sector_size(server->vbd);

	return sector > 0 ? size - size % sector : 0;
}

static uint16_t
export_flags(const struct nbd_client *client)
{
	const struct vbd *vbd = client->server->vbd;
	uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH |
			 NBD_FLAG_SEND_FUA | NBD_FLAG_CAN_MULTI_CONN |
			 NBD_FLAG_SEND_CACHE;

	if (client->structured)
		flags |= NBD_FLAG_SEND_DF;
	if (client->server->read_only || vbd_is_read_only(vbd))
		return flags | NBD_FLAG_READ_ONLY;
	if (vbd_can(vbd, TD_OP_DISCARD))
		flags |= NBD_FLAG_SEND_TRIM;
	if (vbd_can(vbd, TD_OP_WRITE_ZEROES))
		flags |= NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	return flags;
}

bool
nbd_option_string(const char **data, size_t *length, const char **string,
		  size_t *string_length)
{
	uint32_t n;

	if (*length < sizeof(n))
		return false;
	n = nbd_get32(data);
	*length -= sizeof(n);
	if (n > *length || n > NBD_STRING_MAX)
		return false;
	*string = *data;
	*string_length = n;
	*data += n;
	*length -= n;
	return true;
}

static void
begin_transmission(struct nbd_client *client, int export)
{
	client->export = export;
	if (client->context_export != export)
		client->contexts = 0; /* they were set for another */
	log_info("nbd", "client %u (%s) uses export \"%s\"%s", client->id,
		 client->peer, client->server->exports[export],
		 client->tls ? " over TLS" : "");
	nbd_transmission_begin(client);
}

static void
take_export_name(struct nbd_client *client, const char *name, size_t length)
{
	int export = nbd_export_find(client->server, name, length);
	struct reason reason = { "" };
	char *at = client->out;

	/* this option knows no replies: who is refused is cut off */
	if (client->server->tls == NBD_TLS_REQUIRE && !client->tls) {
		nbd_client_drop(client, "TLS is required");
		return;
	}
	if (export < 0 || vbd_admits(client->server->vbd, &reason) < 0) {
		nbd_client_drop(client, "it asks for export \"%.*s\": %s",
				(int)(length < 64 ? length : 64), name,
				export < 0 ? "there is none" : reason.text);
		return;
	}
	nbd_put64(&at, nbd_export_size(client->server));
	nbd_put16(&at, export_flags(client));
	client->out_length = NBD_EXPORT_BYTES;
	if (!client->no_zeroes) {
		memset(at, 0, NBD_EXPORT_ZEROES);
		client->out_length += NBD_EXPORT_ZEROES;
	}
	begin_transmission(client, export);
}

static void
take_list(struct nbd_client *client, size_t length)
{
	const struct nbd_server *server = client->server;
	char data[4 + 2 * NBD_NAME_MAX];

	if (length > 0) {
		nbd_option_refuse(client, NBD_OPT_LIST, NBD_REP_ERR_INVALID,
				  "LIST takes no data");
		return;
	}
	for (unsigned int i = 0; i < server->export_count; i++) {
		size_t name = strlen(server->exports[i]);
		size_t words = server->description != NULL
				       ? strlen(server->description)
				       : 0;
		char *at = data;

		nbd_put32(&at, (uint32_t)name);
		memcpy(at, server->exports[i], name);
		if (words > 0)
			memcpy(at + name, server->description, words);
		nbd_option_reply(client, NBD_OPT_LIST, NBD_REP_SERVER, data,
				 sizeof(uint32_t) + name + words);
	}
	nbd_option_reply(client, NBD_OPT_LIST, NBD_REP_ACK, NULL, 0);
}

/* --- INFO and GO --- */

static void
tell_export(struct nbd_client *client, uint32_t option)
{
	char data[12], *at = data;

	nbd_put16(&at, NBD_INFO_EXPORT);
	nbd_put64(&at, nbd_export_size(client->server));
	nbd_put16(&at, export_flags(client));
	nbd_option_reply(client, option, NBD_REP_INFO, data, sizeof(data));
}

static void
tell_block_size(struct nbd_client *client, uint32_t option)
{
	uint32_t sector = vbd_sector_size(client->server->vbd);
	char data[14], *at = data;

	nbd_put16(&at, NBD_INFO_BLOCK_SIZE);
	nbd_put32(&at, sector);
	nbd_put32(&at,
		  sector > NBD_BLOCK_PREFERRED ? sector : NBD_BLOCK_PREFERRED);
	nbd_put32(&at, NBD_PAYLOAD_MAX);
	nbd_option_reply(client, option, NBD_REP_INFO, data, sizeof(data));
}

static void
tell_text(struct nbd_client *client, uint32_t option, uint16_t info,
	  const char *text)
{
	char data[2 + NBD_NAME_MAX], *at = data;

	nbd_put16(&at, info);
	memcpy(at, text, strlen(text));
	nbd_option_reply(client, option, NBD_REP_INFO, data, 2 + strlen(text));
}

/* Each thing once, however often it is asked for. */
static void
tell_all(struct nbd_client *client, uint32_t option, int export,
	 const char *infos, unsigned int count)
{
	const struct nbd_server *server = client->server;
	unsigned int asked = 0;

	while (count-- > 0) {
		uint16_t info = nbd_get16(&infos);

		if (info <= NBD_INFO_BLOCK_SIZE)
			asked |= 1u << info;
	}
	tell_export(client, option);
	if (asked & (1u << NBD_INFO_NAME))
		tell_text(client, option, NBD_INFO_NAME,
			  server->exports[export]);
	if ((asked & (1u << NBD_INFO_DESCRIPTION)) &&
	    server->description != NULL)
		tell_text(client, option, NBD_INFO_DESCRIPTION,
			  server->description);
	if (asked & (1u << NBD_INFO_BLOCK_SIZE))
		tell_block_size(client, option);
}

static void
take_go(struct nbd_client *client, uint32_t option, const char *data,
	size_t length)
{
	const struct nbd_server *server = client->server;
	const char *name = NULL;
	size_t name_length = 0;
	struct reason reason = { "" };
	unsigned int count;
	int export;

	if (!nbd_option_string(&data, &length, &name, &name_length) ||
	    length < 2) {
		nbd_option_refuse(client, option, NBD_REP_ERR_INVALID,
				  "the export's name does not fit the option");
		return;
	}
	count = nbd_get16(&data);
	if (length - 2 != (size_t)count * 2) {
		nbd_option_refuse(client, option, NBD_REP_ERR_INVALID,
				  "%u information requests do not fit the "
				  "option",
				  count);
		return;
	}
	export = nbd_export_find(server, name, name_length);
	if (export < 0) {
		nbd_option_refuse(client, option, NBD_REP_ERR_UNKNOWN,
				  "there is no export \"%.*s\" here: list the "
				  "exports to see their names",
				  (int)(name_length < 64 ? name_length : 64),
				  name);
		return;
	}
	if (vbd_state(server->vbd) == VBD_CLOSED) {
		nbd_option_refuse(client, option, NBD_REP_ERR_UNKNOWN,
				  "no image is open: open one with tap-ctl");
		return;
	}
	if (vbd_admits(server->vbd, &reason) < 0) {
		nbd_option_refuse(client, option, NBD_REP_ERR_POLICY, "%s",
				  reason.text);
		return;
	}
	tell_all(client, option, export, data, count);
	nbd_option_reply(client, option, NBD_REP_ACK, NULL, 0);
	if (option == NBD_OPT_GO)
		begin_transmission(client, export);
}

/* --- the others --- */

static void
take_starttls(struct nbd_client *client, size_t length)
{
	const uint32_t option = NBD_OPT_STARTTLS;

	if (length > 0) {
		nbd_option_refuse(client, option, NBD_REP_ERR_INVALID,
				  "STARTTLS takes no data");
	} else if (client->tls) {
		nbd_option_refuse(client, option, NBD_REP_ERR_INVALID,
				  "TLS has been started already");
	} else if (client->server->tls == NBD_TLS_OFF) {
		nbd_option_refuse(client, option, NBD_REP_ERR_POLICY,
				  "TLS is not set up here");
	} else if (nbd_client_available(client) > 0) {
		/* what came in the open must not count as said under TLS */
		nbd_client_drop(client, "it talks on behind STARTTLS");
	} else {
		client->starting_tls = true;
		nbd_option_reply(client, option, NBD_REP_ACK, NULL, 0);
	}
}

static void
take_structured_reply(struct nbd_client *client, size_t length)
{
	const uint32_t option = NBD_OPT_STRUCTURED_REPLY;

	if (length > 0) {
		nbd_option_refuse(client, option, NBD_REP_ERR_INVALID,
				  "STRUCTURED_REPLY takes no data");
		return;
	}
	client->structured = true;
	nbd_option_reply(client, option, NBD_REP_ACK, NULL, 0);
}

void
nbd_option_take(struct nbd_client *client, uint32_t option, const char *data,
		size_t length)
{
	if (client->server->tls == NBD_TLS_REQUIRE && !client->tls &&
	    option != NBD_OPT_EXPORT_NAME && option != NBD_OPT_ABORT &&
	    option != NBD_OPT_STARTTLS) {
		nbd_option_refuse(client, option, NBD_REP_ERR_TLS_REQD,
				  "this server speaks only under TLS: begin "
				  "with STARTTLS");
		return;
	}
	switch (option) {
	case NBD_OPT_EXPORT_NAME:
		take_export_name(client, data, length);
		break;
	case NBD_OPT_ABORT:
		client->leaving = true;
		nbd_option_reply(client, option, NBD_REP_ACK, NULL, 0);
		break;
	case NBD_OPT_LIST:
		take_list(client, length);
		break;
	case NBD_OPT_STARTTLS:
		take_starttls(client, length);
		break;
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		take_go(client, option, data, length);
		break;
	case NBD_OPT_STRUCTURED_REPLY:
		take_structured_reply(client, length);
		break;
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		nbd_contexts_take(client, option, data, length);
		break;
	default: /* a number from outside, not an enum of ours */
		nbd_option_refuse(client, option, NBD_REP_ERR_UNSUP,
				  "option %u is not known here", option);
	}
}
