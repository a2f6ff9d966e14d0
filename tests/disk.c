/* SPDX-License-Identifier: BSD-3-Clause */
/* disk - see disk.h; the loop is turned until the one request has ended. */
#include "tests/disk.h"

#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "drivers/drivers.h"
#include "tests/test.h"

#define ALIGN	  4096
#define HOLDS_MAX (4u << 20)
#define STEP_NS	  (100 * NS_PER_MS)

#define SIMULATED_NS (3600 * NS_PER_S)

static const struct driver_type every_type[] = {
	{ "aio", DISK_TYPE_AIO, &tapdisk_aio, "" },
	{ "ram", DISK_TYPE_RAM, &tapdisk_ram, "" },
	{ "null", -1, &tapdisk_null, "" },
	{ "fault", -1, &tapdisk_fault, "" },
	{ "lossy", -1, &tapdisk_lossy, "" },
	{ NULL, -1, NULL, NULL },
};

static int requests_done;

struct disk *
disk_new(const char *backend, const struct driver_type *types)
{
	struct disk *disk = calloc(1, sizeof(*disk));
	const char *tmp = getenv("TMPDIR");

	assert_non_null(disk);
	log_set_level(LOG_ERR);
	if (backend && strcmp(backend, DISK_SIMULATED) == 0) {
		disk->loop = loop_new_simulated();
	} else {
		disk->loop = loop_new(NULL);
		assert_non_null(disk->loop);
		disk->io = io_new(disk->loop, backend, &disk->reason);
		if (!disk->io)
			fail_msg("%s", disk->reason.text);
	}
	disk->vbd = vbd_new(disk->loop, disk->io, types ? types : every_type);
	assert_non_null(disk->vbd);
	snprintf(disk->directory, sizeof(disk->directory), "%s/disk.XXXXXX",
		 tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(disk->directory));
	requests_done = 0;
	return disk;
}

static int
remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

struct disk *
disk_free(struct disk *disk)
{
	if (vbd_state(disk->vbd) != VBD_CLOSED)
		(void)disk_close(disk);
	vbd_free(disk->vbd);
	if (disk->io)
		io_free(disk->io);
	loop_free(disk->loop);
	nftw(disk->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	free(disk);
	return NULL;
}

/* Let something happen, if only time. */
static void
turn(struct disk *disk, uint64_t wait_ns)
{
	if (disk->io) {
		assert_int_equal(loop_turn(disk->loop, wait_ns), 0);
		return;
	}
	assert_true(loop_now(disk->loop) < SIMULATED_NS); /* or it never ends */
	loop_run_until_idle(disk->loop);
	loop_advance(disk->loop, NS_PER_MS);
}

static int
open_with(struct disk *disk, const struct vbd_options *options)
{
	disk->reason.text[0] = '\0';
	return vbd_open(disk->vbd, options, &disk->reason);
}

int
disk_open(struct disk *disk, const char *image, td_flag_t flags)
{
	struct vbd_options options = { .image = image, .flags = flags };

	return open_with(disk, &options);
}

int
disk_open_limited(struct disk *disk, const char *image, unsigned int timeout_s)
{
	struct vbd_options options = { .image = image, .timeout_s = timeout_s };

	return open_with(disk, &options);
}

struct closing {
	struct vbd_waiter waiter;
	bool done;
	int error;
};

static void
on_closed(struct vbd_waiter *waiter, int error, const struct reason *reason)
{
	struct closing *closing = container_of(waiter, struct closing, waiter);

	(void)reason;
	closing->done = true;
	closing->error = error;
}

int
disk_close(struct disk *disk)
{
	struct closing closing = { .waiter.on_done = on_closed };

	vbd_close(disk->vbd, &closing.waiter);
	while (!closing.done)
		turn(disk, STEP_NS);
	return closing.error;
}

const char *
disk_path(struct disk *disk, const char *name)
{
	static char path[2][512];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", disk->directory,
		 name);
	return path[turn];
}

const char *
disk_file(struct disk *disk, const char *name, long long bytes)
{
	static char image[600];
	const char *path = disk_path(disk, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	close(fd);
	snprintf(image, sizeof(image), "aio:%s", path);
	return image;
}

static void
on_done(struct request *request, int result)
{
	struct disk_request *r =
		container_of(request, struct disk_request, request);

	assert_false(r->done);
	r->done = true;
	r->result = result;
	r->order = ++requests_done;
}

static void
on_release(struct request *request)
{
	struct disk_request *r =
		container_of(request, struct disk_request, request);

	assert_true(r->done);
	assert_false(r->released);
	r->released = true;
}

void
disk_submit(struct disk *disk, struct disk_request *r, int op, uint64_t offset,
	    uint64_t length, char *buffer)
{
	uint32_t flags = r->request.flags;

	*r = (struct disk_request){
		.request = {
			.op = op,
			.offset = offset,
			.length = length,
			.flags = flags,
			.buffer = buffer,
			.extents = &disk->extents,
			.on_done = on_done,
			.on_release = on_release,
		},
	};
	vbd_submit(disk->vbd, &r->request);
	assert_false(r->done);
}

int
disk_wait(struct disk *disk, struct disk_request *request)
{
	while (!request->done)
		turn(disk, 0);
	return request->result;
}

void
disk_wait_released(struct disk *disk, struct disk_request *request)
{
	while (!request->released)
		turn(disk, 0);
}

void
disk_settle(struct disk *disk)
{
	int i;

	if (!disk->io)
		loop_run_until_idle(disk->loop);
	for (i = 0; disk->io && i < 100; i++)
		assert_int_equal(loop_turn(disk->loop, 0), 0);
}

void
disk_pass(struct disk *disk, uint64_t ns)
{
	loop_advance(disk->loop, ns);
	loop_run_until_idle(disk->loop);
}

int
disk_do(struct disk *disk, int op, uint64_t offset, uint64_t length,
	char *buffer, uint32_t flags)
{
	struct disk_request r = { .request.flags = flags };

	disk_submit(disk, &r, op, offset, length, buffer);
	disk_wait_released(disk, &r);
	return r.result;
}

int
disk_read(struct disk *disk, uint64_t offset, uint64_t length, char *buf)
{
	return disk_do(disk, TD_OP_READ, offset, length, buf, 0);
}

int
disk_write(struct disk *disk, uint64_t offset, uint64_t length, char *buf)
{
	return disk_do(disk, TD_OP_WRITE, offset, length, buf, 0);
}

int
disk_fill(struct disk *disk, uint64_t offset, uint64_t length, int byte)
{
	char *buf = aligned_alloc(ALIGN, (length + ALIGN - 1) & -ALIGN);
	int result;

	memset(buf, byte, length);
	result = disk_write(disk, offset, length, buf);
	free(buf);
	return result;
}

int
disk_flush(struct disk *disk)
{
	return disk_do(disk, TD_OP_FLUSH, 0, 0, NULL, 0);
}

bool
disk_holds(struct disk *disk, uint64_t offset, uint64_t length, int byte)
{
	char *buf = aligned_alloc(ALIGN, (length + ALIGN - 1) & -ALIGN);
	bool same = true;
	uint64_t i;

	assert_true(length <= HOLDS_MAX);
	memset(buf, ~byte, length);
	assert_int_equal(disk_read(disk, offset, length, buf), 0);
	for (i = 0; i < length; i++)
		same = same && (unsigned char)buf[i] == (unsigned char)byte;
	free(buf);
	return same;
}

int
disk_command(struct disk *disk, const char *type, const char *command,
	     struct json_t *result)
{
	json_t *members = result ? json_incref(result) : json_object();
	int error;

	disk->reason.text[0] = '\0';
	error = image_stack_command(vbd_images(disk->vbd), type, command,
				    members, &disk->reason);
	json_decref(members);
	return error;
}

struct json_t *
disk_stats(struct disk *disk, const char *type)
{
	json_t *images = image_stack_json(vbd_images(disk->vbd));
	json_t *image, *stats = NULL;
	size_t i;

	json_array_foreach (images, i, image) {
		const char *name =
			json_string_value(json_object_get(image, "type"));

		if (!stats && name && strcmp(name, type) == 0)
			stats = json_incref(json_object_get(image, "driver"));
	}
	json_decref(images);
	return stats;
}
