/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_rdma - bytes of an RDMA peer that is not proven yet: the private data of
 * its set-up, and the envelopes of its messages.  The first byte says which,
 * and whether the checksum is made right, or nothing behind it would be
 * reached.  What is decoded and encoded again must decode to the same.
 */
#include <assert.h>
#include <string.h>

#include "core/reason.h"
#include "replication/bytes.h"
#include "replication/rdma_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_greeting(const unsigned char *data, size_t size, bool mend)
{
	unsigned char bytes[256] = { 0 }, again[RDMA_GREETING];
	struct rdma_greeting greeting, same;
	struct reason reason;

	if (size > sizeof(bytes))
		size = sizeof(bytes);
	memcpy(bytes, data, size);
	if (mend && size >= RDMA_GREETING) {
		put32(bytes, RDMA_MAGIC);
		put32(bytes + 44, wire_crc(bytes, 44));
	}
	if (rdma_decode_greeting(bytes, size, &greeting, &reason) < 0)
		return;
	assert(size >= RDMA_GREETING);
	assert(greeting.refusal != RDMA_NOT_REFUSED ||
	       (greeting.slot >= RDMA_SLOT_MIN &&
		greeting.slot <= RDMA_SLOT_MAX &&
		greeting.receives >= RDMA_RECEIVES_MIN));
	rdma_encode_greeting(&greeting, again);
	assert(rdma_decode_greeting(again, sizeof(again), &same, &reason) == 0);
	assert(memcmp(&greeting, &same, sizeof(same)) == 0);
}

static void
fuzz_envelope(const unsigned char *data, size_t size, bool mend)
{
	unsigned char bytes[RDMA_ENVELOPE] = { 0 }, again[RDMA_ENVELOPE];
	struct rdma_envelope envelope;

	memcpy(bytes, data, size < RDMA_ENVELOPE ? size : RDMA_ENVELOPE);
	if (mend)
		put32(bytes + 12, wire_crc(bytes, 12));
	if (rdma_decode_envelope(bytes, &envelope) < 0)
		return;
	rdma_encode_envelope(&envelope, again);
	assert(memcmp(bytes, again, sizeof(again)) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	if (data[0] & 1)
		fuzz_greeting(data + 1, size - 1, data[0] & 2);
	else
		fuzz_envelope(data + 1, size - 1, data[0] & 2);
	return 0;
}
