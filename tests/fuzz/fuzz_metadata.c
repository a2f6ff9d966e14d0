/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_metadata - a file in the place of a replica's metadata: two copies out
 * of the input, their checksums made right, so that what lies behind them is
 * reached.  What is taken must be written and read again as the same.  Or, of a
 * disk that has a map, the intents and the pages out of the input.
 */
#include <assert.h>
#include <jansson.h>
#include <string.h>

#include "core/loop.h"
#include "core/reason.h"
#include "replication/bytes.h"
#include "replication/dirty_map.h"
#include "replication/inspect.h"
#include "replication/intent.h"
#include "replication/metadata.h"
#include "replication/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char magic[8] = { 't', 'd', 'r', 'e', 'p', 'l', 'i', 'c' };

#define COPY	 METADATA_COPY_BYTES
#define MAP_ID	 7
#define CAPACITY INTENT_CAPACITY_MIN
#define PAGES	 2
#define TAIL	 (2 * (4096 + PAGES * DIRTY_MAP_PAGE_BYTES))

static unsigned char file[METADATA_BYTES + TAIL];

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
	memcpy(buf, file + offset, length);
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

static void
check_report(size_t length)
{
	static const struct store_ops ops = { .read = array_read,
					      .close = array_close };
	struct array array = { .store = { .ops = &ops, .name = "fuzzed" },
			       .length = length };
	json_t *report = inspect_metadata(&array.store);

	/* without memory for a disk of that size: none */
	if (report != NULL)
		assert(json_is_string(json_object_get(report, "verdict")));
	json_decref(report);
}

/* --- intents and pages --- */

static void
put_state(void)
{
	static struct metadata_state state = {
		.replica_id = { 1 },
		.disk_id = { 2 },
		.role = METADATA_PRIMARY,
		.size = 72ull << 20,
		.sector_size = 512,
		.epoch = 100,
		.consistent = true,
		.map = { .id = MAP_ID,
			 .region = 64u << 10,
			 .extent = 4u << 20,
			 .capacity = CAPACITY },
		.checkpoints = 1,
		.checkpoint[0] = { .name = "monday",
				   .timeline = 3,
				   .epoch = 50,
				   .confirmed = true },
	};

	if (state.history.count == 0)
		history_append(&state.history, 3, 1, 0);
	metadata_encode(&state, 1, file + COPY);
	metadata_encode(&state, 2, file);
}

static void
sign_slot(unsigned char *slot)
{
	static const char slot_magic[8] = "tdintent";
	uint32_t count = get32(slot + 12) % (CAPACITY + 2);

	memcpy(slot, slot_magic, sizeof(slot_magic));
	put32(slot + 12, count);
	put64(slot + 24, MAP_ID);
	put32(slot + 32, 4u << 20);
	put32(slot + 8, wire_crc(slot + 12, 52 + 4 * (size_t)count));
}

static void
sign_page(unsigned char *page, uint64_t number)
{
	unsigned char place[DIRTY_MAP_PAGE_BYTES + 12];

	put64(place, MAP_ID);
	put64(place + 8, number);
	memcpy(place + 16, page + 4, DIRTY_MAP_PAGE_BYTES - 4);
	put32(page, wire_crc(place, sizeof(place)));
}

/* The second byte: what is signed. */
static void
check_tracking(const uint8_t *data, size_t size)
{
	unsigned char *tail = file + METADATA_BYTES;
	unsigned int how = size > 0 ? *data++ : 0;

	size -= size > 0;
	put_state();
	memset(tail, 0, TAIL);
	for (size_t i = 0; size > 0 && i < TAIL / 4096; i++) {
		size_t part = size / (TAIL / 4096);

		if (part > 4096)
			part = 4096;
		memcpy(tail + i * 4096, data + i * part, part);
		if (!(how & (1u << i)))
			continue;
		if (i < 2)
			sign_slot(tail + i * 4096);
		else
			sign_page(tail + i * 4096, (i - 2) / 2);
	}
	check_report(sizeof(file));
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
	memset(file, 0, sizeof(file));
	if (how & 8) {
		check_tracking(data, size);
		return 0;
	}
	for (int i = 0; i < 2; i++) {
		size_t part = i == 0 ? size / 2 : size - size / 2;
		unsigned char *copy = file + (size_t)i * COPY;

		if (part > COPY)
			part = COPY;
		memcpy(copy, data + (i == 0 ? 0 : size / 2), part);
		if (how & (1u << i))
			sign(copy);
		check_again(copy);
	}
	check_open(how & 4 ? METADATA_BYTES
			   : (size_t)METADATA_BYTES * (how >> 4) / 16);
	check_report(how & 4 ? METADATA_BYTES : sizeof(file));
	return 0;
}
