/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * drivers/aio: a file below a vbd.  Everything runs over both back-ends, on
 * ${TMPDIR:-/tmp} and, where there is one, on a tmpfs.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "tests/disk.h"
#include "tests/test.h"

#define MIB (1ll << 20)

static char libaio[] = "libaio", uring[] = "io_uring";

static int
setup(void **state)
{
	*state = disk_new(*state, NULL);
	return 0;
}

static int
teardown(void **state)
{
	disk_free(*state);
	return 0;
}

static char *
buffer_new(size_t bytes, int byte)
{
	char *buf = aligned_alloc(4096, bytes);

	memset(buf, byte, bytes);
	return buf;
}

/* --- what can be opened --- */

static void
test_what_was_written_is_read_back_and_is_in_the_file(void **state)
{
	struct disk *disk = *state;
	const char *image = disk_file(disk, "a.img", MIB);
	char in[512];
	int fd;

	assert_int_equal(disk_open(disk, image, 0), 0);
	assert_int_equal(vbd_size(disk->vbd), MIB);
	assert_int_equal(disk_fill(disk, 4096, 8192, 'x'), 0);
	assert_true(disk_holds(disk, 0, 4096, 0));
	assert_true(disk_holds(disk, 4096, 8192, 'x'));
	assert_true(disk_holds(disk, 12288, MIB - 12288, 0));
	assert_int_equal(disk_flush(disk), 0);
	assert_int_equal(disk_close(disk), 0);

	fd = open(disk_path(disk, "a.img"), O_RDONLY);
	assert_int_equal(pread(fd, in, sizeof(in), 4096), sizeof(in));
	assert_int_equal(in[0], 'x');
	assert_int_equal(in[511], 'x');
	close(fd);
}

static void
assert_refused(struct disk *disk, const char *image, td_flag_t flags, int error,
	       const char *sentence)
{
	assert_int_equal(disk_open(disk, image, flags), error);
	if (!strstr(disk->reason.text, sentence))
		fail_msg("\"%s\" does not say \"%s\"", disk->reason.text,
			 sentence);
}

static void
test_each_unusable_image_is_refused_with_its_own_sentence(void **state)
{
	struct disk *disk = *state;
	char image[600];

	assert_refused(disk, "aio:", 0, -EINVAL, "write the path");
	snprintf(image, sizeof(image), "aio:%s", disk_path(disk, "missing"));
	assert_refused(disk, image, 0, -ENOENT, "there is no such file");
	snprintf(image, sizeof(image), "aio:%s", disk->directory);
	assert_refused(disk, image, 0, -EISDIR, "it is a directory");
	assert_refused(disk, disk_file(disk, "empty", 0), 0, -EINVAL,
		       "it is empty");
	assert_refused(disk, disk_file(disk, "short", 511), 0, -EINVAL,
		       "shorter than one sector");
	assert_refused(disk, disk_file(disk, "ragged", 10 * 512 + 1), 0,
		       -EINVAL, "5121 bytes does not end with a sector");
	assert_refused(disk, "aio:/dev/null", 0, -EINVAL,
		       "neither a file nor a block device");
	assert_int_equal(mkfifo(disk_path(disk, "pipe"), 0600), 0);
	snprintf(image, sizeof(image), "aio:%s", disk_path(disk, "pipe"));
	assert_refused(disk, image, TD_OPEN_RDONLY, -EINVAL,
		       "neither a file nor a block device");
}

/* Root may write anything, so it becomes somebody else for a while. */
static void
test_unwritable_image_is_refused_for_writing_only(void **state)
{
	enum {
		NOBODY = 65534
	};
	struct disk *disk = *state;
	const char *image = disk_file(disk, "a.img", MIB);

	assert_int_equal(chmod(disk->directory, 0755), 0);
	assert_int_equal(chmod(disk_path(disk, "a.img"), 0444), 0);
	if (geteuid() == 0)
		setfsuid(NOBODY);
	assert_refused(disk, image, 0, -EACCES, "cannot be opened for writing");
	assert_int_equal(disk_open(disk, image, TD_OPEN_RDONLY), 0);
	if (geteuid() == 0)
		setfsuid(0);
}

static void
test_read_only_image_refuses_changes(void **state)
{
	struct disk *disk = *state;
	const char *image = disk_file(disk, "a.img", MIB);

	assert_int_equal(disk_open(disk, image, TD_OPEN_RDONLY), 0);
	assert_true(vbd_is_read_only(disk->vbd));
	assert_true(disk_holds(disk, 0, MIB, 0));
	assert_int_equal(disk_fill(disk, 0, 512, 1), -EPERM);
	assert_int_equal(disk_do(disk, TD_OP_DISCARD, 0, 512, NULL, 0), -EPERM);
	assert_int_equal(disk_flush(disk), 0);
}

static void
test_image_in_use_is_refused_unless_all_only_read_or_look(void **state)
{
	struct disk *disk = *state, *other = disk_new(libaio, NULL);
	char image[600];

	snprintf(image, sizeof(image), "%s", disk_file(disk, "a.img", MIB));
	assert_int_equal(disk_open(disk, image, 0), 0);
	assert_refused(other, image, 0, -EAGAIN, "is in use");
	assert_refused(other, image, TD_OPEN_RDONLY, -EAGAIN, "is in use");
	assert_int_equal(disk_open(other, image, TD_OPEN_QUERY), 0);
	assert_int_equal(disk_close(other), 0);
	assert_int_equal(disk_close(disk), 0);

	assert_int_equal(disk_open(disk, image, TD_OPEN_RDONLY), 0);
	assert_int_equal(disk_open(other, image, TD_OPEN_RDONLY), 0);
	assert_int_equal(disk_close(other), 0);
	assert_refused(other, image, 0, -EAGAIN, "is in use");
	disk_free(other);
}

/* --- how it is read and written --- */

static void
test_statistics_say_how_the_image_is_reached(void **state)
{
	struct disk *disk = *state;
	struct statfs fs;
	const char *way;
	json_t *stats;

	assert_int_equal(statfs(disk->directory, &fs), 0);
	assert_int_equal(disk_open(disk, disk_file(disk, "a.img", MIB), 0), 0);
	stats = disk_stats(disk, "aio");
	way = json_string_value(json_object_get(stats, "way"));
	assert_non_null(way);
	if (fs.f_type == TMPFS_MAGIC)
		assert_string_equal(way, "memory");
	assert_int_equal(json_is_true(json_object_get(stats, "direct")),
			 strcmp(way, "direct") == 0);
	assert_string_equal(
		json_string_value(json_object_get(stats, "backend")),
		io_backend_name(disk->io));
	json_decref(stats);
}

/* Where O_DIRECT can be had, and on request not even there. */
static void
test_the_page_cache_is_used_when_asked_for(void **state)
{
	struct disk *disk = *state;
	const char *image = disk_file(disk, "a.img", MIB), *way;
	struct statfs fs;
	json_t *stats;

	assert_int_equal(statfs(disk->directory, &fs), 0);
	assert_int_equal(disk_open(disk, image, TD_OPEN_NO_O_DIRECT), 0);
	stats = disk_stats(disk, "aio");
	way = json_string_value(json_object_get(stats, "way"));
	assert_string_equal(way,
			    fs.f_type == TMPFS_MAGIC ? "memory" : "page cache");
	assert_false(json_is_true(json_object_get(stats, "direct")));
	json_decref(stats);
	assert_int_equal(vbd_sector_size(disk->vbd), 512);
	assert_int_equal(disk_fill(disk, 512, 8192, 'x'), 0);
	assert_int_equal(disk_flush(disk), 0);
	assert_true(disk_holds(disk, 512, 8192, 'x'));
	assert_int_equal(disk_close(disk), 0);
	assert_int_equal(disk_open(disk, image, 0), 0);
	assert_true(disk_holds(disk, 512, 8192, 'x'));
}

static void
test_unaligned_buffers_are_moved_whole(void **state)
{
	enum {
		BYTES = 3 << 20
	}; /* more than the bounce buffer */
	struct disk *disk = *state;
	char *area = buffer_new(BYTES + 4096, 0), *buf = area + 1;
	struct disk_request r[2] = { { .done = false } };
	int i;

	assert_int_equal(disk_open(disk, disk_file(disk, "a.img", 8 * MIB), 0),
			 0);
	for (i = 0; i < BYTES; i++)
		buf[i] = (char)(i % 251);
	disk_submit(disk, &r[0], TD_OP_WRITE, 0, BYTES, buf);
	disk_submit(disk, &r[1], TD_OP_WRITE, 4 * MIB, BYTES, buf);
	disk_wait_released(disk, &r[0]);
	disk_wait_released(disk, &r[1]);
	assert_int_equal(r[0].result, 0);
	assert_int_equal(r[1].result, 0);
	for (i = 0; i < 2; i++) {
		int j, wrong = 0;

		memset(buf, 0, BYTES);
		assert_int_equal(
			disk_read(disk, (uint64_t)i * 4 * MIB, BYTES, buf), 0);
		for (j = 0; j < BYTES; j++)
			wrong += buf[j] != (char)(j % 251);
		assert_int_equal(wrong, 0);
	}
	free(area);
}

static void
test_more_requests_than_slots_all_succeed(void **state)
{
	enum {
		COUNT = 1000
	};
	struct disk *disk = *state;
	struct disk_request *r = calloc(COUNT, sizeof(*r));
	char *buf = buffer_new(4096, 'm');
	int i;

	assert_int_equal(disk_open(disk, disk_file(disk, "a.img", 4 * MIB), 0),
			 0);
	for (i = 0; i < COUNT; i++)
		disk_submit(disk, &r[i], TD_OP_WRITE, (uint64_t)i * 4096, 4096,
			    buf);
	for (i = 0; i < COUNT; i++)
		assert_int_equal(disk_wait(disk, &r[i]), 0);
	disk_settle(disk);
	assert_true(disk_holds(disk, 0, MIB, 'm'));
	free(buf);
	free(r);
}

/* --- discard, zeros, status --- */

static void
allocate(struct disk *disk, uint64_t bytes)
{
	uint64_t at;

	for (at = 0; at < bytes; at += MIB)
		assert_int_equal(disk_fill(disk, at, MIB, 'a'), 0);
	assert_int_equal(disk_flush(disk), 0);
}

static long long
blocks(struct disk *disk, const char *name)
{
	struct stat st;

	assert_int_equal(stat(disk_path(disk, name), &st), 0);
	return (long long)st.st_blocks * 512;
}

static void
test_discard_gives_the_space_back(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk, disk_file(disk, "a.img", 4 * MIB), 0),
			 0);
	allocate(disk, 4 * MIB);
	assert_true(blocks(disk, "a.img") >= 4 * MIB);
	assert_int_equal(disk_do(disk, TD_OP_DISCARD, MIB, 2 * MIB, NULL, 0),
			 0);
	assert_true(blocks(disk, "a.img") < 3 * MIB);
	assert_true(disk_holds(disk, 0, MIB, 'a'));
	assert_true(disk_holds(disk, 3 * MIB, MIB, 'a'));
	assert_int_equal(vbd_size(disk->vbd), 4 * MIB);
}

static void
test_written_zeros_read_as_zeros_and_no_others_do(void **state)
{
	struct disk *disk = *state;
	uint32_t flags[] = { 0, REQUEST_NO_UNMAP };
	int i;

	assert_int_equal(disk_open(disk, disk_file(disk, "a.img", 4 * MIB), 0),
			 0);
	for (i = 0; i < 2; i++) {
		allocate(disk, 4 * MIB);
		assert_int_equal(disk_do(disk, TD_OP_WRITE_ZEROES, 512, 2 * MIB,
					 NULL, flags[i]),
				 0);
		assert_true(disk_holds(disk, 0, 512, 'a'));
		assert_true(disk_holds(disk, 512, MIB, 0));
		assert_true(disk_holds(disk, 512 + MIB, MIB, 0));
		assert_true(disk_holds(disk, 512 + 2 * MIB, MIB, 'a'));
	}
	assert_true(blocks(disk, "a.img") >= 4 * MIB); /* NO_UNMAP kept it */
}

static void
test_fast_zeros_are_fast_or_refused(void **state)
{
	struct disk *disk = *state;
	uint32_t flags = REQUEST_FAST | REQUEST_NO_UNMAP;
	int result;

	assert_int_equal(disk_open(disk, disk_file(disk, "a.img", 4 * MIB), 0),
			 0);
	allocate(disk, 4 * MIB);
	result = disk_do(disk, TD_OP_WRITE_ZEROES, 0, MIB, NULL, flags);
	if (result == -EOPNOTSUPP) /* tmpfs */
		assert_true(disk_holds(disk, 0, MIB, 'a'));
	else
		assert_int_equal(result, 0);
	result = disk_do(disk, TD_OP_WRITE_ZEROES, 0, MIB, NULL, REQUEST_FAST);
	assert_int_equal(result, 0);
	assert_true(disk_holds(disk, 0, MIB, 0));
}

static void
test_block_status_tells_data_from_holes(void **state)
{
	enum {
		RUNS = 40
	}; /* more than one call finds */
	struct disk *disk = *state;
	struct td_extents *e = &disk->extents;
	int i;

	assert_int_equal(
		disk_open(disk, disk_file(disk, "a.img", RUNS * 2 * 65536), 0),
		0);
	for (i = 0; i < RUNS; i++)
		assert_int_equal(disk_fill(disk, (2 * (uint64_t)i + 1) * 65536,
					   65536, 'd'),
				 0);
	assert_int_equal(
		disk_do(disk, TD_OP_BLOCK_STATUS, 0, RUNS * 2 * 65536, NULL, 0),
		0);
	assert_int_equal(e->count, 2 * RUNS);
	for (i = 0; i < 2 * RUNS; i++) {
		assert_int_equal(e->extent[i].sec, i * 128);
		assert_int_equal(e->extent[i].secs, 128);
		assert_int_equal(e->extent[i].flags,
				 i % 2 ? 0 : TD_EXTENT_HOLE | TD_EXTENT_ZERO);
	}
	/* from the middle of a run to the middle of another */
	assert_int_equal(
		disk_do(disk, TD_OP_BLOCK_STATUS, 65536 + 512, 65536, NULL, 0),
		0);
	assert_int_equal(e->count, 2);
	assert_int_equal(e->extent[0].sec, 129);
	assert_int_equal(e->extent[0].secs, 127);
	assert_int_equal(e->extent[0].flags, 0);
	assert_int_equal(e->extent[1].secs, 1);
	assert_int_equal(e->extent[1].flags, TD_EXTENT_HOLE | TD_EXTENT_ZERO);
}

/* --- growth --- */

static void
test_growth_underneath_is_noticed_and_shrinking_refused(void **state)
{
	struct disk *disk = *state;
	const char *image = disk_file(disk, "a.img", MIB);
	char *buf;

	assert_int_equal(disk_open(disk, image, 0), 0);
	assert_int_equal(truncate(disk_path(disk, "a.img"), 2 * MIB), 0);
	assert_int_equal(vbd_size(disk->vbd), MIB);
	assert_int_equal(vbd_resize(disk->vbd, 0, &disk->reason), 0);
	assert_int_equal(vbd_size(disk->vbd), 2 * MIB);
	assert_int_equal(disk_fill(disk, 2 * MIB - 4096, 4096, 'n'), 0);

	assert_int_equal(vbd_resize(disk->vbd, 3 * MIB, &disk->reason), 0);
	assert_int_equal(vbd_size(disk->vbd), 3 * MIB);
	assert_true(disk_holds(disk, 2 * MIB - 4096, 4096, 'n'));
	assert_true(disk_holds(disk, 2 * MIB, MIB, 0));

	assert_true(vbd_resize(disk->vbd, MIB, &disk->reason) < 0);
	assert_int_equal(truncate(disk_path(disk, "a.img"), MIB), 0);
	assert_true(vbd_resize(disk->vbd, 0, &disk->reason) < 0);
	assert_int_equal(vbd_size(disk->vbd), 3 * MIB);
	/* what is gone is an error, not zeros */
	buf = buffer_new(4096, 0);
	assert_int_equal(disk_read(disk, 2 * MIB, 4096, buf), -EIO);
	free(buf);
}

/* --- block devices --- */

struct device {
	int fd; /* keeps it */
	char path[64];
	char image[80];
};

/* A loop device over a file, its sectors of `sector_size` bytes. */
static bool
device_open(struct device *device, struct disk *disk, unsigned int sector_size)
{
	struct loop_config config = {
		.block_size = sector_size,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR,
	};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);

	if (control >= 0)
		close(control);
	if (number < 0)
		return false;
	(void)disk_file(disk, "ground", 8 * MIB);
	config.fd = (unsigned int)open(disk_path(disk, "ground"), O_RDWR);
	snprintf(device->path, sizeof(device->path), "/dev/loop%d", number);
	snprintf(device->image, sizeof(device->image), "aio:%s", device->path);
	device->fd = open(device->path, O_RDWR | O_CLOEXEC);
	number = device->fd < 0 ? -1
				: ioctl(device->fd, LOOP_CONFIGURE, &config);
	close((int)config.fd);
	if (number < 0 && device->fd >= 0)
		close(device->fd);
	return number == 0;
}

static void
use_device(struct disk *disk, unsigned int sector_size)
{
	struct disk *other = disk_new(libaio, NULL);
	struct device device;
	json_t *stats;
	int exclusive;

	if (!device_open(&device, disk, sector_size)) {
		disk_free(other);
		print_message("no loop devices for this user\n");
		skip();
	}
	/* what the host holds is refused */
	exclusive = open(device.path, O_RDONLY | O_EXCL);
	assert_true(exclusive >= 0);
	assert_refused(disk, device.image, 0, -EBUSY, "in use by this host");
	close(exclusive);

	assert_int_equal(disk_open(disk, device.image, 0), 0);
	assert_int_equal(vbd_sector_size(disk->vbd), sector_size);
	assert_int_equal(vbd_size(disk->vbd), 8 * MIB);
	assert_true(disk_open(other, device.image, 0) < 0);
	disk_free(other);
	stats = disk_stats(disk, "aio");
	assert_true(json_is_true(json_object_get(stats, "direct")));
	json_decref(stats);

	assert_int_equal(disk_fill(disk, sector_size, MIB, 'd'), 0);
	assert_int_equal(disk_flush(disk), 0);
	assert_true(disk_holds(disk, 0, sector_size, 0));
	assert_true(disk_holds(disk, sector_size, MIB, 'd'));
	assert_int_equal(disk_fill(disk, 256, 512, 'd'), -EINVAL);
	if (sector_size > 512)
		assert_int_equal(disk_fill(disk, 512, 512, 'd'), -EINVAL);
	assert_int_equal(disk_do(disk, TD_OP_BLOCK_STATUS, 0, MIB, NULL, 0), 0);
	assert_int_equal(disk->extents.count, 1);
	assert_int_equal(disk->extents.extent[0].flags, 0);
	assert_int_equal(disk_do(disk, TD_OP_WRITE_ZEROES, 4096, 65536, NULL,
				 REQUEST_NO_UNMAP),
			 0);
	assert_true(disk_holds(disk, 4096, 65536, 0));
	assert_int_equal(
		disk_do(disk, TD_OP_WRITE_ZEROES, 4096 + 65536, 65536, NULL, 0),
		0);
	assert_true(disk_holds(disk, 4096, 2 * 65536, 0));
	assert_true(disk_holds(disk, 4096 + 2 * 65536, 65536, 'd'));
	assert_int_equal(disk_do(disk, TD_OP_DISCARD, 0, MIB, NULL, 0), 0);
	assert_true(blocks(disk, "ground") < MIB);
	assert_true(vbd_resize(disk->vbd, 16 * MIB, &disk->reason) < 0);

	/* the device grows, and is looked at again */
	assert_int_equal(truncate(disk_path(disk, "ground"), 16 * MIB), 0);
	assert_int_equal(ioctl(device.fd, LOOP_SET_CAPACITY, 0), 0);
	assert_int_equal(vbd_resize(disk->vbd, 0, &disk->reason), 0);
	assert_int_equal(vbd_size(disk->vbd), 16 * MIB);
	assert_int_equal(disk_close(disk), 0);
	close(device.fd);
}

static void
test_block_device_with_sectors_of_512_bytes(void **state)
{
	use_device(*state, 512);
}

static void
test_block_device_with_sectors_of_4096_bytes(void **state)
{
	use_device(*state, 4096);
}

#define OVER(test, backend)                                                             \
	{                                                                               \
#		test " over " #		       backend, test, setup, teardown, backend \
	}
#define OVER_BOTH(test) OVER(test, libaio), OVER(test, uring)

static int
run(const char *directory)
{
	const struct CMUnitTest tests[] = {
		OVER_BOTH(
			test_what_was_written_is_read_back_and_is_in_the_file),
		OVER_BOTH(
			test_each_unusable_image_is_refused_with_its_own_sentence),
		OVER_BOTH(test_unwritable_image_is_refused_for_writing_only),
		OVER_BOTH(test_read_only_image_refuses_changes),
		OVER_BOTH(
			test_image_in_use_is_refused_unless_all_only_read_or_look),
		OVER_BOTH(test_statistics_say_how_the_image_is_reached),
		OVER_BOTH(test_the_page_cache_is_used_when_asked_for),
		OVER_BOTH(test_unaligned_buffers_are_moved_whole),
		OVER_BOTH(test_more_requests_than_slots_all_succeed),
		OVER_BOTH(test_discard_gives_the_space_back),
		OVER_BOTH(test_written_zeros_read_as_zeros_and_no_others_do),
		OVER_BOTH(test_fast_zeros_are_fast_or_refused),
		OVER_BOTH(test_block_status_tells_data_from_holes),
		OVER_BOTH(
			test_growth_underneath_is_noticed_and_shrinking_refused),
		OVER_BOTH(test_block_device_with_sectors_of_512_bytes),
		OVER_BOTH(test_block_device_with_sectors_of_4096_bytes),
	};

	print_message("in %s\n", directory);
	setenv("TMPDIR", directory, 1);
	return cmocka_run_group_tests_name(directory, tests, NULL, NULL);
}

int
main(void)
{
	char directory[4096];
	const char *tmp = getenv("TMPDIR");
	struct statfs fs;
	int failed;

	snprintf(directory, sizeof(directory), "%s", tmp ? tmp : "/tmp");
	failed = run(directory);
	if (statfs("/dev/shm", &fs) == 0 && fs.f_type == TMPFS_MAGIC &&
	    access("/dev/shm", W_OK) == 0)
		failed += run("/dev/shm");
	return failed;
}
