/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls - see tls.h.  GnuTLS's dialect ends in this file.
 *
 * Bytes on their way out are gathered into records of at most RECORD_MAX; a
 * long vector goes without the copy.  When the socket takes no more, GnuTLS
 * keeps the record; the session remembers how many of the caller's bytes it
 * stands for and reports them when it has left.
 */
#include "core/tls.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/reason.h"

#define RECORD_MAX  16384 /* RFC 8446, section 5.1 */
#define PATH_BYTES  4096
#define PSK_LINE    1024
#define DRAIN_CALLS 16
#define FIRST_BYTES 3 /* a record's type and version */

#define VERSIONS     "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define PSK_PRIORITY VERSIONS ":+ECDHE-PSK:+DHE-PSK:+PSK"
#define KEY_PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK"
#define KEY_USER     "tapdisk" /* of a key that stands alone */

struct tls_context {
	bool server;
	bool verify_peer;
	gnutls_certificate_credentials_t x509; /* owned; NULL unless used */
	gnutls_psk_server_credentials_t psk_server;
	gnutls_psk_client_credentials_t psk_client;
	gnutls_datum_t key; /* owned; empty unless used */
};

struct tls_session {
	const struct tls_context *context; /* borrowed */
	gnutls_session_t session;
	int fd; /* borrowed */
	bool established;
	unsigned char first[FIRST_BYTES]; /* of what came */
	size_t first_length;
	size_t pending; /* bytes in the record that GnuTLS keeps */
	char record[RECORD_MAX];
};

/* --- credentials --- */

static int
gnutls_errno(int r)
{
	switch (r) {
	case GNUTLS_E_AGAIN:
	case GNUTLS_E_INTERRUPTED:
		return -EAGAIN;
	case GNUTLS_E_MEMORY_ERROR:
		return -ENOMEM;
	case GNUTLS_E_PUSH_ERROR:
		return -EPIPE;
	case GNUTLS_E_PULL_ERROR:
	case GNUTLS_E_PREMATURE_TERMINATION:
		return -ECONNRESET;
	default:
		return -EPROTO;
	}
}

static int
need_file(const char *directory, const char *name, bool optional, char *path,
	  struct reason *reason)
{
	int n = snprintf(path, PATH_BYTES, "%s/%s", directory, name);

	if (n < 0 || n >= PATH_BYTES)
		return reason_set(reason, -ENAMETOOLONG, "%s: path too long",
				  directory);
	if (access(path, R_OK) == 0)
		return 1;
	if (optional && errno == ENOENT)
		return 0;
	return reason_set(reason, -errno, "TLS: cannot read %s: %s", path,
			  strerror(errno));
}

static int
load_x509(struct tls_context *context, const char *directory,
	  struct reason *reason)
{
	const bool server = context->server;
	char ca[PATH_BYTES], cert[PATH_BYTES], key[PATH_BYTES];
	int r, have;

	r = need_file(directory, "ca-cert.pem", server && !context->verify_peer,
		      ca, reason);
	if (r < 0)
		return r;
	have = need_file(directory,
			 server ? "server-cert.pem" : "client-cert.pem",
			 !server, cert, reason);
	if (have > 0)
		have = need_file(directory,
				 server ? "server-key.pem" : "client-key.pem",
				 false, key, reason);
	if (have < 0)
		return have;
	if (gnutls_certificate_allocate_credentials(&context->x509) < 0)
		return reason_set(reason, -ENOMEM, "TLS: no memory");
	if (r > 0)
		r = gnutls_certificate_set_x509_trust_file(context->x509, ca,
							   GNUTLS_X509_FMT_PEM);
	if (r < 0)
		return reason_set(reason, -EINVAL, "TLS: %s: %s", ca,
				  gnutls_strerror(r));
	if (have > 0) {
		r = gnutls_certificate_set_x509_key_file(
			context->x509, cert, key, GNUTLS_X509_FMT_PEM);
		if (r < 0)
			return reason_set(reason, -EINVAL, "TLS: %s, %s: %s",
					  cert, key, gnutls_strerror(r));
	}
	if (server)
		(void)gnutls_certificate_set_known_dh_params(
			context->x509, GNUTLS_SEC_PARAM_MEDIUM);
	return 0;
}

/* The key of `user` in a file of psktool: the first user's if NULL. */
static int
find_key(const char *path, const char *user, char *line, char **key,
	 struct reason *reason)
{
	FILE *file = fopen(path, "re");
	int r = -ENOENT;

	if (file == NULL)
		return reason_set(reason, -errno, "TLS: cannot read %s: %s",
				  path, strerror(errno));
	while (r < 0 && fgets(line, PSK_LINE, file) != NULL) {
		char *colon = strchr(line, ':');

		if (colon == NULL)
			continue;
		*colon = '\0';
		*key = colon + 1;
		(*key)[strcspn(*key, "\r\n")] = '\0';
		if (user == NULL || strcmp(line, user) == 0)
			r = 0;
	}
	(void)fclose(file);
	if (r < 0)
		return reason_set(reason, r,
				  "TLS: %s has no key for user %s: make one "
				  "with psktool",
				  path, user != NULL ? user : "");
	return 0;
}

static int
load_psk(struct tls_context *context, const char *path, const char *user,
	 struct reason *reason)
{
	char line[PSK_LINE], *key = NULL;
	gnutls_datum_t datum;
	int r;

	/* GnuTLS reads the file at each handshake: say now if it cannot */
	r = find_key(path, context->server ? NULL : user, line, &key, reason);
	if (r < 0)
		return r;
	if (context->server) {
		r = gnutls_psk_allocate_server_credentials(
			&context->psk_server);
		if (r == 0)
			r = gnutls_psk_set_server_credentials_file(
				context->psk_server, path);
		if (r == 0)
			r = gnutls_psk_set_server_known_dh_params(
				context->psk_server, GNUTLS_SEC_PARAM_MEDIUM);
	} else {
		assert(key != NULL); /* find_key() found one */
		datum.data = (unsigned char *)key;
		datum.size = (unsigned int)strlen(key);
		r = gnutls_psk_allocate_client_credentials(
			&context->psk_client);
		if (r == 0)
			r = gnutls_psk_set_client_credentials(
				context->psk_client, line, &datum,
				GNUTLS_PSK_KEY_HEX);
	}
	gnutls_memset(line, 0, sizeof(line));
	if (r < 0)
		return reason_set(reason, -EINVAL, "TLS: %s: %s", path,
				  gnutls_strerror(r));
	return 0;
}

static int
on_user(gnutls_session_t session, const char *user, gnutls_datum_t *ret_key)
{
	const struct tls_session *owner = gnutls_session_get_ptr(session);
	const gnutls_datum_t *key = &owner->context->key;

	if (strcmp(user, KEY_USER) != 0)
		return -1;
	ret_key->data = gnutls_malloc(key->size);
	if (ret_key->data == NULL)
		return -1;
	memcpy(ret_key->data, key->data, key->size);
	ret_key->size = key->size;
	return 0;
}

static int
take_key(struct tls_context *context, const unsigned char *key, size_t length,
	 struct reason *reason)
{
	int r = GNUTLS_E_MEMORY_ERROR;

	context->key.data = malloc(length);
	if (context->key.data != NULL) {
		memcpy(context->key.data, key, length);
		context->key.size = (unsigned int)length;
		r = context->server ? gnutls_psk_allocate_server_credentials(
					      &context->psk_server)
				    : gnutls_psk_allocate_client_credentials(
					      &context->psk_client);
	}
	if (r == 0 && context->server)
		gnutls_psk_set_server_credentials_function(context->psk_server,
							   on_user);
	else if (r == 0)
		r = gnutls_psk_set_client_credentials(context->psk_client,
						      KEY_USER, &context->key,
						      GNUTLS_PSK_KEY_RAW);
	if (r < 0)
		return reason_set(reason, -EINVAL, "TLS: the key: %s",
				  gnutls_strerror(r));
	return 0;
}

struct tls_context *
tls_context_new(const struct tls_options *options, struct reason *reason)
{
	struct tls_context *context;
	int r;

	if ((options->certificates != NULL) + (options->psk != NULL) +
		    (options->key != NULL) !=
	    1) {
		(void)reason_set(reason, -EINVAL,
				 "TLS needs either a directory of certificates "
				 "or a file of pre-shared keys");
		return NULL;
	}
	context = calloc(1, sizeof(*context));
	if (context == NULL) {
		(void)reason_set(reason, -ENOMEM, "TLS: no memory");
		return NULL;
	}
	context->server = options->server;
	context->verify_peer = options->verify_peer;
	if (options->certificates != NULL)
		r = load_x509(context, options->certificates, reason);
	else if (options->psk != NULL)
		r = load_psk(context, options->psk, options->psk_user, reason);
	else
		r = take_key(context, options->key, options->key_length,
			     reason);
	if (r < 0)
		return tls_context_free(context);
	return context;
}

struct tls_context *
tls_context_free(struct tls_context *context)
{
	if (context == NULL)
		return NULL;
	if (context->x509 != NULL)
		gnutls_certificate_free_credentials(context->x509);
	if (context->psk_server != NULL)
		gnutls_psk_free_server_credentials(context->psk_server);
	if (context->psk_client != NULL)
		gnutls_psk_free_client_credentials(context->psk_client);
	if (context->key.data != NULL)
		gnutls_memset(context->key.data, 0, context->key.size);
	free(context->key.data);
	free(context);
	return NULL;
}

/* --- sessions --- */

static bool
is_number(const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, host, address) == 1 ||
	       inet_pton(AF_INET6, host, address) == 1;
}

static int
set_x509(struct tls_session *session, const char *host)
{
	const struct tls_context *context = session->context;
	int r = gnutls_credentials_set(session->session, GNUTLS_CRD_CERTIFICATE,
				       context->x509);

	if (r < 0)
		return r;
	if (context->server) {
		gnutls_certificate_server_set_request(
			session->session, context->verify_peer
						  ? GNUTLS_CERT_REQUIRE
						  : GNUTLS_CERT_IGNORE);
		if (context->verify_peer)
			gnutls_session_set_verify_cert(session->session, NULL,
						       0);
		return 0;
	}
	gnutls_session_set_verify_cert(session->session, host, 0);
	if (host == NULL || is_number(host))
		return 0;
	return gnutls_server_name_set(session->session, GNUTLS_NAME_DNS, host,
				      strlen(host));
}

/* As GnuTLS's own, but it remembers how the peer began. */
static ssize_t
pull(gnutls_transport_ptr_t pointer, void *buf, size_t length)
{
	struct tls_session *session = pointer;
	ssize_t n = recv(session->fd, buf, length, 0);
	size_t room = FIRST_BYTES - session->first_length;

	if (n > 0 && room > 0) {
		size_t take = (size_t)n < room ? (size_t)n : room;

		memcpy(session->first + session->first_length, buf, take);
		session->first_length += take;
	}
	return n;
}

static const char *
priority_of(const struct tls_context *context)
{
	if (context->x509 != NULL)
		return VERSIONS;
	return context->key.data != NULL ? KEY_PRIORITY : PSK_PRIORITY;
}

struct tls_session *
tls_session_new(const struct tls_context *context, int fd, const char *host,
		struct reason *reason)
{
	struct tls_session *session = calloc(1, sizeof(*session));
	unsigned int flags = GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL;
	int r = GNUTLS_E_MEMORY_ERROR;

	if (session != NULL) {
		session->context = context;
		session->fd = fd;
		flags |= context->server ? GNUTLS_SERVER : GNUTLS_CLIENT;
		r = gnutls_init(&session->session, flags);
	}
	if (r == 0)
		r = gnutls_priority_set_direct(session->session,
					       priority_of(context), NULL);
	if (r == 0 && context->x509 != NULL)
		r = set_x509(session, host);
	else if (r == 0)
		r = gnutls_credentials_set(
			session->session, GNUTLS_CRD_PSK,
			context->server ? (void *)context->psk_server
					: (void *)context->psk_client);
	if (r < 0) {
		(void)reason_set(reason, gnutls_errno(r), "TLS: %s",
				 gnutls_strerror(r));
		return tls_session_free(session);
	}
	gnutls_session_set_ptr(session->session, session);
	gnutls_transport_set_int(session->session, fd);
	gnutls_transport_set_ptr2(session->session, session,
				  (gnutls_transport_ptr_t)(intptr_t)fd);
	gnutls_transport_set_pull_function(session->session, pull);
	gnutls_handshake_set_timeout(session->session, 0); /* the owner's */
	return session;
}

struct tls_session *
tls_session_free(struct tls_session *session)
{
	if (session == NULL)
		return NULL;
	if (session->established && session->pending == 0)
		(void)gnutls_bye(session->session, GNUTLS_SHUT_WR);
	if (session->session != NULL)
		gnutls_deinit(session->session);
	free(session);
	return NULL;
}

/* What was wrong with the peer's certificate, in words. */
static int
certificate_reason(struct tls_session *session, struct reason *reason)
{
	unsigned int status =
		gnutls_session_get_verify_cert_status(session->session);
	gnutls_datum_t text = { NULL, 0 };
	int r;

	(void)gnutls_certificate_verification_status_print(
		status, GNUTLS_CRT_X509, &text, 0);
	r = reason_set(reason, -EACCES,
		       "TLS: the peer's certificate is not accepted: %s",
		       text.data != NULL ? (const char *)text.data : "");
	gnutls_free(text.data);
	return r;
}

/* The peer's first bytes are a record's (RFC 8446, section 5.1). */
static bool
is_foreign(const struct tls_session *session)
{
	const unsigned char *first = session->first;

	return session->first_length == FIRST_BYTES &&
	       (first[0] < 20 || first[0] > 24 || first[1] != 3);
}

/* An alert, so that the peer can see what we are.  What it sent is taken first:
 * a socket closed with bytes unread takes back what was sent. */
static void
show_ourselves(struct tls_session *session)
{
	ssize_t n;

	(void)gnutls_alert_send(session->session, GNUTLS_AL_FATAL,
				GNUTLS_A_UNEXPECTED_MESSAGE);
	(void)shutdown(session->fd, SHUT_WR);
	for (int i = 0; i < DRAIN_CALLS; i++) {
		n = recv(session->fd, session->record, RECORD_MAX, 0);
		if (n <= 0)
			return;
	}
}

/* How GnuTLS says, at either end, that the two keys are not the same: the
 * server finds a wrong binder and sends an alert. */
static bool
is_other_key(const struct tls_session *session, int r)
{
	gnutls_alert_description_t alert;

	if (session->context->key.data == NULL)
		return false;
	if (r != GNUTLS_E_FATAL_ALERT_RECEIVED)
		return r == GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER ||
		       r == GNUTLS_E_DECRYPTION_FAILED ||
		       r == GNUTLS_E_INSUFFICIENT_CREDENTIALS;
	alert = gnutls_alert_get(session->session);
	return alert == GNUTLS_A_ILLEGAL_PARAMETER ||
	       alert == GNUTLS_A_DECRYPT_ERROR ||
	       alert == GNUTLS_A_BAD_RECORD_MAC ||
	       alert == GNUTLS_A_UNKNOWN_PSK_IDENTITY;
}

int
tls_session_handshake(struct tls_session *session, struct reason *reason)
{
	int r;

	/* warnings of the peer do not end a handshake */
	do
		r = gnutls_handshake(session->session);
	while (r == GNUTLS_E_WARNING_ALERT_RECEIVED);
	if (r == 0) {
		session->established = true;
		return 0;
	}
	if (gnutls_errno(r) == -EAGAIN)
		return -EAGAIN;
	if (is_foreign(session)) {
		show_ourselves(session);
		return reason_set(reason, -EPROTONOSUPPORT,
				  "TLS handshake: the peer does not speak TLS "
				  "(its bytes begin with %02x %02x %02x)",
				  session->first[0], session->first[1],
				  session->first[2]);
	}
	if (r != GNUTLS_E_FATAL_ALERT_RECEIVED)
		(void)gnutls_alert_send_appropriate(session->session, r);
	if (is_other_key(session, r))
		return reason_set(reason, -EACCES,
				  "TLS handshake: the peer has another key");
	if (r == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
		return certificate_reason(session, reason);
	if (r == GNUTLS_E_FATAL_ALERT_RECEIVED)
		return reason_set(reason, -EPROTO,
				  "TLS handshake: the peer refused: %s",
				  gnutls_alert_get_name(
					  gnutls_alert_get(session->session)));
	return reason_set(reason, gnutls_errno(r), "TLS handshake: %s",
			  gnutls_strerror(r));
}

int
tls_session_export(struct tls_session *session, const char *label,
		   void *ret_bytes, size_t length)
{
	int r = gnutls_prf_rfc5705(session->session, strlen(label), label, 0,
				   NULL, length, ret_bytes);

	return r < 0 ? gnutls_errno(r) : 0;
}

bool
tls_session_wants_write(const struct tls_session *session)
{
	return gnutls_record_get_direction(session->session) == 1;
}

ssize_t
tls_session_receive(struct tls_session *session, void *buf, size_t length)
{
	ssize_t n = gnutls_record_recv(session->session, buf, length);

	if (n >= 0)
		return n;
	if (!gnutls_error_is_fatal((int)n) && n != GNUTLS_E_REHANDSHAKE)
		return -EAGAIN;
	return gnutls_errno((int)n);
}

bool
tls_session_has_more(const struct tls_session *session)
{
	return gnutls_record_check_pending(session->session) > 0;
}

static size_t
gather(char *record, const struct iovec *iov, unsigned int count)
{
	size_t length = 0;

	for (unsigned int i = 0; i < count && length < RECORD_MAX; i++) {
		size_t part = iov[i].iov_len;

		if (part > RECORD_MAX - length)
			part = RECORD_MAX - length;
		memcpy(record + length, iov[i].iov_base, part);
		length += part;
	}
	return length;
}

ssize_t
tls_session_send(struct tls_session *session, const struct iovec *iov,
		 unsigned int count)
{
	const char *data = NULL;
	size_t length = 0;
	ssize_t n;

	if (session->pending == 0 && iov[0].iov_len >= RECORD_MAX) {
		data = iov[0].iov_base;
		session->pending = length = RECORD_MAX;
	} else if (session->pending == 0) {
		data = session->record;
		session->pending = length = gather(session->record, iov, count);
	}
	/* without data: go on with the record that GnuTLS keeps */
	n = gnutls_record_send(session->session, data, length);
	if (n < 0)
		return gnutls_errno((int)n);
	assert((size_t)n <= session->pending);
	session->pending = 0;
	return n;
}
