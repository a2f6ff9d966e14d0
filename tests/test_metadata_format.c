/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_metadata_format - the bytes of a replica's durable state: where they
 * are, what is found when one is damaged, and what cannot be.
 */
#include "tests/test.h"

#include <errno.h>
#include <string.h>

#include "core/reason.h"
#include "drivers/random.h"
#include "replication/bytes.h"
#include "replication/wire.h"
#include "tests/state.h"

#define MIB (1ull << 20)

static unsigned char bytes[METADATA_COPY_BYTES];
static struct metadata_state state_a, state_b;

static void
sign(unsigned char *copy)
{
	put32(copy + 56, wire_crc(copy + 64, METADATA_COPY_BYTES - 64));
	put32(copy + 60, wire_crc(copy, 60));
}

static void
test_a_state_is_read_as_it_was_written(void **state)
{
	struct reason reason = { "" };
	uint64_t generation = 0;

	(void)state;
	for (uint64_t number = 0; number < 200; number += 3) {
		state_fill(&state_a, number);
		metadata_encode(&state_a, number + 5, bytes);
		assert_int_equal(metadata_decode(bytes, sizeof(bytes), &state_b,
						 &generation, &reason),
				 0);
		state_assert_same(&state_a, &state_b);
		assert_int_equal(generation, number + 5);
	}
}

static void
test_the_bytes_are_where_the_format_says(void **state)
{
	(void)state;
	state_fill(&state_a, 11);
	metadata_encode(&state_a, 77, bytes);
	assert_memory_equal(bytes, "tdreplic", 8);
	assert_int_equal(get32(bytes + 8), 1);
	assert_int_equal(get64(bytes + 24), 77);
	assert_int_equal(get32(bytes + 32), 512 + 48 + 77 * 24);
	assert_int_equal(get32(bytes + 60), wire_crc(bytes, 60));
	assert_int_equal(get32(bytes + 56),
			 wire_crc(bytes + 64, sizeof(bytes) - 64));
	assert_int_equal(bytes[64], 0xd1);
	assert_int_equal(bytes[80], 0xa1);
	assert_int_equal(get64(bytes + 96), 64 * MIB);
	assert_int_equal(get32(bytes + 104), 512);
	assert_int_equal(get32(bytes + 108), METADATA_PRIMARY);
	assert_int_equal(get64(bytes + 112), 11000001);
	assert_int_equal(get64(bytes + 120), 33);
	assert_int_equal(get32(bytes + 128), 0xb);
	assert_int_equal(bytes[256 + 32], 0x11);
	assert_int_equal(get64(bytes + 256 + 32 + 16), 1101);
	assert_int_equal(get32(bytes + 256 + 32 + 24), 1);
	assert_int_equal(get32(bytes + 512), 77);
}

static void
test_a_damaged_byte_is_found(void **state)
{
	struct reason reason;
	uint64_t generation, random = 42;

	(void)state;
	state_fill(&state_a, 9);
	metadata_encode(&state_a, 3, bytes);
	for (size_t i = 0; i < 4096; i++) {
		size_t at = i < 1024 ? i
				     : (size_t)(random_next(&random) *
						METADATA_COPY_BYTES);
		unsigned char bit =
			(unsigned char)(1u << (int)(random_next(&random) * 8));
		int r;

		bytes[at] ^= bit;
		r = metadata_decode(bytes, sizeof(bytes), &state_b, &generation,
				    &reason);
		/* and is never taken for a newer format */
		assert_int_equal(r, at < 8 ? -EMEDIUMTYPE : -EBADMSG);
		bytes[at] ^= bit;
	}
}

static int
decode_with(size_t at, unsigned int size, uint64_t value, struct reason *reason)
{
	static unsigned char copy[METADATA_COPY_BYTES];
	uint64_t generation;

	memcpy(copy, bytes, sizeof(copy));
	for (unsigned int i = 0; i < size; i++)
		copy[at + i] = (unsigned char)(value >> (8 * i));
	sign(copy);
	return metadata_decode(copy, sizeof(copy), &state_b, &generation,
			       reason);
}

static void
test_a_newer_format_is_told_from_a_damaged_one(void **state)
{
	struct reason reason;

	(void)state;
	state_fill(&state_a, 9);
	metadata_encode(&state_a, 3, bytes);
	assert_int_equal(decode_with(8, 4, 2, &reason), -EPROTONOSUPPORT);
	assert_non_null(strstr(reason.text, "version 2"));
	assert_int_equal(decode_with(16, 4, 1, &reason), -EPROTONOSUPPORT);
	assert_int_equal(decode_with(20, 4, 0x80, &reason), -EPROTONOSUPPORT);
	assert_non_null(strstr(reason.text, "0x80"));
	/* compatible: read as if it were not there */
	assert_int_equal(decode_with(12, 4, 0xffffffff, &reason), 0);
	state_assert_same(&state_a, &state_b);
}

static void
test_fields_that_cannot_be_are_refused(void **state)
{
	static const struct {
		size_t at;
		unsigned int size;
		uint64_t value;
	} wrong[] = {
		{ 32, 4, 0 },	     /* length */
		{ 32, 4, 512 + 47 }, /* of half a history */
		{ 32, 4, METADATA_COPY_BYTES + 1 },
		{ 96, 8, 0 }, /* size */
		{ 96, 8, 1000 },
		{ 96, 8, 1ull << 63 },
		{ 104, 4, 0 }, /* sector size */
		{ 104, 4, 256 },
		{ 104, 4, 8192 },
		{ 104, 4, 513 },
		{ 108, 4, 0 }, /* role */
		{ 108, 4, 3 },
		{ 112, 8, 2 },	    /* epoch, before the history's */
		{ 128, 4, 0x10 },   /* flags */
		{ 256 + 24, 4, 2 }, /* a peer's */
		{ 512, 4, 0 },	    /* a disk without a history */
		{ 512, 4, HISTORY_MAX + 1 },
		{ 512 + 48 + 8, 8, 0 }, /* an epoch 0 */
	};
	struct reason reason = { "" };

	(void)state;
	state_fill(&state_a, 9);
	metadata_encode(&state_a, 3, bytes);
	assert_int_equal(decode_with(600, 0, 0, &reason), 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (decode_with(wrong[i].at, wrong[i].size, wrong[i].value,
				&reason) != -EBADMSG)
			fail_msg("offset %zu value %llu is taken", wrong[i].at,
				 (unsigned long long)wrong[i].value);
	}
	/* no id; a peer twice; a peer with our id; a row without a peer */
	memset(bytes + 80, 0, METADATA_ID);
	assert_int_equal(decode_with(600, 0, 0, &reason), -EBADMSG);
	metadata_encode(&state_a, 3, bytes);
	memcpy(bytes + 256 + 32, bytes + 256, METADATA_ID);
	assert_int_equal(decode_with(600, 0, 0, &reason), -EBADMSG);
	metadata_encode(&state_a, 3, bytes);
	memcpy(bytes + 256, bytes + 80, METADATA_ID);
	assert_int_equal(decode_with(600, 0, 0, &reason), -EBADMSG);
	metadata_encode(&state_a, 3, bytes);
	memset(bytes + 256, 0, METADATA_ID);
	assert_int_equal(decode_with(600, 0, 0, &reason), -EBADMSG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_state_is_read_as_it_was_written),
		cmocka_unit_test(test_the_bytes_are_where_the_format_says),
		cmocka_unit_test(test_a_damaged_byte_is_found),
		cmocka_unit_test(
			test_a_newer_format_is_told_from_a_damaged_one),
		cmocka_unit_test(test_fields_that_cannot_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
