/* SPDX-License-Identifier: BSD-3-Clause */
/* tapdisk-utils - sizes of files and block devices alike, for drivers. */
#include "core/tapdisk-utils.h"

#include <errno.h>
#include <sys/stat.h>

#include "core/blk.h"
#include "core/tapdisk.h"

int
tapdisk_get_image_size(int fd, uint64_t *ret_sectors, uint32_t *ret_sector_size)
{
	uint64_t sectors, sector_size = DEFAULT_SECTOR_SIZE;
	struct stat st;
	int error;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISBLK(st.st_mode)) {
		error = blk_getimagesize(fd, &sectors);
		if (error == 0)
			error = blk_getsectorsize(fd, &sector_size);
		if (error < 0)
			return error;
	} else {
		sectors = ((uint64_t)st.st_size + DEFAULT_SECTOR_SIZE - 1) >>
			  SECTOR_SHIFT;
	}
	*ret_sectors = sectors;
	*ret_sector_size = (uint32_t)sector_size;
	return 0;
}
