/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma_seal - see rdma_seal.h.
 */
#include "replication/rdma_seal.h"

#include <assert.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

#include "core/reason.h"
#include "replication/bytes.h"

#define GMAC_NONCE 12
#define HEAD_BYTES (WIRE_HEADER + RDMA_ENVELOPE)

struct rdma_seal {
	gnutls_hmac_hd_t out, in; /* owned */
	unsigned char binding[WIRE_MAC];
};

/* HMAC-SHA256 of a label and both nonces. */
static void
derive(const struct key_bytes *key, const char *label,
       const unsigned char *caller_nonce, const unsigned char *listener_nonce,
       unsigned char ret_bytes[WIRE_MAC])
{
	gnutls_hmac_hd_t hmac;
	int r = gnutls_hmac_init(&hmac, GNUTLS_MAC_SHA256, key->bytes,
				 key->length);

	assert(r == 0);
	r = gnutls_hmac(hmac, label, strlen(label) + 1);
	assert(r == 0);
	r = gnutls_hmac(hmac, caller_nonce, RDMA_NONCE);
	assert(r == 0);
	r = gnutls_hmac(hmac, listener_nonce, RDMA_NONCE);
	assert(r == 0);
	(void)r;
	gnutls_hmac_deinit(hmac, ret_bytes);
}

struct rdma_seal *
rdma_seal_new(const struct key_bytes *key, bool caller,
	      const unsigned char caller_nonce[RDMA_NONCE],
	      const unsigned char listener_nonce[RDMA_NONCE],
	      struct reason *reason)
{
	struct rdma_seal *seal = calloc(1, sizeof(*seal));
	unsigned char called[WIRE_MAC], listened[WIRE_MAC];
	int r = GNUTLS_E_MEMORY_ERROR;

	derive(key, "tapdisk rdma, who called", caller_nonce, listener_nonce,
	       called);
	derive(key, "tapdisk rdma, who listened", caller_nonce, listener_nonce,
	       listened);
	if (seal != NULL) {
		derive(key, "tapdisk rdma, binding", caller_nonce,
		       listener_nonce, seal->binding);
		r = gnutls_hmac_init(&seal->out, GNUTLS_MAC_AES_GMAC_256,
				     caller ? called : listened, WIRE_MAC);
	}
	if (r == 0)
		r = gnutls_hmac_init(&seal->in, GNUTLS_MAC_AES_GMAC_256,
				     caller ? listened : called, WIRE_MAC);
	gnutls_memset(called, 0, sizeof(called));
	gnutls_memset(listened, 0, sizeof(listened));
	if (r == 0)
		return seal;
	(void)reason_set(reason, -ENOMEM, "no AES-GMAC for the connection: %s",
			 gnutls_strerror(r));
	return rdma_seal_free(seal);
}

struct rdma_seal *
rdma_seal_free(struct rdma_seal *seal)
{
	if (seal == NULL)
		return NULL;
	if (seal->out != NULL)
		gnutls_hmac_deinit(seal->out, NULL);
	if (seal->in != NULL)
		gnutls_hmac_deinit(seal->in, NULL);
	gnutls_memset(seal->binding, 0, sizeof(seal->binding));
	free(seal);
	return NULL;
}

static void
compute(gnutls_hmac_hd_t hmac, uint64_t number, const void *head,
	const void *payload, size_t length, unsigned char ret_mac[RDMA_SEAL])
{
	unsigned char nonce[GMAC_NONCE] = { 0 };
	int r;

	put64(nonce, number);
	gnutls_hmac_set_nonce(hmac, nonce, sizeof(nonce));
	r = gnutls_hmac(hmac, head, HEAD_BYTES);
	assert(r == 0);
	if (length > 0)
		r = gnutls_hmac(hmac, payload, length);
	assert(r == 0);
	(void)r;
	gnutls_hmac_output(hmac, ret_mac);
}

void
rdma_seal_make(struct rdma_seal *seal, uint64_t number, const void *head,
	       const void *payload, size_t length,
	       unsigned char ret_mac[RDMA_SEAL])
{
	compute(seal->out, number, head, payload, length, ret_mac);
}

bool
rdma_seal_is_right(struct rdma_seal *seal, uint64_t number, const void *head,
		   const void *payload, size_t length,
		   const unsigned char mac[RDMA_SEAL])
{
	unsigned char own[RDMA_SEAL];

	compute(seal->in, number, head, payload, length, own);
	return gnutls_memcmp(own, mac, RDMA_SEAL) == 0;
}

void
rdma_seal_binding(const struct rdma_seal *seal,
		  unsigned char ret_binding[WIRE_MAC])
{
	memcpy(ret_binding, seal->binding, WIRE_MAC);
}
