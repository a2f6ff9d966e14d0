/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frontend_nbd.c - the NBD server as a row of the daemon's frontends: from
 * options to a server, and from its addresses to URIs (the NBD project's
 * doc/uri.md).
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/frontends/nbd.h"
#include "core/tls.h"
#include "tools/tapdisk/daemon.h"
#include "tools/tapdisk/frontend.h"
#include "tools/tapdisk/options.h"

struct frontend_nbd {
	struct daemon *daemon;		/* borrowed */
	struct tls_context *tls;	/* owned; NULL without TLS */
	struct nbd_server *server;	/* owned */
	char own[RUN_DIR_PATH_MAX + 5]; /* our address if none was asked for */
};

static void
nbd_free(void *server)
{
	struct frontend_nbd *nbd = server;

	nbd_server_free(nbd->server);
	tls_context_free(nbd->tls);
	free(nbd);
}

static int
open_tls(struct frontend_nbd *nbd, struct reason *reason)
{
	const struct options *options = nbd->daemon->options;
	struct tls_options tls = {
		.certificates = options->tls_certificates,
		.psk = options->tls_psk,
		.server = true,
		.verify_peer = options->tls_verify_peer,
	};

	if (options->tls == OPTIONS_TLS_OFF)
		return 0;
	nbd->tls = tls_context_new(&tls, reason);
	return nbd->tls ? 0 : -EINVAL;
}

/* nbdPID.MINOR in the run directory, as toolstacks look for it. */
static int
own_address(struct frontend_nbd *nbd, struct reason *reason)
{
	const struct daemon *daemon = nbd->daemon;
	char path[RUN_DIR_PATH_MAX];
	int r;

	if (daemon->minor == RUN_DIR_NO_MINOR)
		r = run_dir_path(path, daemon->options->run_dir, reason,
				 "nbd%d", (int)getpid());
	else
		r = run_dir_path(path, daemon->options->run_dir, reason,
				 "nbd%d.%d", (int)getpid(), daemon->minor);
	if (r == 0)
		snprintf(nbd->own, sizeof(nbd->own), "unix:%s", path);
	return r;
}

static enum nbd_tls
nbd_tls(enum options_tls tls)
{
	switch (tls) {
	case OPTIONS_TLS_OFF:
		return NBD_TLS_OFF;
	case OPTIONS_TLS_ON:
		return NBD_TLS_ON;
	case OPTIONS_TLS_REQUIRE:
		return NBD_TLS_REQUIRE;
	}
	return NBD_TLS_REQUIRE;
}

static const char *
export_name(const struct daemon *daemon)
{
	return daemon->options->nbd_export ? daemon->options->nbd_export
					   : daemon->name;
}

static int
open_server(struct frontend_nbd *nbd, struct reason *reason)
{
	const struct options *options = nbd->daemon->options;
	const char *listen[OPTIONS_ADDRESSES_MAX + 1] = { nbd->own };
	const char *exports[] = { export_name(nbd->daemon), NULL };
	struct nbd_options server = {
		.listen = listen,
		.exports = exports,
		.description = nbd->daemon->name,
		.read_only = options->read_only,
		.tls = nbd_tls(options->tls),
		.tls_context = nbd->tls,
		.mode = options->group >= 0 ? 0660 : 0600,
		.group = options->group,
	};
	int i;

	for (i = 0; i < options->nbd_count; i++)
		listen[i] = options->nbd[i];
	nbd->server = nbd_server_new(nbd->daemon->loop, nbd->daemon->vbd,
				     nbd->daemon->pool, &server, reason);
	return nbd->server ? 0 : -EIO;
}

static void *
nbd_open(struct daemon *daemon, struct reason *reason)
{
	struct frontend_nbd *nbd = calloc(1, sizeof(*nbd));
	int r;

	if (!nbd) {
		reason_set(reason, -ENOMEM, "out of memory");
		return NULL;
	}
	nbd->daemon = daemon;
	r = daemon->options->nbd_count > 0 ? 0 : own_address(nbd, reason);
	if (r == 0)
		r = open_tls(nbd, reason);
	if (r == 0)
		r = open_server(nbd, reason);
	if (r < 0) {
		nbd_free(nbd);
		return NULL;
	}
	return nbd;
}

static void
nbd_quiesce(void *server)
{
	struct frontend_nbd *nbd = server;

	nbd_server_quiesce(nbd->server);
}

static unsigned int
nbd_clients(void *server)
{
	const struct frontend_nbd *nbd = server;

	return nbd_server_clients(nbd->server);
}

/* What a path or name must not hold in a URI becomes %XX (RFC 3986). */
static void
append_escaped(char *uri, size_t size, const char *text)
{
	size_t length = strlen(uri);

	for (; *text && length + 4 < size; text++) {
		bool plain = strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "abcdefghijklmnopqrstuvwxyz"
				    "0123456789-._~/",
				    *text) != NULL;

		length += (size_t)snprintf(uri + length, size - length,
					   plain ? "%c" : "%%%02X",
					   (unsigned char)*text);
	}
}

static json_t *
uri_of(const struct frontend_nbd *nbd, const char *address)
{
	const char *s = nbd->tls ? "s" : "";
	char uri[2048] = "";

	if (strncmp(address, "unix:", 5) == 0) {
		snprintf(uri, sizeof(uri), "nbd%s+unix:///", s);
		append_escaped(uri, sizeof(uri), export_name(nbd->daemon));
		strncat(uri, "?socket=", sizeof(uri) - strlen(uri) - 1);
		append_escaped(uri, sizeof(uri), address + 5);
	} else {
		snprintf(uri, sizeof(uri), "nbd%s://%s/", s, address + 4);
		append_escaped(uri, sizeof(uri), export_name(nbd->daemon));
	}
	return json_string(uri);
}

static json_t *
nbd_json(void *server)
{
	struct frontend_nbd *nbd = server;
	json_t *object = nbd_server_json(nbd->server), *uris = json_array();
	const char *address;
	unsigned int i;

	for (i = 0; (address = nbd_server_address(nbd->server, i)); i++)
		json_array_append_new(uris, uri_of(nbd, address));
	json_object_set_new(object, "addresses", uris);
	return object;
}

const struct frontend frontend_nbd = {
	.name = "nbd",
	.open = nbd_open,
	.quiesce = nbd_quiesce,
	.clients = nbd_clients,
	.free = nbd_free,
	.json = nbd_json,
};
