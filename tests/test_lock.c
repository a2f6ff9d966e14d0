/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lock - one writer or several readers of an image.  That QEMU is refused
 * and refuses is shown by the story process.sh with the real QEMU.
 */
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/lock.h"
#include "core/reason.h"

static char path[64];

static int
open_again(void)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void
test_one_writer_or_several_readers(void **state)
{
	struct reason reason = { .text = "" };
	int first, a, b, c;

	(void)state;
	(void)snprintf(path, sizeof(path), "/tmp/test_lock.XXXXXX");
	first = mkstemp(path);
	assert_true(first >= 0);
	a = open_again();
	b = open_again();
	c = open_again();

	assert_int_equal(lock_image(a, path, true, NULL), 0);
	assert_int_equal(lock_image(b, path, true, &reason), -EAGAIN);
	assert_non_null(strstr(reason.text, path));
	assert_int_equal(lock_image(b, path, false, NULL), -EAGAIN);
	close(a);

	assert_int_equal(lock_image(b, path, false, NULL), 0);
	assert_int_equal(lock_image(c, path, false, NULL), 0);
	a = open_again();
	assert_int_equal(lock_image(a, path, true, NULL), -EAGAIN);
	close(b);
	close(c);
	assert_int_equal(lock_image(a, path, true, NULL), 0);
	close(a);
	close(first);
	unlink(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_writer_or_several_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
