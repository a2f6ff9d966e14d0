/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * credentials - see credentials.h.  One authority signs a server and a client;
 * keys are on P-256, which costs no time.
 */
#include "tests/credentials.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define VALID_S (24 * 60 * 60)

static const char *const files[] = {
	"ca-cert.pem",	   "server-cert.pem", "server-key.pem",
	"client-cert.pem", "client-key.pem",  "keys.psk",
};

static void
check(int r, const char *what)
{
	if (r < 0) {
		(void)fprintf(stderr, "credentials: %s: %s\n", what,
			      gnutls_strerror(r));
		abort();
	}
}

static void
save(const char *directory, const char *name, const void *data, size_t length)
{
	char path[4096];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "we");
	if (file == NULL || fwrite(data, 1, length, file) != length ||
	    fclose(file) != 0) {
		perror(path);
		abort();
	}
}

static gnutls_x509_privkey_t
make_key(const char *directory, const char *name)
{
	gnutls_x509_privkey_t key;
	gnutls_datum_t pem;

	check(gnutls_x509_privkey_init(&key), "key");
	check(gnutls_x509_privkey_generate(
		      key, GNUTLS_PK_ECDSA,
		      GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
	      "key");
	if (name != NULL) {
		check(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM,
						  &pem),
		      "key");
		save(directory, name, pem.data, pem.size);
		gnutls_free(pem.data);
	}
	return key;
}

/* A certificate with this name over `key`; signed later. */
static gnutls_x509_crt_t
make_crt(gnutls_x509_privkey_t key, const char *name, unsigned char serial,
	 const char *purpose)
{
	gnutls_x509_crt_t crt;
	time_t now = time(NULL);

	check(gnutls_x509_crt_init(&crt), "certificate");
	check(gnutls_x509_crt_set_version(crt, 3), "version");
	check(gnutls_x509_crt_set_serial(crt, &serial, 1), "serial");
	check(gnutls_x509_crt_set_dn(crt, name, NULL), "name");
	check(gnutls_x509_crt_set_key(crt, key), "key");
	check(gnutls_x509_crt_set_activation_time(crt, now - VALID_S), "from");
	check(gnutls_x509_crt_set_expiration_time(crt, now + VALID_S), "to");
	check(gnutls_x509_crt_set_basic_constraints(crt, purpose == NULL, -1),
	      "constraints");
	if (purpose == NULL)
		check(gnutls_x509_crt_set_key_usage(crt,
						    GNUTLS_KEY_KEY_CERT_SIGN),
		      "usage");
	else
		check(gnutls_x509_crt_set_key_purpose_oid(crt, purpose, 0),
		      "purpose");
	return crt;
}

static void
sign_and_save(const char *directory, const char *name, gnutls_x509_crt_t crt,
	      gnutls_x509_crt_t issuer, gnutls_x509_privkey_t key)
{
	gnutls_datum_t pem;

	check(gnutls_x509_crt_sign2(crt, issuer, key, GNUTLS_DIG_SHA256, 0),
	      "signature");
	check(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem), name);
	save(directory, name, pem.data, pem.size);
	gnutls_free(pem.data);
}

void
credentials_make(const char *directory)
{
	static const char psk[] =
		"alice:00112233445566778899aabbccddeeff0011223344556677\n";
	gnutls_x509_privkey_t ca_key = make_key(directory, NULL);
	gnutls_x509_privkey_t server_key =
		make_key(directory, "server-key.pem");
	gnutls_x509_privkey_t client_key =
		make_key(directory, "client-key.pem");
	gnutls_x509_crt_t ca = make_crt(ca_key, "CN=test authority", 1, NULL);
	gnutls_x509_crt_t server = make_crt(server_key, "CN=localhost", 2,
					    GNUTLS_KP_TLS_WWW_SERVER);
	gnutls_x509_crt_t client =
		make_crt(client_key, "CN=client", 3, GNUTLS_KP_TLS_WWW_CLIENT);

	check(gnutls_x509_crt_set_subject_alt_name(server, GNUTLS_SAN_DNSNAME,
						   "localhost", 9,
						   GNUTLS_FSAN_SET),
	      "alternative name");
	sign_and_save(directory, "ca-cert.pem", ca, ca, ca_key);
	sign_and_save(directory, "server-cert.pem", server, ca, ca_key);
	sign_and_save(directory, "client-cert.pem", client, ca, ca_key);
	save(directory, "keys.psk", psk, sizeof(psk) - 1);
	gnutls_x509_crt_deinit(ca);
	gnutls_x509_crt_deinit(server);
	gnutls_x509_crt_deinit(client);
	gnutls_x509_privkey_deinit(ca_key);
	gnutls_x509_privkey_deinit(server_key);
	gnutls_x509_privkey_deinit(client_key);
}

void
credentials_remove(const char *directory)
{
	char path[4096];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", directory,
			       files[i]);
		(void)unlink(path);
	}
	(void)rmdir(directory);
}
