/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blk.h - what the kernel says of a block device (linux/fs.h: BLKGETSIZE64,
 * BLKSSZGET).  Both return 0 or a negative errno; outputs are untouched then.
 */
#ifndef CORE_BLK_H
#define CORE_BLK_H

#include <stdint.h>

int blk_getimagesize(int fd, uint64_t *ret_sectors);	  /* 512-byte sectors */
int blk_getsectorsize(int fd, uint64_t *ret_sector_size); /* bytes */

#endif
