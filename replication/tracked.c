/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tracked - see tracked.h.
 */
#include "replication/tracked.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *
tracked_file(td_driver_t *driver, tracked_look *look)
{
	const td_image_t *leaf = td_image_below(driver);
	uint64_t size, time_ns;

	while (leaf->filter)
		leaf = leaf->below;
	if (look == NULL || !look(leaf->driver->name, &size, &time_ns))
		return NULL;
	return leaf->driver->name;
}

int
tracked_find_meta(td_driver_t *driver, tracked_look *look, char *meta,
		  size_t length)
{
	const char *path;
	int n;

	if (meta[0] != '\0')
		return 0;
	path = tracked_file(driver, look);
	if (path == NULL)
		return td_reason(driver, -EINVAL,
				 "the image is no file to lay metadata beside: "
				 "say where they are to be with meta=FILE");
	n = snprintf(meta, length, "%s.meta", path);
	return n < 0 || (size_t)n >= length ? -ENAMETOOLONG : 0;
}

/* A number, with K, M or G behind it. */
static int
take_number(td_driver_t *driver, const char *key, const char *value,
	    uint32_t *ret_number)
{
	static const char units[] = "KMG";
	unsigned int shift = 0;
	unsigned long number;
	char *end;

	errno = 0;
	number = strtoul(value, &end, 10);
	if (*end != '\0' && strchr(units, *end) != NULL) {
		shift = 10 * (unsigned int)(strchr(units, *end) - units + 1);
		end++;
	}
	if (*value < '0' || *value > '9' || *end != '\0' || errno != 0 ||
	    number == 0 || number > UINT32_MAX >> shift)
		return td_reason(driver, -EINVAL, "%s cannot be '%s'", key,
				 value);
	*ret_number = (uint32_t)(number << shift);
	return 1;
}

int
tracked_take(td_driver_t *driver, struct tracker_options *options,
	     const char *key, const char *value)
{
	if (strcmp(key, "region") == 0)
		return take_number(driver, key, value, &options->region);
	if (strcmp(key, "extent") == 0)
		return take_number(driver, key, value, &options->extent);
	if (strcmp(key, "extents") == 0)
		return take_number(driver, key, value, &options->capacity);
	return 0;
}
