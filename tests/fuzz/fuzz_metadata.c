/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_metadata - a file in the place of a replica's metadata: two copies out
 * of the input, their checksums made right, so that what lies behind them is
 * reached.  What is taken must be written and read again as the same.
 */
#include <assert.h>
#include <string.h>

#include "core/loop.h"
#include "core/reason.h"
#include "replication/bytes.h"
#include "replication/metadata.h"
#include "replication/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char magic[8] = { 't', 'd', 'r', 'e', 'p', 'l', 'i', 'c' };
static unsigned char copies[2][METADATA_COPY_BYTES];

static void
sign(unsigned char *copy)
{
	memcpy(copy, magic, sizeof(magic));
	put32(copy + 8, 1);
	put32(copy + 56, wire_crc(copy + 64, METADATA_COPY_BYTES - 64));
	put32(copy + 60, wire_crc(copy, 60));
}

static void
check_again(const unsigned char *copy)
{
	static unsigned char bytes[METADATA_COPY_BYTES];
	static unsigned char again[METADATA_COPY_BYTES];
	static struct metadata_state state;
	uint64_t generation, same;
	struct reason reason = { "" };

	if (metadata_decode(copy, METADATA_COPY_BYTES, &state, &generation,
			    &reason) < 0) {
		assert(reason.text[0] != '\0');
		return;
	}
	metadata_encode(&state, generation, bytes);
	assert(metadata_decode(bytes, METADATA_COPY_BYTES, &state, &same,
			       NULL) == 0);
	assert(same == generation);
	metadata_encode(&state, generation, again);
	assert(memcmp(bytes, again, sizeof(bytes)) == 0);
}

/* A store that is only read. */
struct array {
	struct store store;
	size_t length;
};

static long
array_read(struct store *store, void *buf, size_t length, uint64_t offset)
{
	const struct array *array = container_of(store, struct array, store);

	if (offset >= array->length)
		return 0;
	if (length > array->length - offset)
		length = array->length - offset;
	memcpy(buf, (const unsigned char *)copies + offset, length);
	return (long)length;
}

static void
array_close(struct store *store)
{
	store->name = NULL;
}

static void
check_open(size_t length)
{
	static const struct store_ops ops = { .read = array_read,
					      .close = array_close };
	struct array array = { .store = { .ops = &ops, .name = "fuzzed" },
			       .length = length };
	struct loop *loop = loop_new_simulated();
	struct reason reason = { "" };
	struct metadata *metadata;
	bool is_new;

	metadata = metadata_open(loop, &array.store, &is_new, &reason);
	assert(metadata != NULL || reason.text[0] != '\0');
	metadata_close(metadata);
	assert(array.store.name == NULL);
	loop_free(loop);
}

/* The first byte: which copies are signed, and how long the file is. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t how;

	if (size < 1)
		return 0;
	how = *data++;
	size--;
	memset(copies, 0, sizeof(copies));
	for (int i = 0; i < 2; i++) {
		size_t part = i == 0 ? size / 2 : size - size / 2;

		if (part > METADATA_COPY_BYTES)
			part = METADATA_COPY_BYTES;
		memcpy(copies[i], data + (i == 0 ? 0 : size / 2), part);
		if (how & (1u << i))
			sign(copies[i]);
		check_again(copies[i]);
	}
	check_open(how & 4 ? sizeof(copies) : sizeof(copies) * (how >> 4) / 16);
	return 0;
}
