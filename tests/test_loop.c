/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_loop - the event loop: descriptors, timers, tasks, both clocks.
 */
#include "tests/test.h"

#include <unistd.h>

#include "core/loop.h"

struct thing {
	struct watch watch;
	struct timer timer;
	struct task task;
	struct thing *other;
	struct loop *loop;
	unsigned int count;
	uint64_t at_ns;
};

static void
count_timer(struct timer *timer)
{
	struct thing *thing = container_of(timer, struct thing, timer);

	thing->count++;
	thing->at_ns = loop_now(timer->loop);
}

static void
test_timers_expire_in_order_of_time_not_of_setting(void **state)
{
	struct loop *loop = loop_new_simulated();
	struct thing things[50];

	(void)state;
	for (unsigned int i = 0; i < 50; i++) {
		things[i].count = 0;
		timer_init(&things[i].timer, loop, count_timer);
		timer_set(&things[i].timer, (i * 37 % 50 + 1) * NS_PER_MS);
	}
	for (unsigned int i = 0; i < 50; i += 5)
		timer_clear(&things[i].timer);
	loop_advance(loop, 100 * NS_PER_MS);
	for (unsigned int i = 0; i < 50; i++) {
		assert_int_equal(things[i].count, i % 5 == 0 ? 0 : 1);
		if (i % 5 != 0)
			assert_int_equal(things[i].at_ns,
					 (i * 37 % 50 + 1) * NS_PER_MS);
	}
	assert_int_equal(loop_now(loop), 100 * NS_PER_MS);
	loop_free(loop);
}

static void
test_setting_a_timer_again_moves_it(void **state)
{
	struct loop *loop = loop_new_simulated();
	struct thing thing = { .count = 0 };

	(void)state;
	timer_init(&thing.timer, loop, count_timer);
	timer_set(&thing.timer, 10 * NS_PER_MS);
	loop_advance(loop, 5 * NS_PER_MS);
	timer_set(&thing.timer, 10 * NS_PER_MS);
	loop_advance(loop, 9 * NS_PER_MS);
	assert_int_equal(thing.count, 0);
	assert_true(timer_is_set(&thing.timer));
	loop_advance(loop, 1 * NS_PER_MS);
	assert_int_equal(thing.count, 1);
	assert_false(timer_is_set(&thing.timer));
	loop_free(loop);
}

static void
count_task(struct task *task)
{
	container_of(task, struct thing, task)->count++;
}

static void
repost_task(struct task *task)
{
	struct thing *thing = container_of(task, struct thing, task);

	if (++thing->count < 1000)
		task_post(task);
}

static void
test_posting_a_task_twice_runs_it_once(void **state)
{
	struct loop *loop = loop_new_simulated();
	struct thing thing = { .count = 0 };

	(void)state;
	task_init(&thing.task, loop, count_task);
	task_post(&thing.task);
	task_post(&thing.task);
	loop_run_until_idle(loop);
	assert_int_equal(thing.count, 1);
	task_post(&thing.task);
	task_cancel(&thing.task);
	loop_run_until_idle(loop);
	assert_int_equal(thing.count, 1);
	loop_free(loop);
}

static void
count_event(struct watch *watch, unsigned int events)
{
	struct thing *thing = container_of(watch, struct thing, watch);

	if (events & WATCH_READ) {
		char byte;

		assert_int_equal(read(watch->fd, &byte, 1), 1);
		thing->count++;
	}
}

/* L2: a task that posts itself for ever must not keep descriptors waiting. */
static void
test_a_busy_task_does_not_starve_descriptors(void **state)
{
	struct loop *loop = loop_new(NULL);
	struct thing busy = { .count = 0 }, reader = { .count = 0 };
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	task_init(&busy.task, loop, repost_task);
	task_post(&busy.task);
	assert_int_equal(watch_open(&reader.watch, loop, fds[0], WATCH_READ,
				    count_event),
			 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(reader.count, 1);
	assert_in_range(busy.count, 1, 10);
	watch_close(&reader.watch);
	task_cancel(&busy.task);
	close(fds[0]);
	close(fds[1]);
	loop_free(loop);
}

static void
close_other(struct watch *watch, unsigned int events)
{
	struct thing *thing = container_of(watch, struct thing, watch);

	(void)events;
	thing->count++;
	watch_close(&thing->other->watch);
	watch_close(watch);
}

/* L1: both are ready in one batch; whoever runs first closes the other. */
static void
test_a_closed_watch_is_not_called_though_its_event_was_taken(void **state)
{
	struct loop *loop = loop_new(NULL);
	struct thing a = { .count = 0 }, b = { .count = 0 };
	int fds[2][2];

	(void)state;
	a.other = &b;
	b.other = &a;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe(fds[i]), 0);
		assert_int_equal(write(fds[i][1], "x", 1), 1);
		assert_int_equal(watch_open(i == 0 ? &a.watch : &b.watch, loop,
					    fds[i][0], WATCH_READ, close_other),
				 0);
	}
	assert_int_equal(loop_turn(loop, NS_PER_S), 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(a.count + b.count, 1);
	for (int i = 0; i < 2; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
	loop_free(loop);
}

static void
stop_timer(struct timer *timer)
{
	count_timer(timer);
	loop_stop(timer->loop);
}

static void
test_a_real_loop_sleeps_until_its_timer_with_and_without_polling(void **state)
{
	(void)state;
	for (unsigned int busy = 0; busy < 2; busy++) {
		struct loop *loop = loop_new(NULL);
		struct thing thing = { .count = 0 };
		uint64_t begun = loop_now(loop);

		loop_set_busy_poll(loop, busy * 100 * NS_PER_US);
		timer_init(&thing.timer, loop, stop_timer);
		timer_set(&thing.timer, 5 * NS_PER_MS);
		assert_int_equal(loop_run(loop), 0);
		assert_int_equal(thing.count, 1);
		assert_true(thing.at_ns - begun >= 5 * NS_PER_MS);
		loop_free(loop);
	}
}

static void
test_a_loop_tells_when_something_is_due(void **state)
{
	struct loop *loop = loop_new_simulated();
	struct thing thing = { .count = 0 };

	(void)state;
	assert_true(loop_next(loop) == UINT64_MAX);
	timer_init(&thing.timer, loop, count_timer);
	timer_set(&thing.timer, 5 * NS_PER_MS);
	loop_advance(loop, 2 * NS_PER_MS);
	assert_int_equal(loop_next(loop), 5 * NS_PER_MS);
	task_init(&thing.task, loop, count_task);
	task_post(&thing.task);
	assert_int_equal(loop_next(loop), 2 * NS_PER_MS);
	loop_advance(loop, loop_next(loop) - loop_now(loop));
	assert_int_equal(loop_next(loop), 5 * NS_PER_MS);
	loop_advance(loop, 3 * NS_PER_MS);
	assert_int_equal(thing.count, 2);
	assert_true(loop_next(loop) == UINT64_MAX);
	loop_free(loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_timers_expire_in_order_of_time_not_of_setting),
		cmocka_unit_test(test_setting_a_timer_again_moves_it),
		cmocka_unit_test(test_posting_a_task_twice_runs_it_once),
		cmocka_unit_test(test_a_busy_task_does_not_starve_descriptors),
		cmocka_unit_test(test_a_loop_tells_when_something_is_due),
		cmocka_unit_test(
			test_a_closed_watch_is_not_called_though_its_event_was_taken),
		cmocka_unit_test(
			test_a_real_loop_sleeps_until_its_timer_with_and_without_polling),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
