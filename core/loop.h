/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop - the one event loop of a process: descriptors, timers, tasks, and the
 * clock that everything else reads.
 *
 * A turn: run the tasks that are due, sleep until a descriptor is ready or a
 * timer expires, run their handlers.  Handlers never block and take a bounded
 * batch; with more to do they post a task.  watch, timer and task live inside
 * their owners (container_of); the loop borrows them and allocates nothing for
 * them.  A handler may close any watch, timer or task, its own included, and
 * may then free the owner.
 *
 * A simulated loop has no descriptors and a clock that moves only by
 * loop_advance(): tests and the simulator run the same objects on it.
 */
#ifndef CORE_LOOP_H
#define CORE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "list.h"

struct loop;
struct reason;

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull

struct loop *loop_new(struct reason *reason); /* NULL on failure */
struct loop *loop_new_simulated(void);	      /* aborts without memory */
struct loop *loop_free(struct loop *loop);    /* returns NULL, takes NULL */

/* Monotonic nanoseconds, read anew at each call (a simulated loop: as set). */
uint64_t loop_now(const struct loop *loop);

/* Turn until loop_stop().  Returns 0, or a negative errno if waiting failed. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* One turn that sleeps at most `wait_ns`.  Returns 0 or a negative errno. */
int loop_turn(struct loop *loop, uint64_t wait_ns);

/* Simulated: run tasks until none is due; move the clock by `ns`, expiring
 * timers in order on the way. */
void loop_run_until_idle(struct loop *loop);
void loop_advance(struct loop *loop, uint64_t ns);
/* When something is due, in loop_now() time: now for a task; UINT64_MAX if
 * nothing is. */
uint64_t loop_next(const struct loop *loop);

/* At most so long does a turn poll before it sleeps; adapted downwards while
 * polling finds nothing, off when idle.  0 (the default) never polls. */
void loop_set_busy_poll(struct loop *loop, uint64_t max_ns);
/* What was set: who polls for something else obeys it, too. */
uint64_t loop_busy_poll(const struct loop *loop);

/* --- descriptors --- */

#define WATCH_READ  0x1
#define WATCH_WRITE 0x2
#define WATCH_HUP   0x4 /* error or hang-up; delivered unasked */

struct watch {
	struct loop *loop; /* borrowed; NULL while closed */
	int fd;		   /* borrowed */
	unsigned int events;
	void (*on_event)(struct watch *watch, unsigned int events);
};

/* Level-triggered.  Returns 0 or a negative errno. */
int watch_open(struct watch *watch, struct loop *loop, int fd,
	       unsigned int events,
	       void (*on_event)(struct watch *watch, unsigned int events));
void watch_set(struct watch *watch, unsigned int events);
void watch_close(struct watch *watch); /* closed ones too; fd stays open */

/* --- timers --- */

struct timer {
	struct loop *loop;   /* borrowed */
	uint64_t expires_ns; /* in loop_now() time */
	unsigned int place;  /* in the loop's heap, from 1; 0 = not set */
	void (*on_expire)(struct timer *timer);
};

#define TIMER_MAX 1024 /* set at once, in one loop */

void timer_init(struct timer *timer, struct loop *loop,
		void (*on_expire)(struct timer *timer));
void timer_set(struct timer *timer, uint64_t delay_ns); /* once; moves it */
void timer_clear(struct timer *timer);
bool timer_is_set(const struct timer *timer);

/* --- tasks --- */

struct task {
	struct loop *loop; /* borrowed */
	struct list_head entry;
	void (*on_run)(struct task *task);
};

void task_init(struct task *task, struct loop *loop,
	       void (*on_run)(struct task *task));
void task_post(struct task *task); /* due at once; posting twice is once */
void task_cancel(struct task *task);

#endif
