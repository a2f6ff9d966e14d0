/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool - see pool.h.
 *
 * A buddy allocator.  Each block of POOL_MIN bytes has a struct block; the
 * first of a run speaks for the run: its order (length = POOL_MIN << order)
 * and whether it is free.  Free runs of an order are on that order's list.
 *
 * B1  A free run's buddy of the same order is not free (else they are one).
 * B2  Memory of the area is touched by users only: the mapping stays sparse
 *     until then.
 */
#include "core/pool.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/reason.h"

#define ORDERS 14 /* POOL_MIN << 13 == POOL_MAX */

_Static_assert((POOL_MIN << (ORDERS - 1)) == POOL_MAX, "orders fit the sizes");

struct block {
	struct list_head entry; /* on free[order] while free */
	uint8_t order;
	bool free;
	bool used; /* the first block of a run handed out */
};

struct pool {
	struct loop *loop; /* borrowed */
	char *base;	   /* owned mapping */
	size_t size;
	size_t in_use;
	struct block *blocks; /* owned */
	size_t block_count;
	struct list_head free[ORDERS];
	struct list_head waiters; /* in order of arrival */
	struct list_head users;	  /* who registered the area */
	struct task serve;
};

static void pool_serve(struct task *task);

static void
free_run(struct pool *pool, size_t index, unsigned int order)
{
	struct block *block = &pool->blocks[index];

	block->order = (uint8_t)order;
	block->free = true;
	block->used = false;
	/* the last freed is the first reused: its cache lines are warm */
	list_add(&block->entry, &pool->free[order]);
}

static int
pool_map(struct pool *pool, size_t bytes)
{
	char *at, *aligned;

	/* twice POOL_MAX alignment is had by cutting a larger mapping */
	at = mmap(NULL, bytes + POOL_MAX, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return -errno;
	aligned = (char *)(((uintptr_t)at + POOL_MAX - 1) &
			   ~((uintptr_t)POOL_MAX - 1));
	if (aligned > at)
		(void)munmap(at, (size_t)(aligned - at));
	if (aligned < at + POOL_MAX)
		(void)munmap(aligned + bytes,
			     (size_t)(at + POOL_MAX - aligned));
	pool->base = aligned;
	pool->size = bytes;
	return 0;
}

struct pool *
pool_new(struct loop *loop, size_t bytes, struct reason *reason)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	size_t size = POOL_MAX;
	int r = pool == NULL ? -ENOMEM : 0;

	while (size < bytes && size <= SIZE_MAX / 4)
		size *= 2;
	if (r == 0)
		r = pool_map(pool, size);
	if (r == 0) {
		pool->loop = loop;
		pool->block_count = size / POOL_MIN;
		pool->blocks = calloc(pool->block_count, sizeof(struct block));
		r = pool->blocks == NULL ? -ENOMEM : 0;
	}
	if (r < 0) {
		(void)reason_set(reason, r,
				 "no memory for a buffer pool of %zu MiB: %s",
				 size >> 20, strerror(-r));
		if (pool != NULL && pool->base != NULL)
			(void)munmap(pool->base, pool->size);
		free(pool);
		return NULL;
	}
	for (unsigned int i = 0; i < ORDERS; i++)
		INIT_LIST_HEAD(&pool->free[i]);
	INIT_LIST_HEAD(&pool->waiters);
	INIT_LIST_HEAD(&pool->users);
	task_init(&pool->serve, loop, pool_serve);
	for (size_t i = pool->block_count; i > 0; i -= POOL_MAX / POOL_MIN)
		free_run(pool, i - POOL_MAX / POOL_MIN, ORDERS - 1);
	return pool;
}

struct pool *
pool_free(struct pool *pool)
{
	if (pool == NULL)
		return NULL;
	assert(pool->in_use == 0);
	assert(list_empty(&pool->waiters));
	while (!list_empty(&pool->users)) {
		struct pool_user *user =
			list_first_entry(&pool->users, struct pool_user, entry);

		list_del_init(&user->entry);
		user->on_free(user);
	}
	task_cancel(&pool->serve);
	(void)munmap(pool->base, pool->size);
	free(pool->blocks);
	free(pool);
	return NULL;
}

static unsigned int
order_of(size_t length)
{
	unsigned int order = 0;

	assert(length > 0 && length <= POOL_MAX);
	while (((size_t)POOL_MIN << order) < length)
		order++;
	return order;
}

static void *
take(struct pool *pool, unsigned int wanted)
{
	struct block *block;
	unsigned int order = wanted;
	size_t index;

	while (order < ORDERS && list_empty(&pool->free[order]))
		order++;
	if (order == ORDERS)
		return NULL;
	block = list_first_entry(&pool->free[order], struct block, entry);
	list_del(&block->entry);
	index = (size_t)(block - pool->blocks);
	while (order > wanted) {
		order--;
		free_run(pool, index + ((size_t)1 << order), order);
	}
	block->order = (uint8_t)wanted;
	block->free = false;
	block->used = true;
	pool->in_use += (size_t)POOL_MIN << wanted;
	return pool->base + index * POOL_MIN;
}

void *
pool_get(struct pool *pool, size_t length)
{
	if (!list_empty(&pool->waiters))
		return NULL;
	return take(pool, order_of(length));
}

void
pool_put(struct pool *pool, void *buffer)
{
	size_t index;
	unsigned int order;

	if (buffer == NULL)
		return;
	index = (size_t)((char *)buffer - pool->base) / POOL_MIN;
	assert(index < pool->block_count && pool->blocks[index].used);
	order = pool->blocks[index].order;
	pool->in_use -= (size_t)POOL_MIN << order;

	while (order < ORDERS - 1) {
		size_t buddy = index ^ ((size_t)1 << order);

		if (!pool->blocks[buddy].free ||
		    pool->blocks[buddy].order != order)
			break;
		list_del(&pool->blocks[buddy].entry);
		pool->blocks[buddy].free = false;
		pool->blocks[index].used = false;
		index &= ~((size_t)1 << order);
		order++;
	}
	free_run(pool, index, order);
	if (!list_empty(&pool->waiters))
		task_post(&pool->serve);
}

/* Serve the queue from its head as far as there are buffers (P2). */
static void
pool_serve(struct task *task)
{
	struct pool *pool = container_of(task, struct pool, serve);

	while (!list_empty(&pool->waiters)) {
		struct pool_waiter *waiter = list_first_entry(
			&pool->waiters, struct pool_waiter, entry);
		void *buffer = take(pool, order_of(waiter->length));

		if (buffer == NULL)
			return;
		list_del_init(&waiter->entry);
		waiter->on_ready(waiter, buffer);
	}
}

void
pool_waiter_init(struct pool_waiter *waiter,
		 void (*on_ready)(struct pool_waiter *, void *))
{
	INIT_LIST_HEAD(&waiter->entry);
	waiter->on_ready = on_ready;
}

void
pool_wait(struct pool *pool, struct pool_waiter *waiter, size_t length)
{
	assert(list_empty(&waiter->entry));
	waiter->length = length;
	list_add_tail(&waiter->entry, &pool->waiters);
	task_post(&pool->serve);
}

void
pool_cancel(struct pool *pool, struct pool_waiter *waiter)
{
	list_del_init(&waiter->entry);
	task_post(&pool->serve); /* who was behind it may go now */
}

void
pool_watch(struct pool *pool, struct pool_user *user)
{
	list_add_tail(&user->entry, &pool->users);
}

void
pool_unwatch(struct pool_user *user)
{
	list_del_init(&user->entry);
}

void *
pool_base(const struct pool *pool)
{
	return pool->base;
}

size_t
pool_size(const struct pool *pool)
{
	return pool->size;
}

size_t
pool_in_use(const struct pool *pool)
{
	return pool->in_use;
}
