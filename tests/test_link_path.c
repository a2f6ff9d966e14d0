/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_link_path - a peer with several addresses (K6 of link.h, L1 to L3 of
 * link_path.c): a session goes on over whichever is up, and comes back to the
 * better one, without a message lost, twice or in another order.
 */
#include "tests/test.h"

#include <jansson.h>
#include <string.h>

#include "tests/fake_transport.h"
#include "tests/link_host.h"

static const char *const none[] = { NULL };
static const char *const both[] = { "fake://fast", "fake://slow", NULL };

static void
open_paths(struct fixture *f)
{
	f->b = host_new_paths(f->loop, both, none, false);
	f->a = host_new_paths(f->loop, none, both, true);
}

/* Which of the two is in use, by the status. */
static const char *
path_in_use(const struct host *host)
{
	json_t *status = link_json(host->link), *path;
	const char *found = "";
	size_t i;

	json_array_foreach (json_object_get(status, "paths"), i, path) {
		if (json_is_true(json_object_get(path, "in_use")))
			found = host->peers[i];
	}
	json_decref(status);
	return found;
}

static void
assert_why(const struct host *host, const char *part)
{
	json_t *status = link_json(host->link);
	const char *why =
		json_string_value(json_object_get(status, "path_why"));

	assert_non_null(why);
	assert_said(why, part);
	assert_null(strstr(strstr(why, part) + 1, "fake://fast")); /* once */
	json_decref(status);
}

static void
assert_no_why(const struct host *host)
{
	json_t *status = link_json(host->link);

	assert_string_equal(
		json_string_value(json_object_get(status, "path_why")), "");
	json_decref(status);
}

static void
test_the_best_path_is_used(void **state)
{
	struct fixture *f = *state;

	open_paths(f);
	pass_ms(f, 100);
	assert_int_equal(f->a->up, 1);
	assert_string_equal(path_in_use(f->a), "fake://fast");
	assert_no_why(f->a);
	host_send(f->a, 100);
	pass_ms(f, 60000);
	assert_all_arrived(f);
	assert_int_equal(fake_network_open_to("slow"), 0);
}

/* The best path is down. */
static void
open_over_the_other(struct fixture *f)
{
	fake_network.down_address = "fast";
	open_paths(f);
	pass_ms(f, 200);
	assert_int_equal(f->a->up, 1);
	assert_string_equal(path_in_use(f->a), "fake://slow");
}

static void
test_at_the_start_the_other_path_does(void **state)
{
	struct fixture *f = *state;

	open_over_the_other(f);
	assert_why(f->a, "fake://fast is better, but: ");
}

/* L1 */
static void
test_a_path_that_does_not_answer_holds_up_nobody(void **state)
{
	struct fixture *f = *state;

	fake_network.dead_address = "fast";
	open_paths(f);
	pass_ms(f, 600);
	assert_int_equal(f->a->up, 1);
	assert_string_equal(path_in_use(f->a), "fake://slow");
}

/* The session goes on: nothing is lost, nothing comes back unsent. */
static void
test_a_session_goes_on_over_the_other_path_and_comes_back(void **state)
{
	struct fixture *f = *state;

	open_paths(f);
	pass_ms(f, 100);
	f->b->keep_acks = true;
	host_send(f->a, 50);
	pass_ms(f, 10);
	fake_network.down_address = "fast";
	fake_network_cut_address("fast");
	host_send(f->a, 50);
	f->b->keep_acks = false;
	pass_ms(f, 600);
	assert_string_equal(path_in_use(f->a), "fake://slow");
	assert_why(f->a, "fake://fast is better, but: ");
	for (uint64_t i = 1; i <= 50; i++)
		host_acknowledge(f->b, i);
	pass_ms(f, 100);
	assert_all_arrived(f);

	/* it is up again: back, while messages flow */
	fake_network.down_address = NULL;
	for (int i = 0; i < 200; i++) {
		host_send(f->a, 10);
		pass_ms(f, 100);
	}
	assert_string_equal(path_in_use(f->a), "fake://fast");
	assert_no_why(f->a);
	pass_ms(f, 1000);
	assert_all_arrived(f);
	assert_int_equal(f->a->lost + f->b->lost, 0);
	assert_int_equal(f->a->met, 1);
	assert_int_equal(fake_network_open_to("slow"), 0);
}

/* L2: the old path is in use until the new one has proved itself. */
static void
test_what_is_sent_while_a_better_path_says_hello_is_acknowledged(void **state)
{
	struct fixture *f = *state;

	open_over_the_other(f);
	host_send(f->a, 5);
	pass_ms(f, 10);
	fake_network.down_address = NULL;
	pass_ms(f, 4000);
	fake_network_hold(true);
	for (int i = 0; i < 2000 && fake_network_open_to("fast") < 2; i++)
		pass_ms(f, 1);
	host_send(f->a, 1);
	fake_network_hold(false);
	pass_ms(f, 100);
	assert_string_equal(path_in_use(f->a), "fake://fast");
	assert_all_arrived(f);
	assert_int_equal(f->a->lost, 0);
}

/* A dead path, not a refused one: silence, in the midst of a session. */
static void
test_a_path_that_falls_silent_is_left(void **state)
{
	struct fixture *f = *state;

	open_paths(f);
	pass_ms(f, 100);
	host_send(f->a, 10);
	fake_network.dead_address = "fast";
	fake_network_cut_address("fast");
	pass_ms(f, 700);
	assert_string_equal(path_in_use(f->a), "fake://slow");
	assert_all_arrived(f);
	assert_int_equal(f->a->lost, 0);
}

/* L3 */
static void
test_a_path_that_comes_and_goes_is_tried_less_and_less(void **state)
{
	struct fixture *f = *state;
	int pauses[2];

	open_paths(f);
	pass_ms(f, 100);
	for (int minute = 0; minute < 10; minute++) {
		int before = f->a->broken;

		for (int i = 0; i < 60; i++) {
			pass_ms(f, 1000);
			if (strcmp(path_in_use(f->a), "fake://fast") == 0)
				fake_network_cut_address("fast");
		}
		pauses[minute > 0] = f->a->broken - before;
	}
	/* refused at once after each break, it would be back in 5 s */
	assert_true(pauses[0] > 1);
	assert_true(pauses[1] <= 1);
	assert_int_equal(f->a->lost, 0);
}

/* H0 */
static void
test_only_one_of_two_calls_leads_to_a_meeting(void **state)
{
	struct fixture *f = *state;

	fake_network.dead_address = "fast";
	open_paths(f);
	pass_ms(f, 490);
	assert_int_equal(fake_network_open_to("fast"), 1);
	pass_ms(f, 200);
	assert_int_equal(f->a->met, 1);
	/* the one that hangs is given up */
	assert_int_equal(fake_network_open_to("fast"), 0);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, link_setup, link_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_best_path_is_used),
		TEST(test_at_the_start_the_other_path_does),
		TEST(test_a_path_that_does_not_answer_holds_up_nobody),
		TEST(test_a_session_goes_on_over_the_other_path_and_comes_back),
		TEST(test_what_is_sent_while_a_better_path_says_hello_is_acknowledged),
		TEST(test_a_path_that_falls_silent_is_left),
		TEST(test_a_path_that_comes_and_goes_is_tried_less_and_less),
		TEST(test_only_one_of_two_calls_leads_to_a_meeting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
