/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * extra - the table of drivers, with those that are not built in; see extra.h.
 */
#include "tools/tapdisk/extra.h"

#include <assert.h>
#include <string.h>

#define TYPES_MAX 128

static const struct driver_type *
find(const struct driver_type *types, const char *name)
{
	while (types->name && strcmp(types->name, name) != 0)
		types++;
	return types->name ? types : NULL;
}

/* The names that blktap2 gave its numbers. */
static int
blktap2_number(const char *name)
{
	static const struct {
		const char *name;
		int number;
	} known[] = {
		{ "aio", DISK_TYPE_AIO },
		{ "sync", DISK_TYPE_SYNC },
		{ "vmdk", DISK_TYPE_VMDK },
		{ "vhdsync", DISK_TYPE_VHDSYNC },
		{ "vhd", DISK_TYPE_VHD },
		{ "ram", DISK_TYPE_RAM },
		{ "qcow", DISK_TYPE_QCOW },
		{ "bc", DISK_TYPE_BLOCK_CACHE },
		{ "vindex", DISK_TYPE_VINDEX },
		{ "log", DISK_TYPE_LOG },
		{ "remus", DISK_TYPE_REMUS },
	};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].name, name) == 0)
			return known[i].number;
	return -1;
}

const struct driver_type *
extra_join(const struct driver_type *built_in)
{
	static struct driver_type types[TYPES_MAX + 1];
	const struct driver_type *type, *replaced;
	size_t count = 0;

	for (type = extra_drivers; type->name; type++) {
		assert(count < TYPES_MAX);
		replaced = find(built_in, type->name);
		types[count] = *type;
		types[count].drivertype = blktap2_number(type->name);
		if (replaced && replaced->drivertype >= 0)
			types[count].drivertype = replaced->drivertype;
		count++;
	}
	for (type = built_in; type->name; type++) {
		assert(count < TYPES_MAX);
		if (!find(extra_drivers, type->name))
			types[count++] = *type;
	}
	return types;
}
