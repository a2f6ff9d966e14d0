/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_rdma_wire - the greeting, the envelope and the seal: what was written is
 * read, and nothing else is.
 */
#include "tests/test.h"

#include <errno.h>
#include <string.h>

#include "core/reason.h"
#include "replication/bytes.h"
#include "replication/rdma_seal.h"
#include "replication/rdma_wire.h"

static const struct rdma_greeting good = {
	.version_min = 1,
	.version_max = 3,
	.flags = RDMA_KEYED | RDMA_SEALED,
	.slot = 65536,
	.receives = 128,
	.nonce = { 1, 2, 3 },
};

static void
fix_crc(unsigned char *bytes)
{
	put32(bytes + 44, wire_crc(bytes, 44));
}

static void
test_a_greeting_is_read_as_it_was_written(void **state)
{
	unsigned char bytes[RDMA_GREETING + 8] = { 0 };
	struct rdma_greeting greeting;

	(void)state;
	rdma_encode_greeting(&good, bytes);
	/* private data may come longer */
	assert_int_equal(
		rdma_decode_greeting(bytes, sizeof(bytes), &greeting, NULL), 0);
	assert_int_equal(greeting.version_min, 1);
	assert_int_equal(greeting.version_max, 3);
	assert_int_equal(greeting.flags, good.flags);
	assert_int_equal(greeting.slot, 65536);
	assert_int_equal(greeting.receives, 128);
	assert_int_equal(greeting.refusal, RDMA_NOT_REFUSED);
	assert_memory_equal(greeting.nonce, good.nonce, RDMA_NONCE);
}

static void
test_every_flipped_bit_of_a_greeting_is_noticed(void **state)
{
	unsigned char bytes[RDMA_GREETING];
	struct rdma_greeting greeting;

	(void)state;
	for (unsigned int bit = 0; bit < RDMA_GREETING * 8; bit++) {
		rdma_encode_greeting(&good, bytes);
		bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_int_equal(rdma_decode_greeting(bytes, sizeof(bytes),
						      &greeting, NULL),
				 -EPROTO);
	}
	rdma_encode_greeting(&good, bytes);
	for (size_t length = 0; length < RDMA_GREETING; length++)
		assert_int_equal(
			rdma_decode_greeting(bytes, length, &greeting, NULL),
			-EPROTO);
}

static void
test_impossible_greetings_are_refused(void **state)
{
	static const struct {
		size_t at;
		unsigned int size;
		uint32_t value;
		int error;
	} wrong[] = {
		{ 4, 2, 0, -EPROTO }, /* lowest version */
		{ 6, 2, 0, -EPROTO }, /* highest */
		{ 4, 2, 2, -EPROTONOSUPPORT },
		{ 8, 4, 8, -EPROTO },	  /* flags */
		{ 12, 4, 4096, -EPROTO }, /* slot */
		{ 12, 4, 2u << 20, -EPROTO },
		{ 16, 4, 7, -EPROTO }, /* receives */
		{ 16, 4, 65537, -EPROTO },
		{ 20, 4, 99, -EPROTO }, /* refusal */
	};
	unsigned char bytes[RDMA_GREETING];
	struct rdma_greeting greeting;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		rdma_encode_greeting(&good, bytes);
		if (wrong[i].size == 2)
			put16(bytes + wrong[i].at, (uint16_t)wrong[i].value);
		else
			put32(bytes + wrong[i].at, wrong[i].value);
		fix_crc(bytes);
		assert_int_equal(rdma_decode_greeting(bytes, sizeof(bytes),
						      &greeting, NULL),
				 wrong[i].error);
	}
}

static void
test_an_envelope_is_read_as_it_was_written(void **state)
{
	struct rdma_envelope envelope = { .limit = 0xfffffff0,
					  .number = 77,
					  .flags = RDMA_REPORT,
					  .reports = 200,
					  .segment = 31 };
	struct rdma_envelope back;
	unsigned char bytes[RDMA_ENVELOPE];

	(void)state;
	rdma_encode_envelope(&envelope, bytes);
	assert_int_equal(rdma_decode_envelope(bytes, &back), 0);
	assert_memory_equal(&envelope, &back, sizeof(back));
	for (unsigned int bit = 0; bit < RDMA_ENVELOPE * 8; bit++) {
		rdma_encode_envelope(&envelope, bytes);
		bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_int_equal(rdma_decode_envelope(bytes, &back), -EPROTO);
	}
	rdma_encode_envelope(&envelope, bytes);
	bytes[8] = 2; /* a flag that nobody knows */
	put32(bytes + 12, wire_crc(bytes, 12));
	assert_int_equal(rdma_decode_envelope(bytes, &back), -EPROTO);
}

/* --- the seal --- */

static unsigned char head[WIRE_HEADER + RDMA_ENVELOPE] = { 9 };
static unsigned char payload[4096] = { 7 };

static struct rdma_seal *
seal_with(const char *key, bool caller, unsigned char listener)
{
	struct key_bytes bytes = { (const unsigned char *)key, strlen(key) };
	unsigned char mine[RDMA_NONCE] = { 1 }, his[RDMA_NONCE] = { listener };

	return rdma_seal_new(&bytes, caller, mine, his, NULL);
}

static void
test_a_seal_is_good_for_one_message_of_one_connection(void **state)
{
	struct rdma_seal *a = seal_with("key", true, 2);
	struct rdma_seal *b = seal_with("key", false, 2);
	struct rdma_seal *later = seal_with("key", false, 3);
	struct rdma_seal *other = seal_with("kez", false, 2);
	unsigned char mac[RDMA_SEAL];
	size_t length = sizeof(payload);

	(void)state;
	rdma_seal_make(a, 5, head, payload, length, mac);
	assert_true(rdma_seal_is_right(b, 5, head, payload, length, mac));
	/* another place in the stream */
	assert_false(rdma_seal_is_right(b, 6, head, payload, length, mac));
	/* sent back to its maker */
	assert_false(rdma_seal_is_right(a, 5, head, payload, length, mac));
	/* another connection, another key */
	assert_false(rdma_seal_is_right(later, 5, head, payload, length, mac));
	assert_false(rdma_seal_is_right(other, 5, head, payload, length, mac));
	/* other bytes */
	assert_false(rdma_seal_is_right(b, 5, head, payload, length - 1, mac));
	payload[4095] ^= 1;
	assert_false(rdma_seal_is_right(b, 5, head, payload, length, mac));
	payload[4095] ^= 1;
	head[79] ^= 1;
	assert_false(rdma_seal_is_right(b, 5, head, payload, length, mac));
	head[79] ^= 1;
	assert_true(rdma_seal_is_right(b, 5, head, payload, length, mac));
	rdma_seal_free(a);
	rdma_seal_free(b);
	rdma_seal_free(later);
	rdma_seal_free(other);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_greeting_is_read_as_it_was_written),
		cmocka_unit_test(
			test_every_flipped_bit_of_a_greeting_is_noticed),
		cmocka_unit_test(test_impossible_greetings_are_refused),
		cmocka_unit_test(test_an_envelope_is_read_as_it_was_written),
		cmocka_unit_test(
			test_a_seal_is_good_for_one_message_of_one_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
