/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tapdisk-utils.h - the seed's companion of small helpers for drivers.
 */
#ifndef CORE_TAPDISK_UTILS_H
#define CORE_TAPDISK_UTILS_H

#include <stdint.h>

/*
 * The size in 512-byte sectors and the logical sector size in bytes of the
 * file or block device behind `fd`.  A file's tail that fills no sector is
 * counted as a whole one (callers refuse it if they must).  Returns 0 or a
 * negative errno; outputs are untouched on failure.
 */
int tapdisk_get_image_size(int fd, uint64_t *ret_sectors,
			   uint32_t *ret_sector_size);

#endif
