/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_wire - bytes of a peer: the first says which decoder reads the rest.
 * What is decoded and encoded again must decode to the same.
 */
#include <assert.h>
#include <string.h>

#include "core/reason.h"
#include "replication/bytes.h"
#include "replication/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The CRC is made right, or nothing behind it would be reached. */
static void
fuzz_header(const unsigned char *data, size_t size)
{
	unsigned char bytes[WIRE_HEADER] = { 0 }, again[WIRE_HEADER];
	struct wire_header header;
	struct reason reason;

	memcpy(bytes, data, size < 60 ? size : 60);
	put32(bytes, WIRE_MAGIC);
	put32(bytes + 60, wire_crc(bytes, 60));
	if (wire_decode(bytes, &header, &reason) < 0)
		return;
	assert(wire_payload(&header) <= WIRE_PAYLOAD_MAX);
	assert(header.offset + header.length >= header.length ||
	       wire_payload(&header) == header.length);
	wire_encode(&header, again);
	assert(memcmp(bytes, again, WIRE_HEADER) == 0);
}

static void
fuzz_hello(const unsigned char *data, size_t size)
{
	static struct wire_hello hello, again;
	static unsigned char bytes[WIRE_HELLO_MAX], more[WIRE_HELLO_MAX];
	struct reason reason;
	size_t length, fixed;

	if (wire_decode_hello(data, size, &hello, &reason) < 0)
		return;
	length = wire_encode_hello(&hello, bytes);
	/* What may follow the history is left out, or is longer than it was. */
	hello.fork.timeline = 0;
	memset(hello.partner, 0, WIRE_ID);
	fixed = wire_encode_hello(&hello, more);
	assert(fixed <= size && memcmp(bytes, data, fixed) == 0);
	assert(wire_decode_hello(bytes, length, &again, &reason) == 0);
	assert(wire_encode_hello(&again, more) == length);
	assert(memcmp(bytes, more, length) == 0);
}

static void
fuzz_synced(const unsigned char *data, size_t size)
{
	static struct wire_synced synced;
	static unsigned char bytes[WIRE_SYNCED_MAX];

	if (wire_decode_synced(data, size, &synced) < 0)
		return;
	assert(wire_encode_synced(&synced, bytes) == size);
	assert(memcmp(bytes, data, size) == 0);
}

static void
fuzz_changes(const unsigned char *data, size_t size)
{
	static struct wire_region regions[WIRE_REGIONS_MAX];
	static unsigned char bytes[WIRE_REGIONS_BYTES];
	struct wire_checkpoint checkpoint;
	bool last = false;
	int count = wire_decode_regions(data, size, regions, &last);

	if (count >= 0) {
		assert(wire_encode_regions(regions, (unsigned int)count, last,
					   bytes) == size);
		assert(memcmp(bytes, data, size) == 0);
	}
	if (wire_decode_checkpoint(data, size, &checkpoint) == 0) {
		wire_encode_checkpoint(&checkpoint, bytes);
		assert(memcmp(bytes, data, size) == 0);
	}
}

static void
fuzz_small(const unsigned char *data, size_t size)
{
	struct wire_ack acks[WIRE_ACKS_MAX];
	unsigned char bytes[WIRE_ACKS_MAX * WIRE_ACK_BYTES];
	struct wire_begin begin;
	char text[WIRE_TEXT_MAX + 1];
	int count = wire_decode_acks(data, size, acks);

	if (count > 0) {
		wire_encode_acks(acks, (unsigned int)count, bytes);
		assert(memcmp(bytes, data, size) == 0);
	}
	if (wire_decode_begin(data, size, &begin) == 0) {
		wire_encode_begin(&begin, bytes);
		assert(memcmp(bytes, data, size) == 0);
	}
	fuzz_changes(data, size);
	wire_decode_text(data, size, text);
	assert(strlen(text) <= WIRE_TEXT_MAX);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	switch (data[0] % 4) {
	case 0:
		fuzz_header(data + 1, size - 1);
		break;
	case 1:
		fuzz_hello(data + 1, size - 1);
		break;
	case 2:
		fuzz_synced(data + 1, size - 1);
		break;
	default:
		fuzz_small(data + 1, size - 1);
		break;
	}
	return 0;
}
