/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * arbiter - which one a name means, and the lists of their records.
 */
#include "replication/arbiter.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/reason.h"

static const struct arbiter_type *
find(const struct arbiter_type *const *types, const char *name, size_t length)
{
	static const struct arbiter_type *const none[] = { &arbiter_none,
							   NULL };

	if (types == NULL)
		types = none;
	for (; *types != NULL; types++) {
		if (strlen((*types)->name) == length &&
		    strncmp((*types)->name, name, length) == 0)
			return *types;
	}
	return NULL;
}

struct arbiter *
arbiter_open(const struct arbiter_type *const *types,
	     const struct arbiter_context *context, const char *name,
	     struct reason *reason)
{
	size_t length = strcspn(name, ":");
	const struct arbiter_type *type = find(types, name, length);

	if (type == NULL) {
		(void)reason_set(reason, -EINVAL, "there is no arbiter '%.*s'",
				 (int)length, name);
		return NULL;
	}
	return type->open(context, name + length + (name[length] == ':'),
			  reason);
}

struct arbiter *
arbiter_close(struct arbiter *arbiter)
{
	if (arbiter != NULL)
		arbiter->ops->close(arbiter);
	return NULL;
}

void
arbiter_record_add(struct arbiter_record *record, const unsigned char *id)
{
	if (arbiter_record_lists(record, id))
		return;
	assert(record->count < ARBITER_LIST_MAX);
	memcpy(record->listed[record->count++], id, ARBITER_ID);
}

bool
arbiter_record_lists(const struct arbiter_record *record,
		     const unsigned char *id)
{
	for (unsigned int i = 0; i < record->count; i++) {
		if (memcmp(record->listed[i], id, ARBITER_ID) == 0)
			return true;
	}
	return false;
}
