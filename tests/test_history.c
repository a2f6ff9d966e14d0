/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_history - the list of timelines: what it keeps, what it forgets and how
 * that is told, and its bytes.
 */
#include "tests/test.h"

#include <errno.h>
#include <string.h>

#include "replication/history.h"

static const unsigned char zeros[HISTORY_DIGEST];

static void
append(struct history *history, uint64_t from, uint64_t count)
{
	for (uint64_t i = from; i < from + count; i++)
		history_append(history, 0x1000 + i, 10 + 2 * i,
			       i % 7 == 3 ? HISTORY_FORCED : 0);
}

static void
test_a_null_history_has_no_last_entry(void **state)
{
	struct history history = { .count = 0 };

	(void)state;
	assert_null(history_last(&history));
	assert_int_equal(history_check(&history), 0);
	assert_false(history_holds(&history, 0, 0));
	append(&history, 0, 2);
	assert_int_equal(history_last(&history)->timeline, 0x1001);
	assert_int_equal(history_last(&history)->first_epoch, 12);
}

static void
test_a_position_lies_on_the_history_between_its_entries(void **state)
{
	struct history history = { .count = 0 };

	(void)state;
	history_append(&history, 0xa, 5, 0);
	history_append(&history, 0xb, 9, 0);
	assert_false(history_holds(&history, 0xa, 4));
	assert_true(history_holds(&history, 0xa, 5));
	assert_true(history_holds(&history, 0xa, 8));
	assert_false(history_holds(&history, 0xa, 9));
	assert_false(history_holds(&history, 0xb, 8));
	assert_true(history_holds(&history, 0xb, 9));
	assert_true(history_holds(&history, 0xb, UINT64_MAX));
	assert_false(history_holds(&history, 0xc, 9));
}

/* H0: 1,024 entries are kept. */
static void
test_the_oldest_are_dropped_and_leave_a_count_and_a_digest(void **state)
{
	static struct history history, other;

	(void)state;
	memset(&history, 0, sizeof(history));
	append(&history, 0, HISTORY_MAX);
	assert_int_equal(history.count, HISTORY_MAX);
	assert_int_equal(history.dropped, 0);
	assert_memory_equal(history.digest, zeros, HISTORY_DIGEST);
	append(&history, HISTORY_MAX, 3);
	assert_int_equal(history.count, HISTORY_MAX);
	assert_int_equal(history.dropped, 3);
	assert_memory_not_equal(history.digest, zeros, HISTORY_DIGEST);
	assert_int_equal(history.entry[0].timeline, 0x1003);
	assert_int_equal(history_last(&history)->timeline,
			 0x1000 + HISTORY_MAX + 2);
	assert_int_equal(history_check(&history), 0);
	assert_false(history_holds(&history, 0x1002, 14));
	assert_true(history_holds(&history, 0x1003, 16));

	/* another past, the same present */
	memset(&other, 0, sizeof(other));
	history_append(&other, 0x999, 10, 0);
	append(&other, 1, HISTORY_MAX + 2);
	assert_int_equal(other.dropped, history.dropped);
	assert_false(history_equal(&history, &other));
}

/* docs/format.md: SHA-256 over the digest before, timeline, first epoch. */
static void
test_the_digest_is_the_documented_one(void **state)
{
	/* sha256 of 32 zero bytes, 0x1000 and 10, little-endian */
	static const unsigned char first[HISTORY_DIGEST] = {
		0xc6, 0xba, 0xe8, 0x3e, 0x2a, 0x58, 0xe1, 0xd8,
		0xcc, 0x8d, 0xb3, 0x7b, 0xdd, 0xf7, 0x4f, 0x9a,
		0xfe, 0xb0, 0x7c, 0x6e, 0x8d, 0x34, 0x5b, 0xd6,
		0x17, 0x78, 0x3f, 0xb3, 0x8b, 0x44, 0x47, 0xfc
	};
	static struct history history;

	(void)state;
	memset(&history, 0, sizeof(history));
	append(&history, 0, HISTORY_MAX + 1);
	assert_memory_equal(history.digest, first, HISTORY_DIGEST);
}

static void
test_equal_means_timelines_and_first_epochs(void **state)
{
	static struct history a, b;

	(void)state;
	memset(&a, 0, sizeof(a));
	append(&a, 0, 5);
	b = a;
	assert_true(history_equal(&a, &b));
	b.entry[2].flags ^= HISTORY_FORCED;
	assert_true(history_equal(&a, &b));
	b.entry[4].first_epoch++;
	assert_false(history_equal(&a, &b));
	b = a;
	b.entry[0].timeline++;
	assert_false(history_equal(&a, &b));
	b = a;
	b.count--;
	assert_false(history_equal(&a, &b));
}

static unsigned char
	bytes[HISTORY_HEAD_BYTES + HISTORY_MAX * HISTORY_ENTRY_BYTES];

static void
test_a_history_is_read_as_it_was_written(void **state)
{
	static const uint64_t counts[] = {
		0, 1, 2, 100, HISTORY_MAX, HISTORY_MAX + 1, 3 * HISTORY_MAX
	};
	static struct history history, back;

	(void)state;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		size_t length;

		memset(&history, 0, sizeof(history));
		append(&history, 0, counts[i]);
		length = history_encode(&history, bytes);
		assert_int_equal(length,
				 HISTORY_HEAD_BYTES +
					 history.count * HISTORY_ENTRY_BYTES);
		assert_int_equal(history_decode(bytes, length, &back), length);
		assert_true(history_equal(&history, &back));
		for (uint32_t j = 0; j < history.count; j++)
			assert_int_equal(history.entry[j].flags,
					 back.entry[j].flags);
		/* what follows belongs to somebody else */
		assert_int_equal(history_decode(bytes, sizeof(bytes), &back),
				 length);
		if (length > HISTORY_HEAD_BYTES)
			assert_int_equal(
				history_decode(bytes, length - 1, &back),
				-EBADMSG);
	}
	assert_int_equal(history_decode(bytes, HISTORY_HEAD_BYTES - 1, &back),
			 -EBADMSG);
}

static long
decode_with(size_t at, unsigned int size, uint64_t value)
{
	static unsigned char changed[sizeof(bytes)];
	static struct history back;

	memcpy(changed, bytes, sizeof(bytes));
	for (unsigned int i = 0; i < size; i++)
		changed[at + i] = (unsigned char)(value >> (8 * i));
	return history_decode(changed, sizeof(changed), &back);
}

static void
test_histories_that_cannot_be_are_refused(void **state)
{
	static struct history history;

	(void)state;
	memset(&history, 0, sizeof(history));
	append(&history, 0, 5);
	history_encode(&history, bytes);
	assert_true(decode_with(0, 0, 0) > 0);
	assert_int_equal(decode_with(0, 4, HISTORY_MAX + 1), -EBADMSG);
	assert_int_equal(decode_with(4, 4, 1), -EBADMSG);
	assert_int_equal(decode_with(8, 8, 1), -EBADMSG);  /* not full */
	assert_int_equal(decode_with(16, 1, 1), -EBADMSG); /* none dropped */
	assert_int_equal(decode_with(48 + 8, 8, 0), -EBADMSG);
	assert_int_equal(decode_with(48 + 24 + 8, 8, 10), -EBADMSG);
	assert_int_equal(decode_with(48 + 16, 4, 2), -EBADMSG); /* flags */
	assert_int_equal(decode_with(48 + 20, 4, 1), -EBADMSG);

	append(&history, 5, HISTORY_MAX);
	history_encode(&history, bytes);
	assert_true(decode_with(0, 0, 0) > 0);
	assert_int_equal(decode_with(8, 8, UINT64_MAX), -EBADMSG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_null_history_has_no_last_entry),
		cmocka_unit_test(
			test_a_position_lies_on_the_history_between_its_entries),
		cmocka_unit_test(
			test_the_oldest_are_dropped_and_leave_a_count_and_a_digest),
		cmocka_unit_test(test_the_digest_is_the_documented_one),
		cmocka_unit_test(test_equal_means_timelines_and_first_epochs),
		cmocka_unit_test(test_a_history_is_read_as_it_was_written),
		cmocka_unit_test(test_histories_that_cannot_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
