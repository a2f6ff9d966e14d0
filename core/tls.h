/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls - TLS credentials, as qemu-nbd and nbdkit name them (GnuTLS).
 *
 * x509: a directory with ca-cert.pem, server-cert.pem, server-key.pem (server)
 * or ca-cert.pem, client-cert.pem, client-key.pem (client; the pair optional).
 * psk: a file of lines "user:hexkey" (psktool).
 */
#ifndef CORE_TLS_H
#define CORE_TLS_H

#include <stdbool.h>

struct reason;
struct tls_context;

struct tls_options {
	const char *certificates; /* directory; NULL without x509 */
	const char *psk;	  /* file; NULL without PSK */
	const char *psk_user;	  /* client only */
	bool server;
	bool verify_peer; /* server, x509: ask for and check client's */
};

/* Exactly one of certificates and psk.  NULL and a reason on failure. */
struct tls_context *tls_context_new(const struct tls_options *options,
				    struct reason *reason);
struct tls_context *tls_context_free(struct tls_context *context);

#endif
