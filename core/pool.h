/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool - the data buffers of a process: one mapped, aligned area that can be
 * registered once with a device (RDMA, io_uring) and is handed out in powers
 * of two from POOL_MIN.
 *
 * P1  A buffer is aligned to its own size, at least to POOL_MIN.
 * P2  The area never grows.  Who finds it empty waits in a queue, and a large
 *     request at its head is not overtaken.
 *
 * Called on the loop's thread.
 */
#ifndef CORE_POOL_H
#define CORE_POOL_H

#include <stddef.h>

#include "list.h"
#include "loop.h"

#define POOL_MIN 4096u
#define POOL_MAX (32u << 20) /* the largest buffer */

struct pool;
struct reason;

/* `bytes` is rounded up to a power of two of at least POOL_MAX. */
struct pool *pool_new(struct loop *loop, size_t bytes, struct reason *reason);
struct pool *pool_free(struct pool *pool); /* everything must be back */

/* A buffer of at least `length` (1 .. POOL_MAX) bytes, or NULL if there is
 * none now or somebody waits. */
void *pool_get(struct pool *pool, size_t length);
void pool_put(struct pool *pool, void *buffer); /* NULL is allowed */

/* Wait for a buffer.  on_ready comes from the loop, once, and owns it. */
struct pool_waiter {
	struct list_head entry; /* initialise with pool_waiter_init() */
	size_t length;
	void (*on_ready)(struct pool_waiter *waiter, void *buffer);
};

void pool_waiter_init(struct pool_waiter *waiter,
		      void (*on_ready)(struct pool_waiter *, void *));
void pool_wait(struct pool *pool, struct pool_waiter *waiter, size_t length);
void pool_cancel(struct pool *pool, struct pool_waiter *waiter);

/* The whole area, to register it; who did is told before it goes. */
struct pool_user {
	struct list_head entry;
	void (*on_free)(struct pool_user *user);
};

void pool_watch(struct pool *pool, struct pool_user *user);
void pool_unwatch(struct pool_user *user);
void *pool_base(const struct pool *pool);
size_t pool_size(const struct pool *pool);
size_t pool_in_use(const struct pool *pool); /* bytes handed out */

#endif
