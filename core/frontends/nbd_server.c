/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd_server - the server as a whole: its listeners, its clients, its end, and
 * what it tells of itself.  See nbd.h.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/frontends/nbd_client.h"
#include "core/log.h"

static void
on_accept(struct listener *listener, int fd)
{
	nbd_server_adopt(
		container_of(listener, struct nbd_listener, listener)->server,
		fd);
}

void
nbd_server_adopt(struct nbd_server *server, int fd)
{
	int r;

	if (server->closing || server->client_count >= server->clients_max) {
		server->refused++;
		log_warn("nbd", "a client was turned away: %s",
			 server->closing ? "the server is closing"
					 : "too many are connected");
		(void)close(fd);
		return;
	}
	r = nbd_client_new(server, fd);
	if (r < 0) {
		server->refused++;
		log_warn("nbd", "cannot serve a client: %s", strerror(-r));
		return;
	}
	server->accepted++;
}

/* --- closing --- */

static void
close_listeners(struct nbd_server *server)
{
	for (unsigned int i = 0; i < server->listener_count; i++)
		listener_close(&server->listeners[i].listener);
	server->listener_count = 0;
}

void
nbd_server_quiesce(struct nbd_server *server)
{
	struct nbd_client *client;

	server->closing = true;
	close_listeners(server);
	list_for_each_entry (client, &server->clients, entry)
		nbd_client_finish(client);
}

unsigned int
nbd_server_clients(const struct nbd_server *server)
{
	return server->client_count;
}

void
nbd_server_drop_clients(struct nbd_server *server)
{
	struct nbd_client *client;

	list_for_each_entry (client, &server->clients, entry)
		nbd_client_end(client);
}

/* The disk is no longer for guests, on this host: see td_set_service(). */
static void
on_vbd_change(struct vbd_listener *listener)
{
	struct nbd_server *server =
		container_of(listener, struct nbd_server, vbd_listener);
	struct reason reason;

	if (server->client_count > 0 && vbd_state(server->vbd) == VBD_RUNNING &&
	    vbd_admits(server->vbd, &reason) < 0) {
		log_warn("nbd", "clients are sent away: %s", reason.text);
		nbd_server_drop_clients(server);
	}
}

/* --- birth and death --- */

static int
add_export(struct nbd_server *server, const char *name, struct reason *reason)
{
	if (strlen(name) > NBD_NAME_MAX)
		return reason_set(reason, -ENAMETOOLONG,
				  "NBD: the export name %.32s... is longer "
				  "than %d bytes",
				  name, NBD_NAME_MAX);
	if (server->export_count == NBD_EXPORTS_MAX)
		return reason_set(reason, -E2BIG,
				  "NBD: more than %d export names",
				  NBD_EXPORTS_MAX);
	server->exports[server->export_count] = strdup(name);
	if (server->exports[server->export_count] == NULL)
		return reason_set(reason, -ENOMEM, "NBD: no memory");
	server->export_count++;
	return 0;
}

static int
add_listener(struct nbd_server *server, const char *address,
	     const struct nbd_options *options, struct reason *reason)
{
	struct nbd_listener *listener;
	int r;

	if (server->listener_count == NBD_LISTENERS_MAX)
		return reason_set(reason, -E2BIG,
				  "NBD: more than %d addresses to listen on",
				  NBD_LISTENERS_MAX);
	listener = &server->listeners[server->listener_count];
	listener->server = server;
	r = listener_open(&listener->listener, server->loop, address,
			  options->mode, options->group, on_accept, reason);
	if (r == 0)
		server->listener_count++;
	return r;
}

static int
set_up(struct nbd_server *server, const struct nbd_options *options,
       struct reason *reason)
{
	int r = 0;

	if ((options->tls == NBD_TLS_OFF) != (options->tls_context == NULL))
		return reason_set(reason, -EINVAL,
				  "NBD: TLS needs certificates or keys, and "
				  "they need TLS to be on or required");
	if (server->clients_max > NBD_CLIENTS_MAX)
		return reason_set(reason, -EINVAL,
				  "NBD: at most %d clients can be served",
				  NBD_CLIENTS_MAX);
	if (options->description != NULL) {
		if (strlen(options->description) > NBD_NAME_MAX)
			return reason_set(reason, -ENAMETOOLONG,
					  "NBD: the description is longer than "
					  "%d bytes",
					  NBD_NAME_MAX);
		server->description = strdup(options->description);
		if (server->description == NULL)
			return reason_set(reason, -ENOMEM, "NBD: no memory");
	}
	for (const char *const *name = options->exports;
	     name != NULL && *name != NULL && r == 0; name++)
		r = add_export(server, *name, reason);
	if (r == 0 && server->export_count == 0)
		r = add_export(server, "", reason);
	for (const char *const *address = options->listen;
	     address != NULL && *address != NULL && r == 0; address++)
		r = add_listener(server, *address, options, reason);
	return r;
}

struct nbd_server *
nbd_server_new(struct loop *loop, struct vbd *vbd, struct pool *pool,
	       const struct nbd_options *options, struct reason *reason)
{
	struct nbd_server *server = calloc(1, sizeof(*server));

	if (server == NULL) {
		(void)reason_set(reason, -ENOMEM, "NBD: no memory");
		return NULL;
	}
	server->loop = loop;
	server->vbd = vbd;
	server->pool = pool;
	server->read_only = options->read_only;
	server->tls = options->tls;
	server->tls_context = options->tls_context;
	server->clients_max =
		options->clients_max > 0 ? options->clients_max : NBD_CLIENTS;
	server->handshake_ns = options->handshake_ns > 0
				       ? options->handshake_ns
				       : NBD_HANDSHAKE_S * NS_PER_S;
	server->stall_ns = options->stall_ns > 0 ? options->stall_ns
						 : NBD_STALL_S * NS_PER_S;
	INIT_LIST_HEAD(&server->clients);
	server->vbd_listener.on_change = on_vbd_change;
	vbd_listen(vbd, &server->vbd_listener);
	if (set_up(server, options, reason) < 0)
		return nbd_server_free(server);
	return server;
}

struct nbd_server *
nbd_server_free(struct nbd_server *server)
{
	struct nbd_client *client, *spare;

	if (server == NULL)
		return NULL;
	vbd_unlisten(&server->vbd_listener);
	close_listeners(server);
	list_for_each_entry_safe (client, spare, &server->clients, entry) {
		nbd_client_end(client);
		nbd_client_free(client);
	}
	for (unsigned int i = 0; i < server->export_count; i++)
		free(server->exports[i]);
	free(server->description);
	free(server);
	return NULL;
}

/* --- what it tells --- */

const char *
nbd_server_address(const struct nbd_server *server, unsigned int i)
{
	return i < server->listener_count ? server->listeners[i].listener.name
					  : NULL;
}

static json_t *
client_json(const struct nbd_client *client)
{
	bool chosen = client->phase >= NBD_TRANSMISSION;

	return json_pack("{s:i, s:s, s:s*, s:b, s:i, s:I, s:I, s:I}", "id",
			 (int)client->id, "peer", client->peer, "export",
			 chosen ? client->server->exports[client->export]
				: NULL,
			 "tls", client->tls, "in_flight", (int)client->busy,
			 "buffers", (json_int_t)client->held, "bytes_in",
			 (json_int_t)client->stream.bytes_in, "bytes_out",
			 (json_int_t)client->stream.bytes_out);
}

json_t *
nbd_server_json(const struct nbd_server *server)
{
	static const char *const tls[] = { [NBD_TLS_OFF] = "off",
					   [NBD_TLS_ON] = "on",
					   [NBD_TLS_REQUIRE] = "require" };
	json_t *listen = json_array(), *exports = json_array();
	json_t *clients = json_array();
	const struct nbd_client *client;

	for (unsigned int i = 0; i < server->listener_count; i++)
		(void)json_array_append_new(
			listen, json_string(nbd_server_address(server, i)));
	for (unsigned int i = 0; i < server->export_count; i++)
		(void)json_array_append_new(exports,
					    json_string(server->exports[i]));
	list_for_each_entry (client, &server->clients, entry)
		(void)json_array_append_new(clients, client_json(client));
	return json_pack("{s:o, s:o, s:b, s:s, s:i, s:o, s:I, s:I, s:o}",
			 "listen", listen, "exports", exports, "read_only",
			 server->read_only, "tls", tls[server->tls],
			 "clients_max", (int)server->clients_max, "clients",
			 clients, "accepted", (json_int_t)server->accepted,
			 "refused", (json_int_t)server->refused, "stats",
			 stats_json(&server->stats));
}
