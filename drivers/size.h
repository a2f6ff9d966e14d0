/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * size.h - "64M": the words by which drivers without a file are given a size.
 */
#ifndef DRIVERS_SIZE_H
#define DRIVERS_SIZE_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

/*
 * Bytes of "512", "64K", "64M", "1G", "2T" (powers of 1024).  Returns 0, or
 * -EINVAL for anything else or more than 2^62 bytes.  `*end` is behind what was
 * read.
 */
static inline int
size_parse(const char *text, uint64_t *ret_bytes, const char **end)
{
	static const char units[] = { 'K', 'M', 'G', 'T' };
	unsigned int shift = 0, i;
	unsigned long long number;
	char *after;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	number = strtoull(text, &after, 10);
	for (i = 0; i < sizeof(units); i++) {
		if (*after == units[i] || *after == units[i] + ('a' - 'A'))
			shift = 10 * (i + 1);
	}
	if (errno || number > (1ull << 62) >> shift)
		return -EINVAL;
	*ret_bytes = number << shift;
	*end = after + (shift > 0);
	return 0;
}

#endif
