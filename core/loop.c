/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop - see loop.h.
 *
 * Descriptors come from epoll, timers from a binary heap, tasks from a list.
 *
 * L1  A closed watch's handler never runs, although its event was already
 *     taken from epoll: watch_close() strikes it out of the batch.
 * L2  A task posted while tasks run is due in the next round.  A turn has at
 *     most LOOP_ROUNDS of them, so one task that posts itself starves nobody;
 *     a request passes from task to task on its way, and to ask the kernel
 *     for descriptors between two of them would cost more than it finds.
 * L3  Busy polling is bounded: it never lasts longer than busy_ns, which
 *     halves with each poll that found nothing and doubles when sleep turned
 *     out to be short.
 */
#include "core/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "core/reason.h"

#define LOOP_BATCH	64
#define LOOP_ROUNDS	4
#define BUSY_NS_MIN	(4 * NS_PER_US)
#define WAIT_FOREVER_NS UINT64_MAX

struct loop {
	int epoll; /* owned; -1: simulated */
	bool stopping;
	uint64_t simulated_ns;

	struct list_head tasks;
	struct timer *heap[TIMER_MAX + 1]; /* from 1; earliest first */
	unsigned int timers;

	struct epoll_event batch[LOOP_BATCH];
	int batch_count;
	int batch_next;

	uint64_t busy_max_ns;
	uint64_t busy_ns;
};

static struct loop *
loop_alloc(void)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (loop != NULL) {
		loop->epoll = -1;
		INIT_LIST_HEAD(&loop->tasks);
	}
	return loop;
}

struct loop *
loop_new(struct reason *reason)
{
	struct loop *loop = loop_alloc();

	if (loop != NULL)
		loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (loop == NULL || loop->epoll < 0) {
		(void)reason_set(reason, -errno, "event loop: %s",
				 strerror(errno));
		return loop_free(loop);
	}
	return loop;
}

struct loop *
loop_new_simulated(void)
{
	struct loop *loop = loop_alloc();

	assert(loop != NULL);
	return loop;
}

struct loop *
loop_free(struct loop *loop)
{
	if (loop != NULL && loop->epoll >= 0)
		(void)close(loop->epoll);
	free(loop);
	return NULL;
}

uint64_t
loop_now(const struct loop *loop)
{
	struct timespec now;

	if (loop->epoll < 0)
		return loop->simulated_ns;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

void
loop_stop(struct loop *loop)
{
	loop->stopping = true;
}

void
loop_set_busy_poll(struct loop *loop, uint64_t max_ns)
{
	loop->busy_max_ns = max_ns;
	loop->busy_ns = 0;
}

uint64_t
loop_busy_poll(const struct loop *loop)
{
	return loop->busy_max_ns;
}

/* --- timers: a heap whose places are kept in the timers --- */

static void
heap_place(struct loop *loop, unsigned int place, struct timer *timer)
{
	loop->heap[place] = timer;
	timer->place = place;
}

static void
heap_rise(struct loop *loop, struct timer *timer)
{
	unsigned int place = timer->place;

	while (place > 1 &&
	       loop->heap[place / 2]->expires_ns > timer->expires_ns) {
		heap_place(loop, place, loop->heap[place / 2]);
		place /= 2;
	}
	heap_place(loop, place, timer);
}

static void
heap_sink(struct loop *loop, struct timer *timer)
{
	unsigned int place = timer->place;
	unsigned int child;

	while ((child = 2 * place) <= loop->timers) {
		if (child < loop->timers &&
		    loop->heap[child + 1]->expires_ns <
			    loop->heap[child]->expires_ns)
			child++;
		if (loop->heap[child]->expires_ns >= timer->expires_ns)
			break;
		heap_place(loop, place, loop->heap[child]);
		place = child;
	}
	heap_place(loop, place, timer);
}

void
timer_init(struct timer *timer, struct loop *loop,
	   void (*on_expire)(struct timer *timer))
{
	*timer = (struct timer){ .loop = loop, .on_expire = on_expire };
}

bool
timer_is_set(const struct timer *timer)
{
	return timer->place != 0;
}

void
timer_clear(struct timer *timer)
{
	struct loop *loop = timer->loop;
	unsigned int place = timer->place;
	struct timer *last;

	if (place == 0)
		return;
	timer->place = 0;
	last = loop->heap[loop->timers--];
	if (last == timer)
		return;
	heap_place(loop, place, last);
	heap_rise(loop, last);
	heap_sink(loop, last);
}

void
timer_set(struct timer *timer, uint64_t delay_ns)
{
	struct loop *loop = timer->loop;
	uint64_t now = loop_now(loop);

	timer_clear(timer);
	assert(loop->timers < TIMER_MAX);
	timer->expires_ns =
		delay_ns > UINT64_MAX - now ? UINT64_MAX : now + delay_ns;
	heap_place(loop, ++loop->timers, timer);
	heap_rise(loop, timer);
}

static bool
loop_expire(struct loop *loop)
{
	uint64_t now = loop_now(loop);
	bool any = false;

	while (loop->timers > 0 && loop->heap[1]->expires_ns <= now) {
		struct timer *timer = loop->heap[1];

		timer_clear(timer);
		timer->on_expire(timer);
		any = true;
	}
	return any;
}

/* --- tasks --- */

void
task_init(struct task *task, struct loop *loop,
	  void (*on_run)(struct task *task))
{
	task->loop = loop;
	task->on_run = on_run;
	INIT_LIST_HEAD(&task->entry);
}

void
task_post(struct task *task)
{
	if (list_empty(&task->entry))
		list_add_tail(&task->entry, &task->loop->tasks);
}

void
task_cancel(struct task *task)
{
	list_del_init(&task->entry);
}

/* One round: what is due now, not what that posts (L2). */
static void
loop_run_tasks(struct loop *loop)
{
	LIST_HEAD(due);

	list_splice_tail_init(&loop->tasks, &due);
	while (!list_empty(&due)) {
		struct task *task = list_first_entry(&due, struct task, entry);

		list_del_init(&task->entry);
		task->on_run(task);
	}
}

/* --- descriptors --- */

static uint32_t
to_epoll(unsigned int events)
{
	return (events & WATCH_READ ? (uint32_t)EPOLLIN : 0u) |
	       (events & WATCH_WRITE ? (uint32_t)EPOLLOUT : 0u);
}

static unsigned int
from_epoll(uint32_t events)
{
	return (events & EPOLLIN ? WATCH_READ : 0u) |
	       (events & EPOLLOUT ? WATCH_WRITE : 0u) |
	       (events & (EPOLLHUP | EPOLLERR) ? WATCH_HUP : 0u);
}

int
watch_open(struct watch *watch, struct loop *loop, int fd, unsigned int events,
	   void (*on_event)(struct watch *watch, unsigned int events))
{
	struct epoll_event event = { .events = to_epoll(events),
				     .data.ptr = watch };

	assert(loop->epoll >= 0);
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	*watch = (struct watch){
		.loop = loop, .fd = fd, .events = events, .on_event = on_event
	};
	return 0;
}

void
watch_set(struct watch *watch, unsigned int events)
{
	struct epoll_event event = { .events = to_epoll(events),
				     .data.ptr = watch };

	if (watch->events == events)
		return;
	watch->events = events;
	if (epoll_ctl(watch->loop->epoll, EPOLL_CTL_MOD, watch->fd, &event) < 0)
		abort(); /* the descriptor was closed behind our back */
}

void
watch_close(struct watch *watch)
{
	struct loop *loop = watch->loop;

	if (loop == NULL)
		return;
	watch->loop = NULL;
	(void)epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
	for (int i = loop->batch_next; i < loop->batch_count; i++) {
		if (loop->batch[i].data.ptr == watch)
			loop->batch[i].data.ptr = NULL;
	}
}

static void
loop_dispatch(struct loop *loop)
{
	while (loop->batch_next < loop->batch_count) {
		struct epoll_event *event = &loop->batch[loop->batch_next++];
		struct watch *watch = event->data.ptr;

		if (watch != NULL)
			watch->on_event(watch, from_epoll(event->events));
	}
}

static int
loop_poll(struct loop *loop, uint64_t wait_ns)
{
	struct timespec wait = { .tv_sec = (time_t)(wait_ns / NS_PER_S),
				 .tv_nsec = (long)(wait_ns % NS_PER_S) };
	int count =
		epoll_pwait2(loop->epoll, loop->batch, LOOP_BATCH,
			     wait_ns == WAIT_FOREVER_NS ? NULL : &wait, NULL);

	if (count < 0 && errno == ENOSYS) /* before Linux 5.11 */
		count = epoll_wait(
			loop->epoll, loop->batch, LOOP_BATCH,
			wait_ns > 1000 * NS_PER_S
				? -1
				: (int)((wait_ns + NS_PER_MS - 1) / NS_PER_MS));
	if (count < 0)
		return errno == EINTR ? 0 : -errno;
	loop->batch_count = count;
	loop->batch_next = 0;
	return count;
}

static uint64_t
loop_wait_ns(const struct loop *loop, uint64_t wait_ns)
{
	uint64_t now, until;

	if (loop->stopping || !list_empty(&loop->tasks))
		return 0;
	if (loop->timers == 0)
		return wait_ns;
	now = loop_now(loop);
	until = loop->heap[1]->expires_ns;
	until = until > now ? until - now : 0;
	return until < wait_ns ? until : wait_ns;
}

/* Poll without sleeping for a while, then sleep (L3). */
static int
loop_wait(struct loop *loop, uint64_t wait_ns)
{
	uint64_t begun, end, slept;
	int count;

	if (loop->busy_max_ns == 0 || wait_ns == 0)
		return loop_poll(loop, wait_ns);

	begun = loop_now(loop);
	end = begun + (loop->busy_ns < wait_ns ? loop->busy_ns : wait_ns);
	while (loop->busy_ns > 0) {
		count = loop_poll(loop, 0);
		if (count != 0)
			return count;
		if (loop_now(loop) >= end) {
			loop->busy_ns /= 2;
			if (loop->busy_ns < BUSY_NS_MIN)
				loop->busy_ns = 0;
			break;
		}
	}
	begun = loop_now(loop);
	count = loop_poll(loop, wait_ns);
	slept = loop_now(loop) - begun;
	if (count > 0 && slept < loop->busy_max_ns) {
		loop->busy_ns =
			loop->busy_ns == 0 ? BUSY_NS_MIN : 2 * loop->busy_ns;
		if (loop->busy_ns < 2 * slept)
			loop->busy_ns = 2 * slept;
		if (loop->busy_ns > loop->busy_max_ns)
			loop->busy_ns = loop->busy_max_ns;
	}
	return count;
}

int
loop_turn(struct loop *loop, uint64_t wait_ns)
{
	int r;

	for (int round = 0; round < LOOP_ROUNDS; round++) {
		if (list_empty(&loop->tasks) || (round > 0 && loop->stopping))
			break;
		loop_run_tasks(loop);
	}
	r = loop_wait(loop, loop_wait_ns(loop, wait_ns));
	if (r < 0)
		return r;
	loop_dispatch(loop);
	(void)loop_expire(loop);
	return 0;
}

int
loop_run(struct loop *loop)
{
	int r = 0;

	loop->stopping = false;
	while (r == 0 && !loop->stopping)
		r = loop_turn(loop, WAIT_FOREVER_NS);
	return r;
}

/* --- simulated --- */

void
loop_run_until_idle(struct loop *loop)
{
	assert(loop->epoll < 0);
	do {
		while (!list_empty(&loop->tasks))
			loop_run_tasks(loop);
	} while (loop_expire(loop));
}

void
loop_advance(struct loop *loop, uint64_t ns)
{
	uint64_t end = loop->simulated_ns + ns;

	loop_run_until_idle(loop);
	while (loop->timers > 0 && loop->heap[1]->expires_ns <= end) {
		if (loop->heap[1]->expires_ns > loop->simulated_ns)
			loop->simulated_ns = loop->heap[1]->expires_ns;
		loop_run_until_idle(loop);
	}
	loop->simulated_ns = end;
}

uint64_t
loop_next(const struct loop *loop)
{
	uint64_t now = loop_now(loop);

	if (!list_empty(&loop->tasks))
		return now;
	if (loop->timers == 0)
		return UINT64_MAX;
	return loop->heap[1]->expires_ns > now ? loop->heap[1]->expires_ns
					       : now;
}
