/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_wire - the bytes of the protocol: known layouts, round trips, and what
 * is refused.
 */
#include "tests/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/reason.h"
#include "replication/bytes.h"
#include "replication/wire.h"

static struct wire_header
a_write(void)
{
	return (struct wire_header){
		.type = WIRE_WRITE,
		.flags = WIRE_FLAG_DURABLE,
		.session = 0x1122334455667788,
		.sequence = 0x0102030405060708,
		.epoch = 7,
		.offset = 0x123456000,
		.length = 4096,
		.payload_crc = 0xdeadbeef,
		.credits = 512,
		.acknowledged = 0xaabbccdd,
		.proven = 0x99887766,
	};
}

/* The CRC is made right again, so that only the field is wrong. */
static int
decode_with(const unsigned char bytes[WIRE_HEADER], unsigned int at,
	    unsigned int size, uint64_t value, struct reason *reason)
{
	unsigned char changed[WIRE_HEADER];
	struct wire_header header;

	memcpy(changed, bytes, WIRE_HEADER);
	for (unsigned int i = 0; i < size; i++)
		changed[at + i] = (unsigned char)(value >> (8 * i));
	put32(changed + 60, wire_crc(changed, 60));
	return wire_decode(changed, &header, reason);
}

static void
test_the_checksum_is_crc32c(void **state)
{
	/* RFC 3720, appendix B.4 */
	unsigned char zeros[32] = { 0 }, ones[32], rising[32];

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	for (unsigned int i = 0; i < 32; i++)
		rising[i] = (unsigned char)i;
	assert_int_equal(wire_crc(zeros, 32), 0x8a9136aa);
	assert_int_equal(wire_crc(ones, 32), 0x62a8ab43);
	assert_int_equal(wire_crc(rising, 32), 0x46dd794e);
	assert_int_equal(wire_crc("123456789", 9), 0xe3069283);
}

static void
test_a_header_has_the_bytes_that_the_protocol_says(void **state)
{
	static const unsigned char expected[60] = {
		'T',  'D',  'R',  '1',	0x20, 0x00, 0x02, 0x00, 0x88, 0x77,
		0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x08, 0x07, 0x06, 0x05,
		0x04, 0x03, 0x02, 0x01, 0x07, 0,    0,	  0,	0,    0,
		0,    0,    0x00, 0x60, 0x45, 0x23, 0x01, 0,	0,    0,
		0x00, 0x10, 0,	  0,	0xef, 0xbe, 0xad, 0xde, 0x00, 0x02,
		0,    0,    0xdd, 0xcc, 0xbb, 0xaa, 0x66, 0x77, 0x88, 0x99,
	};
	struct wire_header header = a_write();
	unsigned char bytes[WIRE_HEADER];

	(void)state;
	wire_encode(&header, bytes);
	assert_memory_equal(bytes, expected, sizeof(expected));
	assert_int_equal(get32(bytes + 60), wire_crc(expected, 60));
}

static void
test_a_header_survives_the_way(void **state)
{
	struct wire_header header = a_write(), back;
	unsigned char bytes[WIRE_HEADER];

	(void)state;
	memset(&back, 0, sizeof(back));
	wire_encode(&header, bytes);
	assert_int_equal(wire_decode(bytes, &back, NULL), 0);
	assert_memory_equal(&back, &header, sizeof(header));
}

static void
test_any_flipped_bit_of_a_header_is_noticed(void **state)
{
	struct wire_header header = a_write(), back;
	unsigned char bytes[WIRE_HEADER];

	(void)state;
	wire_encode(&header, bytes);
	for (unsigned int bit = 0; bit < 8 * WIRE_HEADER; bit++) {
		bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
		assert_int_equal(wire_decode(bytes, &back, NULL), -EPROTO);
		bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
	}
}

static void
test_impossible_headers_are_refused_in_words(void **state)
{
	static const struct {
		unsigned int at, size;
		uint64_t value;
		const char *words;
	} cases[] = {
		{ 0, 4, 0x54534b51, "does not speak" },
		{ 4, 2, 0, "unknown type 0" },
		{ 4, 2, 31, "unknown type 31" },
		{ 4, 2, 63, "unknown type 63" },
		{ 4, 2, 65535, "unknown type 65535" },
		{ 6, 2, 0x4, "unknown flags" },
		{ 16, 8, 0, "sequence number 0" },
		{ 32, 8, UINT64_MAX - 100, "no range" },
		{ 32, 8, INT64_MAX - 100, "no range" },
		{ 40, 4, WIRE_PAYLOAD_MAX + 1, "bytes of payload" },
		{ 40, 4, 0, "bytes of payload" },
		/* a ping with a sequence number, a long one */
		{ 4, 2, WIRE_PING, "unknown flags" },
	};
	struct wire_header header = a_write();
	unsigned char bytes[WIRE_HEADER];

	(void)state;
	wire_encode(&header, bytes);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct reason reason = { "" };

		assert_int_equal(decode_with(bytes, cases[i].at, cases[i].size,
					     cases[i].value, &reason),
				 -EPROTO);
		assert_non_null(strstr(reason.text, cases[i].words));
	}
}

static void
test_each_type_has_its_own_shape(void **state)
{
	static const struct {
		enum wire_type type;
		uint64_t sequence;
		uint32_t length;
		int result;
	} cases[] = {
		{ WIRE_HELLO, 0, 11, -EPROTO },
		{ WIRE_HELLO, 0, WIRE_HELLO_MAX, 0 },
		{ WIRE_HELLO, 0, WIRE_HELLO_MAX + 1, -EPROTO },
		{ WIRE_HELLO, 1, 300, -EPROTO },
		{ WIRE_AUTH, 0, WIRE_MAC, 0 },
		{ WIRE_AUTH, 0, WIRE_MAC + 1, -EPROTO },
		{ WIRE_RESUME, 0, 0, 0 },
		{ WIRE_RESUME, 0, 1, -EPROTO },
		{ WIRE_BEGIN, 0, WIRE_BEGIN_BYTES, 0 },
		{ WIRE_BEGIN, 0, WIRE_BEGIN_BYTES - 1, -EPROTO },
		{ WIRE_REFUSE, 0, WIRE_TEXT_MAX, 0 },
		{ WIRE_REFUSE, 0, WIRE_TEXT_MAX + 1, -EPROTO },
		{ WIRE_PING, 0, 0, 0 },
		{ WIRE_ACK, 0, 0, -EPROTO },
		{ WIRE_ACK, 0, WIRE_ACKS_MAX * WIRE_ACK_BYTES, 0 },
		{ WIRE_ACK, 0, (WIRE_ACKS_MAX + 1) * WIRE_ACK_BYTES, -EPROTO },
		{ WIRE_WRITE, 0, 512, -EPROTO },
		{ WIRE_ZERO, 1, UINT32_MAX, 0 },
		{ WIRE_ZERO, 1, 0, -EPROTO },
		{ WIRE_FLUSH, 1, 0, 0 },
		{ WIRE_FLUSH, 1, 512, -EPROTO },
		{ WIRE_COPY, 1, WIRE_PAYLOAD_MAX, 0 },
		{ WIRE_COPY_ZERO, 1, 1u << 30, 0 },
		{ WIRE_SYNCED, 1, WIRE_SYNCED_MAX, 0 },
		{ WIRE_SYNCED, 1, WIRE_SYNCED_MAX + 1, -EPROTO },
		{ WIRE_HANDOVER, 1, 0, 0 },
		{ WIRE_VERIFY, 1, WIRE_VERIFY_MAX, 0 },
		{ WIRE_VERIFY, 1, WIRE_VERIFY_MAX + 1, -EPROTO },
		{ WIRE_VERIFY, 1, 0, -EPROTO },
		{ WIRE_VERIFY, 0, 512, -EPROTO },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wire_header header = { .type = cases[i].type,
					      .sequence = cases[i].sequence,
					      .length = cases[i].length };
		unsigned char bytes[WIRE_HEADER];

		wire_encode(&header, bytes);
		assert_int_equal(wire_decode(bytes, &header, NULL),
				 cases[i].result);
	}
}

static void
test_ranges_without_their_bytes_have_other_payloads(void **state)
{
	struct wire_header header = { .type = WIRE_ZERO, .length = 1 << 20 };

	(void)state;
	assert_int_equal(wire_payload(&header), 0);
	header.type = WIRE_COPY_ZERO;
	assert_int_equal(wire_payload(&header), 0);
	header.type = WIRE_VERIFY;
	assert_int_equal(wire_payload(&header), WIRE_DIGEST);
	header.type = WIRE_WRITE;
	assert_int_equal(wire_payload(&header), 1 << 20);
}

static void
test_low_bits_are_widened_to_the_nearest_number(void **state)
{
	(void)state;
	assert_true(wire_widen(5, 3) == 5);
	assert_true(wire_widen(3, 5) == 3);
	assert_true(wire_widen(2, 0xfffffffe) == 0x100000002);
	assert_true(wire_widen(0xfffffffe, 0x100000002) == 0xfffffffe);
	assert_true(wire_widen(0x10, 0x7fffffff00000000) == 0x7fffffff00000010);
}

static void
test_acknowledgements_survive_the_way(void **state)
{
	const struct wire_ack acks[3] = {
		{ 1, WIRE_ACK_RECEIVED, 0 },
		{ 0x1234567890, WIRE_ACK_WRITTEN, -EIO },
		{ UINT64_MAX, WIRE_ACK_DURABLE, -ENOSPC },
	};
	struct wire_ack back[WIRE_ACKS_MAX];
	unsigned char bytes[3 * WIRE_ACK_BYTES];

	(void)state;
	wire_encode_acks(acks, 3, bytes);
	assert_int_equal(wire_decode_acks(bytes, sizeof(bytes), back), 3);
	for (int i = 0; i < 3; i++) {
		assert_true(back[i].sequence == acks[i].sequence);
		assert_int_equal(back[i].kind, acks[i].kind);
		assert_int_equal(back[i].status, acks[i].status);
	}
}

static void
test_impossible_acknowledgements_are_refused(void **state)
{
	const struct wire_ack ack = { 5, WIRE_ACK_WRITTEN, -EIO };
	static const struct {
		unsigned int at;
		unsigned char value;
	} cases[] = {
		{ 0, 0 },     /* sequence 0 */
		{ 8, 0 },     /* kind */
		{ 8, 4 },     /* kind */
		{ 8, 1 },     /* received, but failed */
		{ 11, 0x10 }, /* no error has such a number */
		{ 12, 1 },    /* reserved */
	};
	struct wire_ack back[WIRE_ACKS_MAX];
	unsigned char bytes[WIRE_ACK_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		wire_encode_acks(&ack, 1, bytes);
		bytes[cases[i].at] = cases[i].value;
		assert_int_equal(wire_decode_acks(bytes, sizeof(bytes), back),
				 -EPROTO);
	}
	wire_encode_acks(&ack, 1, bytes);
	assert_int_equal(wire_decode_acks(bytes, 0, back), -EPROTO);
	assert_int_equal(wire_decode_acks(bytes, 15, back), -EPROTO);
}

static void
test_sentences_come_without_what_upsets_a_terminal(void **state)
{
	unsigned char bytes[WIRE_TEXT_MAX];
	char text[WIRE_TEXT_MAX + 1];
	char longer[WIRE_TEXT_MAX + 100];

	(void)state;
	wire_decode_text((const unsigned char *)"a\033[2Jb\nc\0d\xc3\xa9", 12,
			 text);
	assert_string_equal(text, "a?[2Jb?c?d\xc3\xa9");
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(wire_encode_text(longer, bytes), WIRE_TEXT_MAX);
	wire_decode_text(bytes, WIRE_TEXT_MAX, text);
	assert_int_equal(strlen(text), WIRE_TEXT_MAX);
}

/* --- hello --- */

static struct wire_hello
a_hello(void)
{
	struct wire_hello hello;

	memset(&hello, 0, sizeof(hello));
	hello.version_min = WIRE_VERSION_MIN;
	hello.version_max = WIRE_VERSION_MAX;
	hello.features_compatible = 0x80000000;
	hello.header_length = WIRE_HEADER;
	hello.role = WIRE_SECONDARY;
	hello.flags = WIRE_ACTIVE | WIRE_KEYED;
	memset(hello.disk_id, 0xd1, WIRE_ID);
	memset(hello.replica_id, 0x4e, WIRE_ID);
	hello.size = 1ull << 40;
	hello.sector_size = 4096;
	hello.window = 512;
	hello.payload_max = WIRE_PAYLOAD_MAX;
	hello.incarnation = 9;
	hello.peer_incarnation = 8;
	hello.session = 0xfeedface;
	hello.received = 100;
	hello.unacknowledged = 90;
	hello.epoch = 12;
	memset(hello.nonce, 0x5a, WIRE_NONCE);
	memcpy(hello.name, "vm1", 4);
	history_append(&hello.history, 0xaaaa, 1, 0);
	history_append(&hello.history, 0xbbbb, 5, HISTORY_FORCED);
	return hello;
}

static void
test_a_hello_survives_the_way(void **state)
{
	struct wire_hello hello = a_hello(), back;
	unsigned char bytes[WIRE_HELLO_MAX];
	size_t length = wire_encode_hello(&hello, bytes);

	(void)state;
	memset(&back, 0, sizeof(back));
	assert_int_equal(length,
			 216 + HISTORY_HEAD_BYTES + 2 * HISTORY_ENTRY_BYTES);
	assert_int_equal(wire_decode_hello(bytes, length, &back, NULL), 0);
	assert_true(history_equal(&back.history, &hello.history));
	assert_int_equal(back.history.entry[1].flags, HISTORY_FORCED);
	memset(hello.partner, 0x4f, WIRE_ID);
	hello.met = 7;
	hello.stood = 6;
	length = wire_encode_hello(&hello, bytes);
	assert_int_equal(wire_decode_hello(bytes, length, &back, NULL), 0);
	assert_memory_equal(back.partner, hello.partner, WIRE_ID);
	assert_true(back.met == 7 && back.stood == 6);
	hello.stood = 8; /* of a meeting that was not */
	length = wire_encode_hello(&hello, bytes);
	assert_int_equal(wire_decode_hello(bytes, length, &back, NULL),
			 -EPROTO);
	hello.stood = 6;
	memset(hello.partner, 0, WIRE_ID); /* met, and nobody */
	hello.fork.timeline = 1;
	length = wire_encode_hello(&hello, bytes);
	assert_int_equal(wire_decode_hello(bytes, length, &back, NULL),
			 -EPROTO);
	memset(hello.partner, 0x4f, WIRE_ID);
	hello.fork = (struct wire_fork){ .bytes = 512 }; /* of no timeline */
	length = wire_encode_hello(&hello, bytes);
	assert_int_equal(wire_decode_hello(bytes, length, &back, NULL),
			 -EPROTO);
	hello.fork.bytes = 0;
	memset(&back.history, 0, sizeof(back.history));
	memset(&hello.history, 0, sizeof(hello.history));
	assert_memory_equal(&back, &hello, sizeof(hello));
}

static void
test_the_longest_history_fits_into_a_hello(void **state)
{
	struct wire_hello hello = a_hello(), back;
	unsigned char bytes[WIRE_HELLO_MAX];
	size_t length;

	(void)state;
	for (uint64_t i = 0; i < HISTORY_MAX + 10; i++)
		history_append(&hello.history, i, 100 + i, 0);
	hello.epoch = 5000;
	length = wire_encode_hello(&hello, bytes);
	assert_true(length <= WIRE_HELLO_MAX);
	assert_int_equal(wire_decode_hello(bytes, length, &back, NULL), 0);
	assert_true(history_equal(&back.history, &hello.history));
}

static void
test_a_newer_version_is_refused_and_both_are_named(void **state)
{
	struct wire_hello hello = a_hello(), back;
	unsigned char bytes[WIRE_HELLO_MAX];
	struct reason reason = { "" };

	(void)state;
	hello.version_min = hello.version_max = WIRE_VERSION_MAX + 1;
	wire_encode_hello(&hello, bytes);
	/* the rest may look like anything in another version */
	memset(bytes + WIRE_HELLO_PREFIX, 0xff, 100);
	assert_int_equal(wire_decode_hello(bytes, WIRE_HELLO_PREFIX + 100,
					   &back, &reason),
			 -EPROTONOSUPPORT);
	assert_non_null(strstr(reason.text, "versions 2 to 2"));
	assert_non_null(strstr(reason.text, "this side 1 to 1"));
}

static void
test_a_range_of_versions_that_includes_ours_is_accepted(void **state)
{
	struct wire_hello hello = a_hello(), back;
	unsigned char bytes[WIRE_HELLO_MAX];
	size_t length;

	(void)state;
	hello.version_max = WIRE_VERSION_MAX + 5;
	length = wire_encode_hello(&hello, bytes);
	assert_int_equal(wire_decode_hello(bytes, length, &back, NULL), 0);
	/* and what such a peer may add at the end is ignored */
	bytes[length] = 0xee;
	assert_int_equal(wire_decode_hello(bytes, length + 1, &back, NULL), 0);
}

static void
test_an_unknown_feature_that_is_needed_is_refused(void **state)
{
	struct wire_hello hello = a_hello(), back;
	unsigned char bytes[WIRE_HELLO_MAX];
	struct reason reason = { "" };
	size_t length;

	(void)state;
	hello.features_incompatible = 0x10;
	length = wire_encode_hello(&hello, bytes);
	assert_int_equal(wire_decode_hello(bytes, length, &back, &reason),
			 -EPROTONOSUPPORT);
	assert_non_null(strstr(reason.text, "0x10"));
}

static void
test_impossible_hellos_are_refused_in_words(void **state)
{
	static const struct {
		unsigned int at, size;
		uint64_t value;
		const char *words;
	} cases[] = {
		{ 0, 2, 0, "no range" },
		{ 0, 4, 0x00010002, "no range" },
		{ 12, 2, 96, "header length" },
		{ 14, 2, 0, "role" },
		{ 14, 2, 3, "role" },
		{ 16, 4, 0x100, "flags" },
		{ 20, 4, 0, "sector size" },
		{ 20, 4, 513, "sector size" },
		{ 20, 4, 1 << 20, "sector size" },
		{ 56, 8, 0, "size" },
		{ 56, 8, 513, "size" },
		{ 56, 8, UINT64_MAX - 511, "size" },
		{ 64, 4, 0, "window" },
		{ 68, 4, 100, "longest payload" },
		{ 88, 8, 0, "session" },
		{ 112, 8, 4, "epoch" }, /* before the history's last */
		{ 152, 1, 0x1b, "name" },
		{ 155, 1, 'x', NULL }, /* "vm1x" */
		{ 200, 1, 'x', "name" },
		{ 216, 4, HISTORY_MAX + 1, "history" },
		{ 216, 4, 3, "history" },
		{ 216 + 48 + 24 + 8, 8, 1, "history" }, /* not growing */
	};
	struct wire_hello hello = a_hello(), back;
	unsigned char bytes[WIRE_HELLO_MAX];
	struct reason reason;
	size_t length;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		length = wire_encode_hello(&hello, bytes);
		for (unsigned int j = 0; j < cases[i].size; j++)
			bytes[cases[i].at + j] =
				(unsigned char)(cases[i].value >> (8 * j));
		if (cases[i].words == NULL) {
			assert_int_equal(
				wire_decode_hello(bytes, length, &back, NULL),
				0);
			continue;
		}
		assert_int_equal(
			wire_decode_hello(bytes, length, &back, &reason),
			-EPROTO);
		assert_non_null(strstr(reason.text, cases[i].words));
	}
	memset(hello.replica_id, 0, WIRE_ID);
	length = wire_encode_hello(&hello, bytes);
	assert_int_equal(wire_decode_hello(bytes, length, &back, &reason),
			 -EPROTO);
	assert_non_null(strstr(reason.text, "replica id"));
	hello = a_hello();
	memset(hello.disk_id, 0, WIRE_ID);
	length = wire_encode_hello(&hello, bytes);
	assert_int_equal(wire_decode_hello(bytes, length, &back, &reason),
			 -EPROTO);
	assert_non_null(strstr(reason.text, "disk"));
	hello = a_hello();
	length = wire_encode_hello(&hello, bytes);
	for (size_t cut = 0; cut < length; cut++)
		assert_int_equal(wire_decode_hello(bytes, cut, &back, NULL),
				 -EPROTO);
}

/* --- begin and synced --- */

static void
test_a_begin_survives_the_way_and_is_checked(void **state)
{
	struct wire_begin begin = { .session = 3,
				    .outcome = MEETING_EQUAL_WE_SOURCE,
				    .timeline = 0xaa,
				    .epoch = 17,
				    .incarnation = 99,
				    .resume_copy = true,
				    .clean = true },
			  back;
	static const struct {
		unsigned int at;
		unsigned char value;
	} cases[] = {
		{ 0, 0 },     /* no session */
		{ 8, 0 },     /* refuse */
		{ 8, 2 },     /* who begins is the source */
		{ 8, 5 },     /* diverged */
		{ 12, 4 },    /* flags */
		{ 39, 0x80 }, /* an incarnation at its end */
	};
	unsigned char bytes[WIRE_BEGIN_BYTES];

	(void)state;
	assert_int_equal(wire_encode_begin(&begin, bytes), WIRE_BEGIN_BYTES);
	assert_int_equal(wire_decode_begin(bytes, sizeof(bytes), &back), 0);
	assert_true(back.session == 3 && back.timeline == 0xaa &&
		    back.epoch == 17 && back.resume_copy && back.clean &&
		    back.incarnation == 99);
	assert_int_equal(back.outcome, MEETING_EQUAL_WE_SOURCE);
	assert_int_equal(wire_decode_begin(bytes, 39, &back), -EPROTO);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		wire_encode_begin(&begin, bytes);
		bytes[cases[i].at] = cases[i].value;
		assert_int_equal(wire_decode_begin(bytes, sizeof(bytes), &back),
				 -EPROTO);
	}
}

static void
test_regions_survive_the_way_and_are_checked(void **state)
{
	static const struct {
		unsigned int at;
		unsigned char value;
	} cases[] = {
		{ 0, 2 },		    /* flags */
		{ 4, 2 },		    /* count */
		{ 5, 1 },		    /* count */
		{ 16, 0 },		    /* an empty range */
		{ 15, 0x80 }, { 23, 0x80 }, /* beyond all disks */
	};
	const struct wire_region region = { 1ull << 40, 9 };
	static struct wire_region back[WIRE_REGIONS_MAX];
	unsigned char bytes[WIRE_REGIONS_HEAD + WIRE_REGION_BYTES];
	bool last = false;

	(void)state;
	assert_int_equal(wire_encode_regions(&region, 1, true, bytes),
			 sizeof(bytes));
	assert_int_equal(wire_decode_regions(bytes, sizeof(bytes), back, &last),
			 1);
	assert_true(last && back[0].offset == 1ull << 40 &&
		    back[0].length == 9);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		wire_encode_regions(&region, 1, true, bytes);
		bytes[cases[i].at] = cases[i].value;
		assert_int_equal(
			wire_decode_regions(bytes, sizeof(bytes), back, &last),
			-EPROTO);
	}
	assert_int_equal(wire_decode_regions(bytes, 7, back, &last), -EPROTO);
	assert_int_equal(wire_encode_regions(NULL, 0, false, bytes), 8);
	assert_int_equal(wire_decode_regions(bytes, 8, back, &last), 0);
	assert_false(last);
}

static void
test_a_checkpoint_survives_the_way_and_is_checked(void **state)
{
	static const struct {
		unsigned int at;
		unsigned char value;
	} cases[] = {
		{ 0, 0 },    { 0, 4 }, /* order */
		{ 4, 1 },	       /* zero */
		{ 8, 0 },	       /* a name that begins with its end */
		{ 10, ' ' },	       /* no name has one */
		{ 72, 0 },	       /* no timeline */
		{ 88, 2 },	       /* flags */
		{ 103, 1 },	       /* means nothing */
	};
	struct wire_checkpoint checkpoint = {
		.order = WIRE_CONFIRM,
		.row = { .name = "monday", .timeline = 7, .epoch = 12 },
	};
	unsigned char bytes[WIRE_CHECKPOINT_BYTES];
	struct wire_checkpoint back;

	(void)state;
	wire_encode_checkpoint(&checkpoint, bytes);
	assert_int_equal(wire_decode_checkpoint(bytes, sizeof(bytes), &back),
			 0);
	assert_int_equal(back.order, WIRE_CONFIRM);
	assert_string_equal(back.row.name, "monday");
	assert_true(back.row.timeline == 7 && back.row.epoch == 12);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		wire_encode_checkpoint(&checkpoint, bytes);
		bytes[cases[i].at] = cases[i].value;
		assert_int_equal(
			wire_decode_checkpoint(bytes, sizeof(bytes), &back),
			-EPROTO);
	}
	assert_int_equal(wire_decode_checkpoint(bytes, 103, &back), -EPROTO);
	/* a cut may be without a name */
	memset(checkpoint.row.name, 0, sizeof(checkpoint.row.name));
	checkpoint.order = WIRE_CUT;
	wire_encode_checkpoint(&checkpoint, bytes);
	assert_int_equal(wire_decode_checkpoint(bytes, sizeof(bytes), &back),
			 0);
}

static void
test_a_synced_survives_the_way_and_is_checked(void **state)
{
	static struct wire_synced synced, back;
	unsigned char bytes[WIRE_SYNCED_MAX + 1];
	size_t length;

	(void)state;
	memset(&synced, 0, sizeof(synced));
	synced.epoch = 2000;
	memset(synced.disk_id, 7, WIRE_ID);
	for (uint64_t i = 0; i < HISTORY_MAX + 3; i++)
		history_append(&synced.history, i, 1 + i, 0);
	synced.wide_epoch = 1999;
	synced.checkpoints = METADATA_CHECKPOINTS;
	for (unsigned int i = 0; i < METADATA_CHECKPOINTS; i++) {
		struct metadata_checkpoint *row = &synced.checkpoint[i];

		snprintf(row->name, sizeof(row->name), "day-%u", i);
		row->timeline = 5;
		row->epoch = i;
		row->confirmed = i % 2;
	}
	length = wire_encode_synced(&synced, bytes);
	assert_int_equal(wire_decode_synced(bytes, length, &back), 0);
	assert_int_equal(back.wide_epoch, 1999);
	assert_int_equal(back.checkpoints, METADATA_CHECKPOINTS);
	for (unsigned int i = 0; i < METADATA_CHECKPOINTS; i++) {
		assert_string_equal(back.checkpoint[i].name,
				    synced.checkpoint[i].name);
		assert_int_equal(back.checkpoint[i].epoch, i);
		assert_int_equal(back.checkpoint[i].confirmed, i % 2);
	}
	bytes[length - 1] = 1; /* of a row, and means nothing */
	assert_int_equal(wire_decode_synced(bytes, length, &back), -EPROTO);
	bytes[length - 1] = 0;
	bytes[length - 96] = ' '; /* no name has one */
	assert_int_equal(wire_decode_synced(bytes, length, &back), -EPROTO);
	bytes[length - 96] = 'd';
	assert_true(back.epoch == 2000);
	assert_memory_equal(back.disk_id, synced.disk_id, WIRE_ID);
	assert_true(history_equal(&back.history, &synced.history));
	assert_int_equal(wire_decode_synced(bytes, length - 1, &back), -EPROTO);
	assert_int_equal(wire_decode_synced(bytes, length + 1, &back), -EPROTO);
	assert_int_equal(wire_decode_synced(bytes, 10, &back), -EPROTO);
	synced.epoch = 1000; /* before the history's last */
	length = wire_encode_synced(&synced, bytes);
	assert_int_equal(wire_decode_synced(bytes, length, &back), -EPROTO);
	synced.epoch = 2000;
	memset(synced.disk_id, 0, WIRE_ID);
	length = wire_encode_synced(&synced, bytes);
	assert_int_equal(wire_decode_synced(bytes, length, &back), -EPROTO);
	memset(synced.disk_id, 7, WIRE_ID);
	synced.history.count = 0;
	synced.history.dropped = 0;
	memset(synced.history.digest, 0, HISTORY_DIGEST);
	length = wire_encode_synced(&synced, bytes);
	assert_int_equal(wire_decode_synced(bytes, length, &back), -EPROTO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_checksum_is_crc32c),
		cmocka_unit_test(
			test_a_header_has_the_bytes_that_the_protocol_says),
		cmocka_unit_test(test_a_header_survives_the_way),
		cmocka_unit_test(test_any_flipped_bit_of_a_header_is_noticed),
		cmocka_unit_test(test_impossible_headers_are_refused_in_words),
		cmocka_unit_test(test_each_type_has_its_own_shape),
		cmocka_unit_test(
			test_ranges_without_their_bytes_have_other_payloads),
		cmocka_unit_test(
			test_low_bits_are_widened_to_the_nearest_number),
		cmocka_unit_test(test_acknowledgements_survive_the_way),
		cmocka_unit_test(test_impossible_acknowledgements_are_refused),
		cmocka_unit_test(
			test_sentences_come_without_what_upsets_a_terminal),
		cmocka_unit_test(test_a_hello_survives_the_way),
		cmocka_unit_test(test_the_longest_history_fits_into_a_hello),
		cmocka_unit_test(
			test_a_newer_version_is_refused_and_both_are_named),
		cmocka_unit_test(
			test_a_range_of_versions_that_includes_ours_is_accepted),
		cmocka_unit_test(
			test_an_unknown_feature_that_is_needed_is_refused),
		cmocka_unit_test(test_impossible_hellos_are_refused_in_words),
		cmocka_unit_test(test_a_begin_survives_the_way_and_is_checked),
		cmocka_unit_test(test_a_synced_survives_the_way_and_is_checked),
		cmocka_unit_test(test_regions_survive_the_way_and_are_checked),
		cmocka_unit_test(
			test_a_checkpoint_survives_the_way_and_is_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
