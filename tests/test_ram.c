/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * drivers/ram and drivers/null: disks without a file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/disk.h"
#include "tests/test.h"

#define MIB (1ll << 20)

static int
setup(void **state)
{
	*state = disk_new(NULL, NULL);
	return 0;
}

static int
teardown(void **state)
{
	disk_free(*state);
	return 0;
}

static void
test_sizes_are_understood_or_refused(void **state)
{
	static const struct {
		const char *image;
		long long bytes; /* 0: refused */
	} cases[] = {
		{ "null:512", 512 },
		{ "null:64K", 64 << 10 },
		{ "null:64m", 64 << 20 },
		{ "null:1G", 1ll << 30 },
		{ "null:2T", 2ll << 40 },
		{ "ram:1M", MIB },
		{ "ram:", 0 },
		{ "ram:0", 0 },
		{ "ram:511", 0 },
		{ "ram:1Mb", 0 },
		{ "ram:-1", 0 },
		{ "ram: 1M", 0 },
		{ "null:1.5G", 0 },
		{ "null:99999999999999999999", 0 },
		{ "null:9999999T", 0 },
		{ "ram:0x200", 0 },
	};
	struct disk *disk = *state;
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (cases[i].bytes == 0) {
			assert_int_equal(disk_open(disk, cases[i].image, 0),
					 -EINVAL);
			assert_non_null(
				strstr(disk->reason.text, "for example 64M"));
			continue;
		}
		assert_int_equal(disk_open(disk, cases[i].image, 0), 0);
		assert_int_equal(vbd_size(disk->vbd), cases[i].bytes);
		assert_int_equal(disk_close(disk), 0);
	}
}

static void
test_ram_keeps_what_is_written_until_it_is_closed(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk, "ram:4M", 0), 0);
	assert_true(disk_holds(disk, 0, MIB, 0));
	assert_int_equal(disk_fill(disk, 512, MIB, 'r'), 0);
	assert_true(disk_holds(disk, 0, 512, 0));
	assert_true(disk_holds(disk, 512, MIB, 'r'));
	assert_true(disk_holds(disk, 512 + MIB, MIB, 0));
	assert_int_equal(disk_flush(disk), 0);
	assert_int_equal(disk_close(disk), 0);
	assert_int_equal(disk_open(disk, "ram:4M", 0), 0);
	assert_true(disk_holds(disk, 0, MIB, 0));
}

static void
test_two_rams_share_nothing(void **state)
{
	struct disk *disk = *state, *other = disk_new(NULL, NULL);

	assert_int_equal(disk_open(disk, "ram:1M", 0), 0);
	assert_int_equal(disk_open(other, "ram:1M", 0), 0);
	assert_int_equal(disk_fill(disk, 0, MIB, 'r'), 0);
	assert_true(disk_holds(other, 0, MIB, 0));
	disk_free(other);
}

static void
test_zeroed_and_discarded_ranges_of_ram_read_as_zeros(void **state)
{
	static const int ops[] = { TD_OP_DISCARD, TD_OP_WRITE_ZEROES,
				   TD_OP_WRITE_ZEROES };
	/* inside a page, across pages, whole pages */
	static const struct {
		uint64_t offset, length;
	} ranges[] = {
		{ 512, 1024 },	 { 4096 - 512, 1024 }, { 512, 65536 },
		{ 8192, 65536 }, { 0, MIB },
	};
	struct disk *disk = *state;
	size_t i, j;

	assert_int_equal(disk_open(disk, "ram:2M", 0), 0);
	for (i = 0; i < 3; i++) {
		for (j = 0; j < sizeof(ranges) / sizeof(ranges[0]); j++) {
			uint64_t from = ranges[j].offset;
			uint64_t to = from + ranges[j].length;

			assert_int_equal(disk_fill(disk, 0, 2 * MIB, 'z'), 0);
			assert_int_equal(disk_do(disk, ops[i], from, to - from,
						 NULL,
						 i == 2 ? REQUEST_NO_UNMAP : 0),
					 0);
			assert_true(from == 0 ||
				    disk_holds(disk, 0, from, 'z'));
			assert_true(disk_holds(disk, from, to - from, 0));
			assert_true(disk_holds(disk, to, 2 * MIB - to, 'z'));
		}
	}
}

static void
test_ram_grows_and_never_shrinks(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk, "ram:1M", 0), 0);
	assert_int_equal(disk_fill(disk, 0, MIB, 'r'), 0);
	assert_int_equal(vbd_resize(disk->vbd, 64 * MIB, &disk->reason), 0);
	assert_int_equal(vbd_size(disk->vbd), 64 * MIB);
	assert_true(disk_holds(disk, 0, MIB, 'r'));
	assert_true(disk_holds(disk, 63 * MIB, MIB, 0));
	assert_int_equal(disk_fill(disk, 63 * MIB, MIB, 'e'), 0);
	assert_true(vbd_resize(disk->vbd, MIB, &disk->reason) < 0);
	assert_int_equal(vbd_size(disk->vbd), 64 * MIB);
}

static void
test_null_reads_zeros_whatever_was_written(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk, "null:1G", 0), 0);
	assert_int_equal(disk_fill(disk, 4096, MIB, 'n'), 0);
	assert_true(disk_holds(disk, 4096, MIB, 0));
	assert_int_equal(disk_do(disk, TD_OP_DISCARD, 0, MIB, NULL, 0), 0);
	assert_int_equal(disk_do(disk, TD_OP_WRITE_ZEROES, 0, MIB, NULL, 0), 0);
	assert_int_equal(disk_flush(disk), 0);
	assert_int_equal(disk_do(disk, TD_OP_BLOCK_STATUS, 0, MIB, NULL, 0), 0);
	assert_int_equal(disk->extents.count, 1);
	assert_int_equal(disk->extents.extent[0].flags,
			 TD_EXTENT_HOLE | TD_EXTENT_ZERO);
	assert_int_equal(vbd_resize(disk->vbd, 2ll << 30, &disk->reason), 0);
	assert_int_equal(vbd_size(disk->vbd), 2ll << 30);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sizes_are_understood_or_refused),
		TEST(test_ram_keeps_what_is_written_until_it_is_closed),
		TEST(test_two_rams_share_nothing),
		TEST(test_zeroed_and_discarded_ranges_of_ram_read_as_zeros),
		TEST(test_ram_grows_and_never_shrinks),
		TEST(test_null_reads_zeros_whatever_was_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
