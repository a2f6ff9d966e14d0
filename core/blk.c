/* SPDX-License-Identifier: BSD-3-Clause */
/* blk - the ioctls of block devices, for drivers and tapdisk-utils.c. */
#include "core/blk.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "core/tapdisk.h"

int
blk_getimagesize(int fd, uint64_t *ret_sectors)
{
	uint64_t bytes;

	if (ioctl(fd, BLKGETSIZE64, &bytes) < 0)
		return -errno;
	*ret_sectors = bytes >> SECTOR_SHIFT;
	return 0;
}

int
blk_getsectorsize(int fd, uint64_t *ret_sector_size)
{
	int bytes;

	if (ioctl(fd, BLKSSZGET, &bytes) < 0)
		return -errno;
	*ret_sector_size = (uint64_t)bytes;
	return 0;
}
