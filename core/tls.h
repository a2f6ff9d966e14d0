/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls - TLS credentials, as qemu-nbd and nbdkit name them (GnuTLS).
 *
 * x509: a directory with ca-cert.pem, server-cert.pem, server-key.pem (server)
 * or ca-cert.pem, client-cert.pem, client-key.pem (client; the pair optional).
 * psk: a file of lines "user:hexkey" (psktool).
 * key: the bytes of one key, shared by two programs of ours: TLS 1.3 only, and
 * always with an ephemeral exchange, so that the key opens no old recording.
 *
 * TLS 1.2 and 1.3.  A context may serve any number of sessions; sessions are
 * the business of core/stream alone.
 */
#ifndef CORE_TLS_H
#define CORE_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

struct reason;
struct tls_context;

struct tls_options {
	const char *certificates; /* directory; NULL without x509 */
	const char *psk;	  /* file; NULL without PSK */
	const char *psk_user;	  /* client only */
	const unsigned char *key; /* copied; NULL without */
	size_t key_length;
	bool server;
	bool verify_peer; /* server, x509: ask for and check client's */
};

/* Exactly one of certificates, psk and key.  NULL and a reason on failure. */
struct tls_context *tls_context_new(const struct tls_options *options,
				    struct reason *reason);
struct tls_context *tls_context_free(struct tls_context *context);

/* --- for core/stream --- */

struct tls_session;

/* Over the connected non-blocking socket `fd`, borrowed; so is `context`.
 * `host` (client, x509) is whom the certificate must name; NULL: anybody whom
 * the authority signed for. */
struct tls_session *tls_session_new(const struct tls_context *context, int fd,
				    const char *host, struct reason *reason);

/* Says goodbye if it can without waiting. */
struct tls_session *tls_session_free(struct tls_session *session);

/* 0 when done; -EAGAIN: again when the socket is ready, to be written if
 * tls_session_wants_write(); or a negative errno and a reason: -EACCES for a
 * certificate or a key that is not the right one, -EPROTONOSUPPORT for a peer
 * whose first bytes are not TLS. */
int tls_session_handshake(struct tls_session *session, struct reason *reason);
bool tls_session_wants_write(const struct tls_session *session);

/* As recv() and sendmsg(), with negative errnos.  After -EAGAIN the bytes that
 * are sent next must begin with the same ones. */
ssize_t tls_session_receive(struct tls_session *session, void *buf,
			    size_t length);
ssize_t tls_session_send(struct tls_session *session, const struct iovec *iov,
			 unsigned int count);

/* Bytes that both ends of this connection alone can compute (RFC 5705, RFC 8446
 * section 7.5), for a protocol inside to bind a proof to it. */
int tls_session_export(struct tls_session *session, const char *label,
		       void *ret_bytes, size_t length);

/* Bytes that came are held in the session: the socket may not tell of them. */
bool tls_session_has_more(const struct tls_session *session);

#endif
