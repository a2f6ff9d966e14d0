/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * metadata - reading the two copies of a superblock, and writing them in turn;
 * see metadata.h.  The bytes stand in metadata_format.c.
 *
 * Generation n goes to copy n % 2, so the newest copy is never written over.
 * The first commit goes to copy 1: as long as copy 0 is blank, no second one
 * has begun, and a copy 1 that is not whole is a first commit that never
 * ended: the replica is as new as before.
 */
#include "replication/metadata.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/loop.h"
#include "core/reason.h"

#define COPIES 2

struct metadata {
	struct store *store; /* owned */
	struct metadata_state state;
	uint64_t generation;  /* of the last commit */
	unsigned char *bytes; /* owned: METADATA_COPY_BYTES */
	struct store_op op;
	struct list_head waiting; /* commits asked for */
	struct list_head running; /* under way */
	bool writing;
	int error; /* the first; every later commit ends with it */
	struct task refuse;
};

struct found {
	struct metadata_state state;
	uint64_t generation;
};

static void start(struct metadata *metadata);

/* --- reading --- */

static bool
is_blank(const unsigned char *bytes, size_t length)
{
	return length == 0 ||
	       (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

/* 1 if a copy counts, 0 if the store is new, or a negative errno. */
static int
read_copies(struct metadata *metadata, struct found *found,
	    struct reason *reason)
{
	struct reason why[COPIES] = { { "" }, { "" } };
	bool blank[COPIES], any = false;
	int r[COPIES];

	for (int i = 0; i < COPIES; i++) {
		long length = metadata->store->ops->read(
			metadata->store, metadata->bytes, METADATA_COPY_BYTES,
			(uint64_t)i * METADATA_COPY_BYTES);
		uint64_t generation;

		if (length < 0)
			return reason_set(
				reason, (int)length, "%s: cannot be read: %s",
				metadata->store->name, strerror((int)-length));
		blank[i] = is_blank(metadata->bytes, (size_t)length);
		r[i] = metadata_decode(metadata->bytes, (size_t)length,
				       &found[i].state, &generation, &why[i]);
		found[i].generation = generation;
		if (r[i] == -EPROTONOSUPPORT)
			return reason_set(reason, r[i], "%s: %s",
					  metadata->store->name, why[i].text);
		any = any || r[i] == 0;
	}
	if (!any && blank[0] && (blank[1] || r[1] == -EBADMSG))
		return 0;
	if (!any)
		return reason_set(reason, blank[0] ? r[1] : r[0],
				  "%s: %s; restore it, or remove it if this "
				  "host is to become a new copy of the disk",
				  metadata->store->name,
				  why[blank[0] ? 1 : 0].text);
	if (r[0] < 0 ||
	    (r[1] == 0 && found[1].generation > found[0].generation))
		found[0] = found[1];
	return 1;
}

static void
on_refuse(struct task *task)
{
	struct metadata *metadata = container_of(task, struct metadata, refuse);
	LIST_HEAD(due);

	list_splice_tail_init(&metadata->waiting, &due);
	while (!list_empty(&due)) {
		struct metadata_commit *commit =
			list_first_entry(&due, struct metadata_commit, entry);

		list_del(&commit->entry);
		commit->on_done(commit, metadata->error);
	}
}

static struct metadata *
metadata_free(struct metadata *metadata)
{
	metadata->store->ops->close(metadata->store);
	task_cancel(&metadata->refuse);
	free(metadata->bytes);
	free(metadata);
	return NULL;
}

struct metadata *
metadata_open(struct loop *loop, struct store *store, bool *ret_new,
	      struct reason *reason)
{
	struct metadata *metadata = calloc(1, sizeof(*metadata));
	struct found *found = calloc(COPIES, sizeof(*found));
	int r = -ENOMEM;

	if (metadata == NULL || found == NULL) {
		store->ops->close(store);
		free(metadata);
		free(found);
		return NULL;
	}
	metadata->store = store;
	metadata->bytes = aligned_alloc(4096, METADATA_COPY_BYTES);
	INIT_LIST_HEAD(&metadata->waiting);
	INIT_LIST_HEAD(&metadata->running);
	task_init(&metadata->refuse, loop, on_refuse);
	if (metadata->bytes != NULL)
		r = read_copies(metadata, found, reason);
	if (r > 0) {
		metadata->state = found[0].state;
		metadata->generation = found[0].generation;
	}
	free(found);
	if (r < 0)
		return metadata_free(metadata);
	*ret_new = r == 0;
	return metadata;
}

struct metadata *
metadata_close(struct metadata *metadata)
{
	return metadata == NULL ? NULL : metadata_free(metadata);
}

struct metadata_state *
metadata_state(struct metadata *metadata)
{
	return &metadata->state;
}

bool
metadata_is_idle(const struct metadata *metadata)
{
	return !metadata->writing && list_empty(&metadata->waiting);
}

/* --- writing --- */

static void
end(struct metadata *metadata, int error)
{
	LIST_HEAD(done);

	metadata->writing = false;
	if (metadata->error == 0)
		metadata->error = error;
	list_splice_tail_init(&metadata->running, &done);
	while (!list_empty(&done)) {
		struct metadata_commit *commit =
			list_first_entry(&done, struct metadata_commit, entry);

		list_del(&commit->entry);
		commit->on_done(commit, error);
	}
	start(metadata);
}

static void
on_flushed(struct store_op *op, int error)
{
	end(container_of(op, struct metadata, op), error);
}

static void
on_written(struct store_op *op, int error)
{
	struct metadata *metadata = container_of(op, struct metadata, op);

	if (error < 0) {
		end(metadata, error);
		return;
	}
	op->on_done = on_flushed;
	metadata->store->ops->flush(metadata->store, op);
}

static void
start(struct metadata *metadata)
{
	if (metadata->writing || list_empty(&metadata->waiting))
		return;
	if (metadata->error < 0) {
		task_post(&metadata->refuse);
		return;
	}
	metadata->writing = true;
	list_splice_tail_init(&metadata->waiting, &metadata->running);
	metadata->generation++;
	metadata_encode(&metadata->state, metadata->generation,
			metadata->bytes);
	metadata->op.on_done = on_written;
	metadata->store->ops->write(metadata->store, &metadata->op,
				    metadata->bytes, METADATA_COPY_BYTES,
				    metadata->generation % COPIES *
					    METADATA_COPY_BYTES);
}

void
metadata_commit(struct metadata *metadata, struct metadata_commit *commit)
{
	list_add_tail(&commit->entry, &metadata->waiting);
	start(metadata);
}
