/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * size.c - see size.h.
 */
#include "tools/common/size.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char letters[] = "KMGT";

void
size_text(char text[SIZE_TEXT_MAX], uint64_t bytes)
{
	double value = (double)bytes;
	int unit = -1;

	while (value >= 1024 && letters[unit + 1]) {
		value /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(text, SIZE_TEXT_MAX, "%" PRIu64 " B", bytes);
	else if (value < 100 && value != (double)(uint64_t)value)
		snprintf(text, SIZE_TEXT_MAX, "%.1f %ciB", value,
			 letters[unit]);
	else
		snprintf(text, SIZE_TEXT_MAX, "%.0f %ciB", value,
			 letters[unit]);
}

int
size_parse(const char *text, uint64_t *ret_bytes)
{
	unsigned int shift = 0;
	const char *unit;
	uint64_t value;
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return -errno;
	unit = *end ? strchr(letters, *end) : NULL;
	if (unit) {
		shift = 10 * (unsigned int)(unit - letters + 1);
		end++;
	}
	if (*end)
		return -EINVAL;
	if (value > UINT64_MAX >> shift)
		return -ERANGE;
	*ret_bytes = value << shift;
	return 0;
}
