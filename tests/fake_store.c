/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_store - see fake_store.h.
 */
#include "tests/fake_store.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "drivers/random.h"

struct fake_store {
	struct store store;
	struct fake_file *file;
	struct loop *loop;
	struct list_head under_way;
};

/* Within store_op.private. */
struct fake_op {
	struct timer timer;
	struct store_op *op;
	struct fake_store *fake;
	bool flush;
	uint64_t mark;
	int error;
};

static_assert(sizeof(struct fake_op) <= sizeof(((struct store_op *)0)->private),
	      "an operation fits");

static struct fake_store *
fake_of(struct store *store)
{
	return container_of(store, struct fake_store, store);
}

static long
fake_read(struct store *store, void *buf, size_t length, uint64_t offset)
{
	const struct fake_file *file = fake_of(store)->file;

	if (file->read_error < 0)
		return file->read_error;
	return (long)medium_read(&file->medium, buf, length, offset);
}

static void
on_end(struct timer *timer)
{
	struct fake_op *fop = container_of(timer, struct fake_op, timer);
	struct store_op *op = fop->op;

	list_del(&op->entry);
	if (fop->fake->file->abandoned)
		return;
	if (fop->flush && fop->error == 0) {
		medium_flush(&fop->fake->file->medium, fop->mark);
		if (fop->fake->file->on_flushed != NULL)
			fop->fake->file->on_flushed(fop->fake->file);
	}
	op->on_done(op, fop->error);
}

static void
begin(struct store *store, struct store_op *op, bool flush, int error)
{
	struct fake_op *fop = (struct fake_op *)(void *)op->private;
	struct fake_store *fake = fake_of(store);
	struct fake_file *file = fake->file;
	uint64_t delay = file->delay_ns;

	*fop = (struct fake_op){ .op = op, .fake = fake, .flush = flush };
	fop->mark = medium_mark(&file->medium);
	fop->error = error;
	timer_init(&fop->timer, fake->loop, on_end);
	list_add_tail(&op->entry, &fake->under_way);
	if (file->spread_ns > 0)
		delay += (uint64_t)(random_next(&file->random) *
				    (double)file->spread_ns);
	if (++file->operations <= file->silent_after)
		timer_set(&fop->timer, delay);
}

static int
error_of(const struct fake_file *file)
{
	return file->error < 0 ? file->error : -EIO;
}

static void
fake_write(struct store *store, struct store_op *op, const void *buf,
	   size_t length, uint64_t offset)
{
	struct fake_file *file = fake_of(store)->file;
	bool fails = ++file->writes == file->fail_write_at;

	assert(length % 4096 == 0 && offset % 4096 == 0);
	assert((uintptr_t)buf % 4096 == 0);
	if (file->abandoned)
		return;
	/* one that fails may have got anywhere */
	if (!medium_write(&file->medium, buf, length, offset))
		begin(store, op, false, -ENOSPC);
	else
		begin(store, op, false, fails ? error_of(file) : 0);
}

static void
fake_flush(struct store *store, struct store_op *op)
{
	struct fake_file *file = fake_of(store)->file;
	bool fails = ++file->flushes == file->fail_flush_at;

	begin(store, op, true, fails ? error_of(file) : 0);
}

static void
fake_close(struct store *store)
{
	struct fake_store *fake = fake_of(store);
	struct store_op *op, *spare;

	list_for_each_entry_safe (op, spare, &fake->under_way, entry) {
		struct fake_op *fop = (struct fake_op *)(void *)op->private;

		timer_clear(&fop->timer);
	}
	if (fake->file->store == store)
		fake->file->store = NULL;
	free(fake);
}

static const struct store_ops ops = {
	.read = fake_read,
	.write = fake_write,
	.flush = fake_flush,
	.close = fake_close,
};

struct store *
fake_store_open(struct fake_file *file, struct loop *loop)
{
	struct fake_store *fake;

	if (file->store != NULL)
		return NULL;
	fake = calloc(1, sizeof(*fake));
	assert(fake != NULL);
	fake->store = (struct store){ .ops = &ops, .name = "fake.meta" };
	fake->file = file;
	fake->loop = loop;
	INIT_LIST_HEAD(&fake->under_way);
	file->store = &fake->store;
	file->abandoned = false;
	/* what a killed process wrote is flushed before it is read */
	medium_flush(&file->medium, medium_mark(&file->medium));
	return &fake->store;
}

void
fake_file_init(struct fake_file *file, uint64_t seed)
{
	*file = (struct fake_file){ .random = seed, .silent_after = UINT_MAX };
	medium_init(&file->medium, 0, FAKE_FILE_ROOM);
}

void
fake_file_done(struct fake_file *file)
{
	assert(file->store == NULL);
	medium_done(&file->medium);
}

void
fake_file_abandon(struct fake_file *file)
{
	file->abandoned = true;
	file->store = NULL;
}

void
fake_file_crash(struct fake_file *file)
{
	medium_crash_random(&file->medium, &file->random);
}
