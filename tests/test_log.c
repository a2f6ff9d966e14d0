/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_log - what a line holds, its rate limit, and rotation; reasons.
 */
#include "tests/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/reason.h"

static char path[64];

static int
set_up(void **state)
{
	char target[80];
	int fd;

	(void)state;
	(void)snprintf(path, sizeof(path), "/tmp/test_log.XXXXXX");
	fd = mkstemp(path);
	if (fd < 0)
		return -1;
	close(fd);
	(void)snprintf(target, sizeof(target), "file:%s", path);
	return log_open(target, NULL);
}

static int
tear_down(void **state)
{
	(void)state;
	log_close();
	log_set_disk(NULL);
	log_set_level(LOG_INFO);
	return unlink(path);
}

/* Lines in the file that hold `text`. */
static unsigned int
lines_with(const char *text)
{
	FILE *file = fopen(path, "r");
	char line[4096];
	unsigned int count = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL)
		count += strstr(line, text) != NULL;
	fclose(file);
	return count;
}

static void
test_a_line_names_disk_scope_and_level(void **state)
{
	(void)state;
	log_set_disk("vm1");
	log_error("vbd", "write at offset %d failed", 4096);
	log_debug("vbd", "not wanted");
	assert_int_equal(
		lines_with("error vm1 vbd: write at offset 4096 failed\n"), 1);
	assert_int_equal(lines_with("not wanted"), 0);
}

static void
test_a_repeated_line_is_limited_and_others_are_not(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++)
		log_warn("vbd", "again");
	log_warn("vbd", "once");
	assert_int_equal(lines_with("again"), LOG_BURST);
	assert_int_equal(lines_with("once"), 1);
}

static void
test_a_message_is_one_line_whatever_it_holds(void **state)
{
	(void)state;
	log_warn("vbd", "of an old driver\n");
	log_warn("nbd", "export \"a\n2026 error vm1 vbd: forged\033[0m\"");
	assert_int_equal(lines_with("of an old driver\n"), 1);
	assert_int_equal(
		lines_with("nbd: export \"a 2026 error vm1 vbd: forged [0m\""),
		1);
	assert_int_equal(lines_with(""), 2);
}

static void
test_a_long_line_is_cut_and_ends(void **state)
{
	char text[5000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_warn("vbd", "%s", text);
	log_warn("vbd", "next");
	assert_int_equal(lines_with("next"), 1);
}

static void
test_reopening_follows_a_rotated_file(void **state)
{
	char old[80];

	(void)state;
	(void)snprintf(old, sizeof(old), "%s.1", path);
	log_warn("vbd", "before");
	assert_int_equal(rename(path, old), 0);
	assert_int_equal(log_reopen(), 0);
	log_warn("vbd", "after");
	assert_int_equal(lines_with("before"), 0);
	assert_int_equal(lines_with("after"), 1);
	unlink(old);
}

static void
test_an_unknown_target_is_refused_with_a_sentence(void **state)
{
	struct reason reason = { .text = "" };

	(void)state;
	assert_int_equal(log_open("printer", &reason), -EINVAL);
	assert_non_null(strstr(reason.text, "stderr, syslog or file:PATH"));
	assert_int_equal(log_open("file:/nonexistent/x", &reason), -ENOENT);
	assert_non_null(strstr(reason.text, "/nonexistent/x"));
}

static void
test_a_reason_is_cut_never_overrun_and_null_is_allowed(void **state)
{
	char text[2 * REASON_MAX];
	struct reason reason;

	(void)state;
	memset(text, 'y', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(reason_set(&reason, -EIO, "%s", text), -EIO);
	assert_int_equal(strlen(reason.text), REASON_MAX - 1);
	assert_int_equal(reason_set(NULL, -EIO, "x"), -EIO);
	assert_string_equal(reason_text(NULL, -ENOENT),
			    "No such file or directory");
	assert_string_equal(errno_name(-ENOSPC), "ENOSPC");
	assert_string_equal(errno_name(-99999), "E???");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_line_names_disk_scope_and_level, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(
			test_a_repeated_line_is_limited_and_others_are_not,
			set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_a_message_is_one_line_whatever_it_holds, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(
			test_a_long_line_is_cut_and_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_reopening_follows_a_rotated_file, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(
			test_an_unknown_target_is_refused_with_a_sentence,
			set_up, tear_down),
		cmocka_unit_test(
			test_a_reason_is_cut_never_overrun_and_null_is_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
