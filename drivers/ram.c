/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ram - a disk in memory, new and zeroed at each open, lost at close.
 *
 * The memory is mapped, not allocated: pages that were never written cost
 * nothing, and discarded ones are given back to the system (madvise(2)), after
 * which they read as zeros.  A system that runs out of memory kills us; do not
 * promise more than there is.
 *
 * Everything is completed at once.  Nothing survives a close, so there is
 * nothing to flush.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/tapdisk-interface.h"
#include "drivers/drivers.h"
#include "drivers/size.h"

struct ram {
	char *memory; /* owned: info.size sectors, mapped */
};

static size_t
ram_bytes(td_sector_t sectors)
{
	return (size_t)sectors << SECTOR_SHIFT;
}

static int
ram_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	struct ram *ram = driver->data;
	const char *end = name;
	uint64_t bytes;

	(void)flags;
	if (size_parse(name, &bytes, &end) < 0 || *end || bytes % 512 || !bytes)
		return td_reason(driver, -EINVAL,
				 "the size must be a number of sectors of 512 "
				 "bytes, for example 64M");
	ram->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ram->memory == MAP_FAILED)
		return td_reason(driver, -errno,
				 "no address space for a disk of %llu bytes",
				 (unsigned long long)bytes);
	driver->info.size = bytes >> SECTOR_SHIFT;
	driver->info.sector_size = DEFAULT_SECTOR_SIZE;
	return 0;
}

static int
ram_close(td_driver_t *driver)
{
	struct ram *ram = driver->data;

	munmap(ram->memory, ram_bytes(driver->info.size));
	return 0;
}

static int
ram_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
ram_validate_parent(td_driver_t *driver, td_driver_t *parent, td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return -EINVAL;
}

static void
ram_queue_read(td_driver_t *driver, td_request_t treq)
{
	struct ram *ram = driver->data;

	memcpy(treq.buf, ram->memory + ram_bytes(treq.sec),
	       ram_bytes((td_sector_t)treq.secs));
	td_complete_request(treq, 0);
}

static void
ram_queue_write(td_driver_t *driver, td_request_t treq)
{
	struct ram *ram = driver->data;

	memcpy(ram->memory + ram_bytes(treq.sec), treq.buf,
	       ram_bytes((td_sector_t)treq.secs));
	td_complete_request(treq, 0);
}

/* Whole pages are given back, their edges zeroed. */
static void
ram_zero(char *start, char *end)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	char *first = (char *)(((uintptr_t)start + page - 1) & ~(page - 1));
	char *last = (char *)((uintptr_t)end & ~(page - 1));

	if (first >= last ||
	    madvise(first, (size_t)(last - first), MADV_DONTNEED) < 0) {
		memset(start, 0, (size_t)(end - start));
		return;
	}
	memset(start, 0, (size_t)(first - start));
	memset(last, 0, (size_t)(end - last));
}

static void
ram_queue_zero(td_driver_t *driver, td_request_t treq)
{
	struct ram *ram = driver->data;
	char *start = ram->memory + ram_bytes(treq.sec);
	char *end = start + ram_bytes((td_sector_t)treq.secs);

	/* The core then writes zeros, a piece at a time. */
	if (td_flag_test(treq.flags, TD_REQUEST_NO_UNMAP)) {
		td_complete_request(treq, -EOPNOTSUPP);
		return;
	}
	ram_zero(start, end);
	td_complete_request(treq, 0);
}

static int
ram_resize(td_driver_t *driver, td_sector_t sectors)
{
	struct ram *ram = driver->data;
	char *memory;

	if (sectors == 0)
		return 0;
	if (sectors < driver->info.size)
		return td_reason(driver, -EINVAL, "a disk does not shrink");
	memory = mremap(ram->memory, ram_bytes(driver->info.size),
			ram_bytes(sectors), MREMAP_MAYMOVE);
	if (memory == MAP_FAILED)
		return td_reason(driver, -errno,
				 "no address space for a disk of %zu bytes",
				 ram_bytes(sectors));
	ram->memory = memory;
	driver->info.size = sectors;
	return 0;
}

struct tap_disk tapdisk_ram = {
	.disk_type = "tapdisk_ram",
	.private_data_size = sizeof(struct ram),
	.td_open = ram_open,
	.td_close = ram_close,
	.td_get_parent_id = ram_get_parent_id,
	.td_validate_parent = ram_validate_parent,
	.td_queue_read = ram_queue_read,
	.td_queue_write = ram_queue_write,
	.td_queue_discard = ram_queue_zero,
	.td_queue_write_zeroes = ram_queue_zero,
	.td_resize = ram_resize,
};
