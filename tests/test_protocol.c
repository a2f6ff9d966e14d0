/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_protocol - docs/protocol.md against the code: its numbers, its tables
 * and its examples.  A page that is wrong in one of them fails here.
 */
#include "tests/test.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/bytes.h"
#include "replication/key.h"
#include "replication/link.h"
#include "replication/rdma_seal.h"
#include "replication/rdma_wire.h"
#include "replication/wire.h"

#define PAGE	 "docs/protocol.md"
#define PAGE_MAX (64u << 10)

static char page[PAGE_MAX];

static int
read_page(void **state)
{
	FILE *file = fopen(PAGE, "re");
	size_t length;

	(void)state;
	if (file == NULL)
		return -1;
	length = fread(page, 1, sizeof(page) - 1, file);
	(void)fclose(file);
	page[length] = '\0';
	return length > 0 ? 0 : -1;
}

/* What stands behind the first `text` after `from`. */
static const char *
behind(const char *from, const char *text)
{
	const char *at = strstr(from, text);

	if (at == NULL)
		fail_msg("%s does not say \"%s\"", PAGE, text);
	return at + strlen(text);
}

static const char *
next_line(const char *at)
{
	const char *end = strchr(at, '\n');

	return end == NULL ? at + strlen(at) : end + 1;
}

/* The bytes of the example `name`; returns how many. */
static size_t
example(const char *name, unsigned char *ret_bytes, size_t size)
{
	char mark[64];
	const char *at, *end;
	size_t length = 0;

	(void)snprintf(mark, sizeof(mark), "```example %s\n", name);
	at = behind(page, mark);
	end = strstr(at, "```");
	assert_non_null(end);
	while (at < end) {
		char *behind_it;

		if (*at == ' ' || *at == '\n') {
			at++;
			continue;
		}
		assert_true(length < size);
		ret_bytes[length++] =
			(unsigned char)strtoul(at, &behind_it, 16);
		assert_ptr_equal(behind_it, at + 2);
		at = behind_it;
	}
	return length;
}

static void
assert_example(const char *name, const unsigned char *bytes, size_t length)
{
	unsigned char expected[1024];

	assert_int_equal(example(name, expected, sizeof(expected)), length);
	assert_memory_equal(expected, bytes, length);
}

/* --- numbers and tables --- */

static void
test_the_page_has_the_numbers_of_the_code(void **state)
{
	static const struct {
		const char *name;
		unsigned long value;
	} numbers[] = {
#define NUMBER(name) { "| `" #name "` | ", name }
		NUMBER(WIRE_MAGIC),	  NUMBER(WIRE_VERSION_MIN),
		NUMBER(WIRE_VERSION_MAX), NUMBER(WIRE_HEADER),
		NUMBER(WIRE_PAYLOAD_MAX), NUMBER(WIRE_HELLO_PREFIX),
		NUMBER(WIRE_HELLO_MAX),	  NUMBER(WIRE_SYNCED_MAX),
		NUMBER(WIRE_BEGIN_BYTES), NUMBER(WIRE_ACK_BYTES),
		NUMBER(WIRE_ACKS_MAX),	  NUMBER(WIRE_TEXT_MAX),
		NUMBER(WIRE_MAC),	  NUMBER(WIRE_NONCE),
		NUMBER(WIRE_ID),	  NUMBER(WIRE_FEATURES),
		NUMBER(LINK_WINDOW_MAX),  NUMBER(HISTORY_MAX),
		NUMBER(RDMA_MAGIC),	  NUMBER(RDMA_GREETING),
		NUMBER(RDMA_ENVELOPE),	  NUMBER(RDMA_SEAL),
		NUMBER(RDMA_RESERVE),	  NUMBER(WIRE_DIGEST),
		NUMBER(WIRE_VERIFY_MAX),  NUMBER(WIRE_FEATURE_VERIFY),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		unsigned long said =
			strtoul(behind(page, numbers[i].name), NULL, 0);

		if (said != numbers[i].value)
			fail_msg("%s%lu: the code has %lu", numbers[i].name,
				 said, numbers[i].value);
	}
}

static void
test_fields_follow_each_other_without_a_gap(void **state)
{
	static const char head[] = "| at | bytes |";
	const char *at = page;
	int tables = 0;

	(void)state;
	for (; (at = strstr(at, head)) != NULL; tables++) {
		unsigned int next = 0, offset, bytes;

		at = next_line(next_line(at));
		while (sscanf(at, "| %u | %u |", &offset, &bytes) == 2) {
			assert_int_equal(offset, next);
			next = offset + bytes;
			at = next_line(at);
		}
		if (sscanf(at, "| %u | ... |", &offset) == 1)
			assert_int_equal(offset, next);
	}
	assert_int_equal(tables, 14);
}

/* "N" or "N to M". */
static void
assert_payload_rule(enum wire_type type, const char *text)
{
	unsigned char bytes[WIRE_HEADER];
	struct wire_header header = { .type = type,
				      .sequence = wire_is_sequenced(type) };
	struct wire_header decoded;
	unsigned int bounds[2] = { 0, 0 };

	if (sscanf(text, "%u to %u", &bounds[0], &bounds[1]) == 1)
		bounds[1] = bounds[0];
	header.length = 1;
	if (wire_payload(&header) == 0) { /* a range without one */
		assert_int_equal(bounds[1], 0);
		return;
	}
	if (wire_payload(&header) != header.length) { /* always the same */
		assert_int_equal(bounds[0], wire_payload(&header));
		assert_int_equal(bounds[1], wire_payload(&header));
		return;
	}
	for (unsigned int length = 0; length <= 2 * WIRE_PAYLOAD_MAX;
	     length += length < 65536 ? 1 : 65535) {
		bool allowed = length >= bounds[0] && length <= bounds[1];

		header.length = length;
		header.payload_crc = length > 0;
		wire_encode(&header, bytes);
		if ((wire_decode(bytes, &decoded, NULL) == 0) != allowed)
			fail_msg("a %s with %u bytes", wire_type_name(type),
				 length);
	}
}

static void
test_the_page_has_the_types_of_the_code(void **state)
{
	const char *at = behind(page, "| type | name | payload |");

	(void)state;
	for (unsigned int type = 1; type < 64; type++) {
		const char *name = wire_type_name((enum wire_type)type);
		char row[64];

		if (strcmp(name, "?") == 0)
			continue;
		(void)snprintf(row, sizeof(row), "\n| %u | %s | ", type, name);
		assert_payload_rule((enum wire_type)type, behind(at, row));
	}
}

/* --- examples --- */

static void
test_the_example_of_a_write_is_one(void **state)
{
	unsigned char bytes[WIRE_HEADER];
	static unsigned char data[4096];
	struct wire_header header = {
		.type = WIRE_WRITE,
		.flags = WIRE_FLAG_DURABLE,
		.session = 0x1122334455667788,
		.sequence = 3,
		.epoch = 7,
		.offset = 65536,
		.length = sizeof(data),
		.credits = 512,
		.acknowledged = 2,
	};

	(void)state;
	memset(data, 'a', sizeof(data));
	header.payload_crc = wire_crc(data, sizeof(data));
	wire_encode(&header, bytes);
	assert_example("write", bytes, sizeof(bytes));
}

static void
test_the_example_of_a_hello_is_one(void **state)
{
	static struct wire_hello hello = {
		.version_min = 1,
		.version_max = 1,
		.features_incompatible = WIRE_FEATURES,
		.features_compatible = WIRE_FEATURE_VERIFY,
		.header_length = WIRE_HEADER,
		.role = WIRE_SECONDARY,
		.sector_size = 512,
		.size = 1 << 20,
		.window = 512,
		.payload_max = WIRE_PAYLOAD_MAX,
		.incarnation = 1,
		.name = "vm1",
	};
	static unsigned char bytes[WIRE_HELLO_MAX];
	static struct wire_hello decoded;
	size_t length;

	(void)state;
	memset(hello.replica_id, 0x22, WIRE_ID);
	memset(hello.nonce, 0x33, WIRE_NONCE);
	length = wire_encode_hello(&hello, bytes);
	assert_int_equal(wire_decode_hello(bytes, length, &decoded, NULL), 0);
	assert_example("hello", bytes, length);
}

static void
test_the_example_of_a_proof_is_one(void **state)
{
	unsigned char secret[KEY_MIN], mac[WIRE_MAC];
	unsigned char binding[WIRE_MAC] = { 0 };
	struct key_bytes key = { secret, sizeof(secret) };
	struct key_bytes own = { (const unsigned char *)"AB", 2 };
	struct key_bytes peer = { (const unsigned char *)"CD", 2 };

	(void)state;
	memset(secret, 0x0b, sizeof(secret));
	key_prove(&key, true, binding, &own, &peer, mac);
	assert_example("auth", mac, sizeof(mac));
}

static void
test_the_example_of_a_begin_is_one(void **state)
{
	struct wire_begin begin = { .session = 0x1122334455667788,
				    .outcome = MEETING_WE_SOURCE,
				    .timeline = 0x0a0b0c0d,
				    .epoch = 5 };
	unsigned char bytes[WIRE_BEGIN_BYTES];

	(void)state;
	assert_int_equal(wire_encode_begin(&begin, bytes), WIRE_BEGIN_BYTES);
	assert_example("begin", bytes, sizeof(bytes));
}

static void
test_the_example_of_acknowledgements_is_one(void **state)
{
	static const struct wire_ack acks[] = {
		{ .sequence = 3, .kind = WIRE_ACK_RECEIVED },
		{ .sequence = 2, .kind = WIRE_ACK_WRITTEN, .status = -5 },
	};
	unsigned char bytes[2 * WIRE_ACK_BYTES];

	(void)state;
	wire_encode_acks(acks, 2, bytes);
	assert_example("ack", bytes, sizeof(bytes));
}

static void
test_the_example_of_a_verify_is_one(void **state)
{
	unsigned char bytes[WIRE_HEADER + WIRE_DIGEST];
	static unsigned char data[4096];
	struct wire_header header = {
		.type = WIRE_VERIFY,
		.session = 0x1122334455667788,
		.sequence = 4,
		.epoch = 7,
		.offset = 65536,
		.length = sizeof(data),
		.credits = 512,
		.acknowledged = 2,
	};

	(void)state;
	memset(data, 'a', sizeof(data));
	assert_int_equal(gnutls_hash_fast(GNUTLS_DIG_SHA256, data, sizeof(data),
					  bytes + WIRE_HEADER),
			 0);
	header.payload_crc = wire_crc(bytes + WIRE_HEADER, WIRE_DIGEST);
	wire_encode(&header, bytes);
	assert_example("verify", bytes, sizeof(bytes));
}

static void
test_the_examples_of_rdma(void **state)
{
	static const unsigned char hello[2] = { 0x41, 0x42 };
	struct rdma_greeting greeting = { .version_min = RDMA_VERSION,
					  .version_max = RDMA_VERSION,
					  .flags = RDMA_KEYED | RDMA_SEALED,
					  .slot = 65536,
					  .receives = 16 };
	struct rdma_envelope envelope = { .limit = 126,
					  .number = 3,
					  .reports = 1 };
	unsigned char key[32], caller[RDMA_NONCE], listener[RDMA_NONCE];
	unsigned char bytes[WIRE_HEADER + RDMA_GREETING], mac[WIRE_MAC];
	struct key_bytes secret = { key, sizeof(key) };
	struct rdma_seal *seal;

	(void)state;
	memset(key, 0x0b, sizeof(key));
	memset(caller, 0x44, sizeof(caller));
	memset(listener, 0x55, sizeof(listener));
	memcpy(greeting.nonce, caller, sizeof(caller));
	rdma_encode_greeting(&greeting, bytes);
	assert_example("greeting", bytes, RDMA_GREETING);

	memset(bytes, 0x61, WIRE_HEADER);
	rdma_encode_envelope(&envelope, bytes + WIRE_HEADER);
	assert_example("envelope", bytes + WIRE_HEADER, RDMA_ENVELOPE);

	seal = rdma_seal_new(&secret, true, caller, listener, NULL);
	assert_non_null(seal);
	rdma_seal_make(seal, 3, bytes, hello, sizeof(hello), mac);
	assert_example("seal", mac, RDMA_SEAL);
	rdma_seal_binding(seal, mac);
	assert_example("binding", mac, WIRE_MAC);
	rdma_seal_free(seal);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_page_has_the_numbers_of_the_code),
		cmocka_unit_test(test_fields_follow_each_other_without_a_gap),
		cmocka_unit_test(test_the_page_has_the_types_of_the_code),
		cmocka_unit_test(test_the_example_of_a_write_is_one),
		cmocka_unit_test(test_the_example_of_a_verify_is_one),
		cmocka_unit_test(test_the_example_of_a_hello_is_one),
		cmocka_unit_test(test_the_example_of_a_proof_is_one),
		cmocka_unit_test(test_the_example_of_a_begin_is_one),
		cmocka_unit_test(test_the_example_of_acknowledgements_is_one),
		cmocka_unit_test(test_the_examples_of_rdma),
	};

	return cmocka_run_group_tests(tests, read_page, NULL);
}
