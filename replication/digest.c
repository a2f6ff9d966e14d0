/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * digest - see digest.h.  One hash is under way at a time, that of the first
 * job; the digester's handle is used again for the next, so that nothing is
 * allotted after it was opened.
 */
#include "replication/digest.h"

#include <assert.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

static_assert(WIRE_DIGEST == 32, "SHA-256");

static void
finish(struct digester *digester, struct digest *digest)
{
	gnutls_hash_output(digester->hash, digest->value);
	list_del(&digest->entry);
	digest->on_done(digest);
}

static void
on_turn(struct timer *timer)
{
	struct digester *digester = container_of(timer, struct digester, turn);
	struct digest *digest;
	size_t length;

	digest = list_first_entry(&digester->jobs, struct digest, entry);
	length = digest->left < DIGEST_SLICE ? digest->left : DIGEST_SLICE;
	/* it fails only for a handle that is none */
	if (gnutls_hash(digester->hash, digest->bytes, length) < 0)
		assert(!"SHA-256 is there");
	digest->bytes += length;
	digest->left -= length;
	if (digest->left == 0)
		finish(digester, digest);
	if (!list_empty(&digester->jobs))
		timer_set(&digester->turn, 0);
}

void
digest_start(struct digester *digester, struct digest *digest,
	     const void *bytes, size_t length)
{
	assert(length > 0);
	digest->bytes = bytes;
	digest->left = length;
	list_add_tail(&digest->entry, &digester->jobs);
	if (!timer_is_set(&digester->turn))
		timer_set(&digester->turn, 0);
}

int
digester_open(struct digester *digester, struct loop *loop)
{
	INIT_LIST_HEAD(&digester->jobs);
	timer_init(&digester->turn, loop, on_turn);
	return gnutls_hash_init(&digester->hash, GNUTLS_DIG_SHA256) < 0
		       ? -ENOMEM
		       : 0;
}

void
digester_close(struct digester *digester)
{
	if (digester->hash == NULL)
		return;
	timer_clear(&digester->turn);
	gnutls_hash_deinit(digester->hash, NULL);
	digester->hash = NULL;
}
