/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_image - stacks of images: names, parents, and requests on their way.
 * Rules D1 and D2 of core/tapdisk.h.
 */
#include "tests/test.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/image.h"
#include "core/log.h"
#include "core/reason.h"
#include "tests/fake_driver.h"

struct world {
	struct loop *loop;
	struct image_stack stack;
	unsigned int parts;
	uint64_t sectors;
	int result;
};

static void
on_part(td_request_t treq, int res)
{
	struct world *world = treq.cb_data;

	world->parts++;
	world->sectors += (uint64_t)treq.secs;
	if (res != 0)
		world->result = res;
}

static int
set_up(void **state)
{
	static struct world world;

	memset(&world, 0, sizeof(world));
	world.loop = loop_new_simulated();
	image_stack_init(&world.stack, world.loop, NULL, fake_types, on_part);
	*state = &world;
	return 0;
}

static int
tear_down(void **state)
{
	struct world *world = *state;

	image_stack_close(&world->stack, NULL);
	image_stack_done(&world->stack);
	loop_free(world->loop);
	return 0;
}

static void
queue(struct world *world, int op, char *buf, td_sector_t sec, int secs)
{
	td_request_t treq = { .op = op,
			      .buf = buf,
			      .sec = sec,
			      .secs = secs,
			      .cb = (void *)on_part,
			      .cb_data = world };

	world->parts = 0;
	world->sectors = 0;
	world->result = 0;
	td_queue_request(world->stack.top, treq);
	loop_run_until_idle(world->loop);
}

static void
test_names_that_open_nothing_are_refused_with_a_sentence(void **state)
{
	static const struct {
		const char *name, *sentence;
		int error;
	} rows[] = {
		{ "", "names no image", -EINVAL },
		{ "fake", "names no image", -EINVAL },
		{ "vhdx:/a", "no driver 'vhdx'", -ENOENT },
		{ "fakes:16", "no driver 'fakes'", -ENOENT },
		{ "fake:moo", "fake:moo: 'moo' is no size", -EINVAL },
		{ "fake:0", "a size of 0 sectors", -EINVAL },
		{ "fake:9,4k", "a size of 9 sectors", -EINVAL },
		{ "pass:|fake:moo", "'moo' is no size", -EINVAL },
		{ "pass:|", "names no image", -EINVAL },
		{ "pass:", "pass:", -EINVAL },
		{ "fake:16,moo", "fake:moo", -EINVAL },
		{ "fake:16,15", "not the parent", -EINVAL },
	};
	struct world *world = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct reason reason = { .text = "" };
		int r = image_stack_open(&world->stack, rows[i].name, 0,
					 &reason);

		assert_int_equal(r, rows[i].error);
		if (strstr(reason.text, rows[i].sentence) == NULL)
			fail_msg("%s: %s", rows[i].name, reason.text);
		assert_null(world->stack.top);
		assert_int_equal(world->stack.count, 0);
	}
}

static void
test_a_chain_of_parents_that_never_ends_is_refused(void **state)
{
	struct world *world = *state;
	struct reason reason = { .text = "" };
	char name[IMAGE_NAME_MAX] = "fake:16";

	for (int i = 0; i < IMAGE_DEPTH_MAX + 1; i++)
		strncat(name, ",16", sizeof(name) - strlen(name) - 1);
	assert_int_equal(image_stack_open(&world->stack, name, 0, &reason),
			 -ELOOP);
	assert_non_null(strstr(reason.text, "loop"));
}

static void
test_requests_out_of_range_or_against_rights_come_back_refused(void **state)
{
	struct world *world = *state;
	static char buf[8192];

	assert_int_equal(image_stack_open(&world->stack, "fake:16,4k", 0, NULL),
			 0);
	queue(world, TD_OP_READ, buf, 8, 8);
	assert_int_equal(world->result, 0);
	queue(world, TD_OP_READ, buf, 16, 8);
	assert_int_equal(world->result, -EINVAL);
	queue(world, TD_OP_READ, buf, UINT64_MAX - 7, 8);
	assert_int_equal(world->result, -EINVAL);
	queue(world, TD_OP_READ, buf, 4, 8);
	assert_int_equal(world->result, -EINVAL);
	queue(world, TD_OP_READ, buf, 0, -8);
	assert_int_equal(world->result, -EINVAL);
	queue(world, TD_OP_DISCARD, NULL, 0, 8);
	assert_int_equal(world->result, -EOPNOTSUPP);
	image_stack_close(&world->stack, NULL);

	assert_int_equal(image_stack_open(&world->stack, "fake:16",
					  TD_OPEN_RDONLY, NULL),
			 0);
	queue(world, TD_OP_WRITE, buf, 0, 8);
	assert_int_equal(world->result, -EPERM);
	assert_int_equal(fake_of(&world->stack, 0)->queued[TD_OP_WRITE], 0);
}

static void
test_a_read_falls_through_parents_and_past_a_short_one(void **state)
{
	struct world *world = *state;
	static char buf[16 * 512], ones[512];

	memset(ones, 1, sizeof(ones));
	assert_int_equal(
		image_stack_open(&world->stack, "pass:|fake:16,12,8", 0, NULL),
		0);
	assert_int_equal(world->stack.count, 4);
	assert_int_equal(world->stack.leaf, 1);
	memcpy(fake_of(&world->stack, 3)->bytes + 7 * 512, ones, 512);

	memset(buf, 9, sizeof(buf));
	queue(world, TD_OP_READ, buf, 0, 16);
	assert_int_equal(world->sectors, 16);
	assert_int_equal(world->result, 0);
	for (size_t i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], i / 512 == 7 ? 1 : 0);
}

static void
test_parents_are_opened_read_only(void **state)
{
	struct world *world = *state;

	assert_int_equal(image_stack_open(&world->stack, "fake:16,8", 0, NULL),
			 0);
	assert_false(world->stack.images[0]->flags & TD_OPEN_RDONLY);
	assert_true(world->stack.images[1]->flags & TD_OPEN_RDONLY);
	assert_true(world->stack.images[1]->flags & TD_OPEN_SHAREABLE);
}

/* A filter of the seed's kind knows no flush; it must not swallow one. */
static void
test_a_flush_passes_a_filter_that_knows_none(void **state)
{
	struct world *world = *state;

	assert_int_equal(
		image_stack_open(&world->stack, "pass:|fake:16", 0, NULL), 0);
	queue(world, TD_OP_FLUSH, NULL, 0, 1);
	assert_int_equal(world->result, 0);
	assert_int_equal(world->sectors, 1);
	assert_int_equal(fake_of(&world->stack, 1)->queued[TD_OP_FLUSH], 1);
	/* but a discard must not pass what might have to hear of it */
	assert_false(image_can(world->stack.top, TD_OP_DISCARD));
}

static void
test_a_drivers_own_callback_never_runs_inside_its_queue_call(void **state)
{
	struct world *world = *state;
	static char buf[4096];
	struct own *own;

	assert_int_equal(
		image_stack_open(&world->stack, "own:|fake:16", 0, NULL), 0);
	own = world->stack.images[0]->driver->data;
	queue(world, TD_OP_WRITE, buf, 0, 8);
	assert_int_equal(own->called_back, 1);
	assert_int_equal(own->reentered, 0);
	assert_int_equal(world->sectors, 8);
}

static void
test_contiguous_parts_of_one_request_are_called_back_as_one(void **state)
{
	struct world *world = *state;
	static char buf[8192];
	struct own *own;
	struct fake *fake;
	td_request_t whole;

	assert_int_equal(
		image_stack_open(&world->stack, "own:|fake:16", 0, NULL), 0);
	own = world->stack.images[0]->driver->data;
	fake = fake_of(&world->stack, 1);
	fake->hold = true;
	queue(world, TD_OP_WRITE, buf, 0, 16);
	whole = fake->held[0];
	fake->held_count = 0;
	for (int i = 0; i < 16; i++) {
		td_request_t part = whole;

		part.sec = (td_sector_t)i;
		part.secs = 1;
		td_complete_request(part, 0);
	}
	loop_run_until_idle(world->loop);
	assert_int_equal(own->called_back, 1);
	assert_int_equal(world->sectors, 16);
}

static void
assert_depth(const td_image_t *image, unsigned int depth, unsigned int max)
{
	assert_int_equal(image->stats.depth, depth);
	assert_int_equal(image->stats.depth_max, max);
}

static void
test_each_image_tells_how_many_requests_it_holds(void **state)
{
	struct world *world = *state;
	static char buf[8192];
	struct fake *fake;
	td_request_t part;

	assert_int_equal(
		image_stack_open(&world->stack, "pass:|fake:64", 0, NULL), 0);
	fake = fake_of(&world->stack, 1);
	fake->hold = true;
	for (int i = 0; i < 3; i++)
		queue(world, TD_OP_WRITE, buf, (td_sector_t)i * 16, 16);
	assert_depth(world->stack.images[0], 0, 1); /* it forwards */
	assert_depth(world->stack.images[1], 3, 3);
	part = fake->held[1];
	part.secs = 4;
	td_complete_request(part, 0);
	assert_depth(world->stack.images[1], 3, 3); /* some of it is there */
	part.sec += 4;
	part.secs = 12;
	td_complete_request(part, 0);
	assert_depth(world->stack.images[1], 2, 3);
	fake->held[1] = fake->held[--fake->held_count];
	fake_release(fake, 0, 0);
	fake_release(fake, 0, 0);
	loop_run_until_idle(world->loop);
	assert_depth(world->stack.images[1], 0, 3);
}

static void
test_block_status_without_a_driver_for_it_is_data(void **state)
{
	struct world *world = *state;
	static struct td_extents extents;

	extents.count = 0;
	assert_int_equal(image_stack_open(&world->stack, "fake:16", 0, NULL),
			 0);
	queue(world, TD_OP_BLOCK_STATUS, (char *)&extents, 4, 12);
	assert_int_equal(extents.count, 1);
	assert_int_equal(extents.extent[0].sec, 4);
	assert_int_equal(extents.extent[0].secs, 12);
	assert_int_equal(extents.extent[0].flags, 0);
}

static void
test_extents_are_sorted_merged_and_cut_at_a_gap(void **state)
{
	static struct td_extents extents;

	(void)state;
	extents.count = 4;
	extents.extent[0] = (struct td_extent){ 30, 10, 0 };
	extents.extent[1] = (struct td_extent){ 10, 5, 3 };
	extents.extent[2] = (struct td_extent){ 15, 5, 3 };
	extents.extent[3] = (struct td_extent){ 20, 5, 0 };
	td_extents_settle(&extents, 10, 30);
	assert_int_equal(extents.count, 2);
	assert_int_equal(extents.extent[0].secs, 10);
	assert_int_equal(extents.extent[0].flags, 3);
	assert_int_equal(extents.extent[1].sec, 20);
	assert_int_equal(extents.extent[1].secs, 5);

	extents.count = 1;
	extents.extent[0] = (struct td_extent){ 11, 5, 3 };
	td_extents_settle(&extents, 10, 30);
	assert_int_equal(extents.count, 1);
	assert_int_equal(extents.extent[0].sec, 10);
	assert_int_equal(extents.extent[0].secs, 30);
	assert_int_equal(extents.extent[0].flags, 0);
}

/* D1: run `body` in a child; it must say `sentence` and abort. */
static void
assert_aborts(struct world *world, void (*body)(struct world *),
	      const char *sentence)
{
	char said[2048] = "";
	int status, end[2];
	pid_t child;

	assert_int_equal(pipe(end), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		(void)dup2(end[1], STDERR_FILENO);
		signal(SIGABRT, SIG_DFL);
		body(world);
		_exit(0);
	}
	close(end[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	(void)!read(end[0], said, sizeof(said) - 1);
	close(end[0]);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	if (strstr(said, sentence) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", said, sentence);
}

/* Two writes that the fake holds. */
static td_request_t
hold_two(struct world *world)
{
	struct fake *fake = fake_of(&world->stack, world->stack.leaf);
	static char buf[8192];

	fake->hold = true;
	queue(world, TD_OP_WRITE, buf, 0, 8);
	queue(world, TD_OP_WRITE, buf + 4096, 8, 8);
	return fake->held[0];
}

static void
complete_twice(struct world *world)
{
	td_request_t treq = hold_two(world);

	td_complete_request(treq, 0);
	td_complete_request(treq, 0);
}

static void
complete_too_much(struct world *world)
{
	td_request_t treq = hold_two(world);

	treq.secs = 9;
	td_complete_request(treq, 0);
}

static void
complete_a_part_again(struct world *world)
{
	td_request_t treq = hold_two(world);

	treq.secs = 5;
	td_complete_request(treq, 0);
	td_complete_request(treq, 0);
}

/* When its place in the table has long been somebody else's. */
static void
complete_again_much_later(struct world *world)
{
	struct fake *fake = fake_of(&world->stack, world->stack.leaf);
	td_request_t treq = hold_two(world);
	static char buf[4096];

	td_complete_request(treq, 0);
	fake->hold = false;
	for (int i = 0; i < 5000; i++)
		queue(world, TD_OP_WRITE, buf, 0, 8);
	td_complete_request(treq, 0);
}

static void
complete_nothing(struct world *world)
{
	td_request_t treq = hold_two(world);

	treq.secs = 0;
	td_complete_request(treq, 0);
}

static void
forward_what_was_completed(struct world *world)
{
	td_request_t treq = hold_two(world);

	td_complete_request(treq, 0);
	td_forward_request(treq);
}

/* A copy made by hand, without what the core has added. */
static void
complete_too_many_bare(struct world *world)
{
	td_request_t treq = hold_two(world);
	td_request_t bare = { .op = treq.op,
			      .buf = treq.buf,
			      .sec = treq.sec,
			      .secs = treq.secs,
			      .image = treq.image,
			      .cb = treq.cb,
			      .cb_data = treq.cb_data };

	td_complete_request(bare, 0);
	td_complete_request(bare, 0);
	td_complete_request(bare, 0);
}

static void
test_a_driver_that_gives_back_more_than_it_holds_is_named_and_stopped(
	void **state)
{
	static const char first[] =
		"driver fake (16) completed what it had given back before: 8 "
		"sectors at sector 0 of a write";
	struct world *world = *state;

	assert_int_equal(
		image_stack_open(&world->stack, "pass:|fake:16", 0, NULL), 0);
	assert_aborts(world, complete_twice, first);
	assert_aborts(world, complete_again_much_later, first);
	assert_aborts(world, complete_too_much,
		      "driver fake (16) completed more than it was given: 9 "
		      "sectors at sector 0 of a write");
	assert_aborts(world, complete_a_part_again,
		      "driver fake (16) completed more than it was given: 5 "
		      "sectors");
	assert_aborts(world, complete_nothing, "more than it was given: 0 ");
	assert_aborts(world, forward_what_was_completed,
		      "driver fake (16) forwarded what it had given back");
	assert_aborts(world, complete_too_many_bare,
		      "driver fake (16) completed more than it was given");
	/* what the children did was not done to us */
	(void)hold_two(world);
	fake_release(fake_of(&world->stack, 1), 0, 0);
	fake_release(fake_of(&world->stack, 1), 0, 0);
	loop_run_until_idle(world->loop);
}

/* blktap2's way: the copy is a request of the filter's own, and the original
 * stays with it. */
static void
test_a_filter_may_forward_a_copy_with_its_own_callback(void **state)
{
	struct world *world = *state;
	static char buf[4096];
	struct own *old;

	assert_int_equal(
		image_stack_open(&world->stack, "old:|pass:|fake:16", 0, NULL),
		0);
	old = world->stack.images[0]->driver->data;
	queue(world, TD_OP_WRITE, buf, 0, 8);
	assert_int_equal(world->sectors, 8);
	assert_int_equal(old->called_back, 1);
	fake_of(&world->stack, 2)->hold = true;
	queue(world, TD_OP_READ, buf, 8, 8);
	assert_int_equal(world->sectors, 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(world->stack.images[i]->outstanding,
				 i == 1 ? 0 : 8);
	fake_release(fake_of(&world->stack, 2), 0, 0);
	loop_run_until_idle(world->loop);
	assert_int_equal(world->sectors, 8);
	assert_int_equal(world->stack.top->outstanding, 0);
}

static void
test_growth_reaches_the_top_and_shrinking_is_not_asked_for(void **state)
{
	struct world *world = *state;
	struct reason reason = { .text = "" };

	assert_int_equal(
		image_stack_open(&world->stack, "pass:|fake:16", 0, NULL), 0);
	assert_int_equal(image_stack_resize(&world->stack, 32, NULL), 0);
	assert_int_equal(world->stack.top->info.size, 32);
	fake_of(&world->stack, 1)->resize_error = -ENOSPC;
	assert_int_equal(image_stack_resize(&world->stack, 64, &reason),
			 -ENOSPC);
	assert_non_null(strstr(reason.text, "will not grow"));
	assert_int_equal(world->stack.top->info.size, 32);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_names_that_open_nothing_are_refused_with_a_sentence),
		TEST(test_a_chain_of_parents_that_never_ends_is_refused),
		TEST(test_requests_out_of_range_or_against_rights_come_back_refused),
		TEST(test_a_read_falls_through_parents_and_past_a_short_one),
		TEST(test_parents_are_opened_read_only),
		TEST(test_a_flush_passes_a_filter_that_knows_none),
		TEST(test_a_drivers_own_callback_never_runs_inside_its_queue_call),
		TEST(test_contiguous_parts_of_one_request_are_called_back_as_one),
		TEST(test_each_image_tells_how_many_requests_it_holds),
		TEST(test_block_status_without_a_driver_for_it_is_data),
		cmocka_unit_test(
			test_extents_are_sorted_merged_and_cut_at_a_gap),
		TEST(test_a_driver_that_gives_back_more_than_it_holds_is_named_and_stopped),
		TEST(test_a_filter_may_forward_a_copy_with_its_own_callback),
		TEST(test_growth_reaches_the_top_and_shrinking_is_not_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
