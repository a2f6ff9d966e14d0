/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * metadata - reading the two copies of a superblock, and writing them in turn;
 * see metadata.h.  The bytes stand in metadata_format.c.
 *
 * D1  Generation n goes to copy n % 2, so the newest copy is never written
 *     over; a copy in the other's place does not count.
 * D2  Generation 1 goes to copy 1, and generation 2 is not begun before that is
 *     durable.  So a blank copy 0 beside a torn copy 1 is a first commit that
 *     never ended, and the replica is as new as before.  Only what can have
 *     come of that is taken for it: a disk's image may begin with zeros, too.
 * D3  A copy 0 in use beside a copy 1 that ends early was cut off by somebody:
 *     no crash leaves that.
 */
#include "replication/metadata.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/loop.h"
#include "core/reason.h"

#define COPIES	    2
#define STORE_ALIGN 4096
#define TEAR_UNIT   512 /* bytes that a disk writes whole or not at all */

struct metadata {
	struct store *store; /* owned */
	struct metadata_state state;
	uint64_t generation;  /* of the last commit begun */
	unsigned char *bytes; /* owned: METADATA_COPY_BYTES */
	struct store_op op;
	struct list_head waiting; /* commits asked for */
	struct list_head running; /* under way */
	bool writing;
	int error; /* the first; every later commit ends with it */
	struct task refuse;
	bool telling; /* commits their end */
	bool closing; /* one of them closed us */
};

/* One of the two copies, as found at open. */
struct copy {
	unsigned char *bytes; /* owned */
	long length;
	int error; /* 0: valid */
	struct metadata_state state;
	uint64_t generation;
	struct reason why; /* with an error */
};

static void start(struct metadata *metadata);

/* --- reading --- */

static bool
is_blank(const unsigned char *bytes, size_t length)
{
	return length == 0 ||
	       (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

static void
copies_free(struct copy *copy)
{
	for (int i = 0; copy != NULL && i < COPIES; i++)
		free(copy[i].bytes);
	free(copy);
}

static struct copy *
copies_new(void)
{
	struct copy *copy = calloc(COPIES, sizeof(*copy));

	for (int i = 0; copy != NULL && i < COPIES; i++) {
		copy[i].bytes = aligned_alloc(STORE_ALIGN, METADATA_COPY_BYTES);
		if (copy[i].bytes == NULL) {
			copies_free(copy);
			return NULL;
		}
	}
	return copy;
}

static int
read_copy(struct store *store, int index, struct copy *copy,
	  struct reason *reason)
{
	copy->length = store->ops->read(store, copy->bytes, METADATA_COPY_BYTES,
					(uint64_t)index * METADATA_COPY_BYTES);
	if (copy->length < 0)
		return reason_set(reason, (int)copy->length,
				  "%s: cannot be read: %s", store->name,
				  strerror((int)-copy->length));
	copy->error =
		metadata_decode(copy->bytes, (size_t)copy->length, &copy->state,
				&copy->generation, &copy->why);
	if (copy->error == 0 && copy->generation % COPIES != (uint64_t)index)
		copy->error = reason_set(
			&copy->why, -EBADMSG,
			"their two copies are exchanged: they are damaged");
	return 0;
}

/* 1 if nothing lies behind the copies, 0 if something does. */
static int
is_whole(struct store *store, unsigned char *bytes)
{
	long length = store->ops->read(store, bytes, STORE_ALIGN,
				       (size_t)COPIES * METADATA_COPY_BYTES);

	return length < 0 ? (int)length : length == 0;
}

/* D2.  1, 0 or a negative errno. */
static int
is_new(struct store *store, struct copy *copy)
{
	const unsigned char *first = copy[1].bytes;
	size_t length = (size_t)copy[1].length;
	uint64_t generation;

	if (!is_blank(copy[0].bytes, (size_t)copy[0].length))
		return 0;
	if (!is_blank(first, length < TEAR_UNIT ? length : TEAR_UNIT) &&
	    (metadata_decode_head(first, length, &generation, NULL) < 0 ||
	     generation != 1))
		return 0;
	return is_whole(store, copy[1].bytes);
}

/* The index of the copy that counts; COPIES if the store is new; or a negative
 * errno. */
static int
choose(struct store *store, struct copy *copy, struct reason *reason)
{
	const struct copy *bad;
	int r;

	for (int i = 0; i < COPIES; i++) {
		if (copy[i].error == -EPROTONOSUPPORT)
			return reason_set(reason, copy[i].error, "%s: %s",
					  store->name, copy[i].why.text);
	}
	if (copy[0].error == 0 && copy[1].error == 0)
		return copy[1].generation > copy[0].generation ? 1 : 0;
	if (copy[0].error == 0 && copy[1].length == METADATA_COPY_BYTES)
		return 0;
	if (copy[1].error == 0)
		return 1;
	r = is_new(store, copy);
	if (r < 0)
		return reason_set(reason, r, "%s: cannot be read: %s",
				  store->name, strerror(-r));
	if (r > 0)
		return COPIES;
	bad = copy[0].error == 0 ||
			      is_blank(copy[0].bytes, (size_t)copy[0].length)
		      ? &copy[1]
		      : &copy[0];
	return reason_set(reason, bad->error,
			  "%s: %s; restore it, or remove it if this host is to "
			  "become a new copy of the disk",
			  store->name, bad->why.text);
}

int
metadata_read(struct store *store, struct metadata_state *ret_state,
	      uint64_t *ret_generation, bool *ret_new, struct reason *reason)
{
	struct copy *copy = copies_new();
	int r = copy == NULL ? -ENOMEM : 0;

	for (int i = 0; r == 0 && i < COPIES; i++)
		r = read_copy(store, i, &copy[i], reason);
	if (r == 0)
		r = choose(store, copy, reason);
	if (r >= 0)
		*ret_new = r == COPIES;
	if (r >= 0 && r < COPIES) {
		*ret_state = copy[r].state;
		*ret_generation = copy[r].generation;
	}
	copies_free(copy);
	return r < 0 ? r : 0;
}

static void
metadata_free(struct metadata *metadata)
{
	metadata->store->ops->close(metadata->store);
	free(metadata->bytes);
	free(metadata);
}

static void on_refuse(struct task *task);

struct metadata *
metadata_open(struct loop *loop, struct store *store, bool *ret_new,
	      struct reason *reason)
{
	struct metadata *metadata = calloc(1, sizeof(*metadata));

	if (metadata == NULL) {
		(void)reason_set(reason, -ENOMEM, "%s: out of memory",
				 store->name);
		store->ops->close(store);
		return NULL;
	}
	metadata->store = store;
	metadata->bytes = aligned_alloc(STORE_ALIGN, METADATA_COPY_BYTES);
	INIT_LIST_HEAD(&metadata->waiting);
	INIT_LIST_HEAD(&metadata->running);
	task_init(&metadata->refuse, loop, on_refuse);
	if (metadata->bytes == NULL ||
	    metadata_read(store, &metadata->state, &metadata->generation,
			  ret_new, reason) < 0) {
		metadata_free(metadata);
		return NULL;
	}
	return metadata;
}

struct metadata *
metadata_close(struct metadata *metadata)
{
	if (metadata == NULL)
		return NULL;
	metadata->closing = true;
	task_cancel(&metadata->refuse);
	if (!metadata->telling)
		metadata_free(metadata);
	return NULL;
}

struct store *
metadata_store(struct metadata *metadata)
{
	return metadata->store;
}

struct metadata_state *
metadata_state(struct metadata *metadata)
{
	return &metadata->state;
}

bool
metadata_is_idle(const struct metadata *metadata)
{
	return !metadata->writing && list_empty(&metadata->waiting) &&
	       list_empty(&metadata->running);
}

/* --- writing --- */

/* Those that run.  One may ask for another commit, or close. */
static void
tell(struct metadata *metadata, int error)
{
	metadata->telling = true;
	while (!metadata->closing && !list_empty(&metadata->running)) {
		struct metadata_commit *commit = list_first_entry(
			&metadata->running, struct metadata_commit, entry);

		list_del(&commit->entry);
		commit->on_done(commit, error);
	}
	metadata->telling = false;
	if (metadata->closing)
		metadata_free(metadata);
	else
		start(metadata);
}

static void
on_refuse(struct task *task)
{
	struct metadata *metadata = container_of(task, struct metadata, refuse);

	/* not those that are asked for meanwhile */
	list_splice_tail_init(&metadata->waiting, &metadata->running);
	tell(metadata, metadata->error);
}

static void
end(struct metadata *metadata, int error)
{
	metadata->writing = false;
	metadata->error = error;
	tell(metadata, error);
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

/* Nothing to do, or not now: tell() comes back. */
static void
start(struct metadata *metadata)
{
	if (metadata->writing || metadata->telling ||
	    list_empty(&metadata->waiting))
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
