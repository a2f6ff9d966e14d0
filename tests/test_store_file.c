/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_store_file - metadata in a file: kept, locked, made when missing.
 */
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/io.h"
#include "core/loop.h"
#include "core/reason.h"
#include "tests/state.h"

struct commit {
	struct metadata_commit commit;
	bool ended;
	int error;
};

static void
on_committed(struct metadata_commit *base, int error)
{
	struct commit *commit = container_of(base, struct commit, commit);

	commit->ended = true;
	commit->error = error;
}

struct place {
	struct loop *loop;
	struct io *io;
	char directory[64];
	char path[128];
};

static void
place_init(struct place *place)
{
	place->loop = loop_new(NULL);
	assert_non_null(place->loop);
	place->io = io_new(place->loop, NULL, NULL);
	assert_non_null(place->io);
	(void)snprintf(place->directory, sizeof(place->directory),
		       "/tmp/test_metadata.XXXXXX");
	assert_non_null(mkdtemp(place->directory));
	(void)snprintf(place->path, sizeof(place->path), "%s/disk.meta",
		       place->directory);
}

static void
place_done(struct place *place)
{
	io_free(place->io);
	loop_free(place->loop);
	(void)unlink(place->path);
	assert_int_equal(rmdir(place->directory), 0);
}

static struct metadata *
place_open(struct place *place, bool *ret_new)
{
	struct store *store =
		store_open_file(place->io, place->path, true, NULL);

	assert_non_null(store);
	return metadata_open(place->loop, store, ret_new, NULL);
}

static void
test_a_file_keeps_the_state_and_is_locked(void **state)
{
	struct metadata_state expected;
	struct reason reason = { "" };
	struct metadata *metadata;
	struct place place;
	struct stat status;
	bool is_new;

	(void)state;
	place_init(&place);
	for (uint64_t i = 0; i < 4; i++) {
		struct commit commit = { .commit.on_done = on_committed };

		metadata = place_open(&place, &is_new);
		assert_non_null(metadata);
		assert_int_equal(is_new, i == 0);
		if (i > 0) {
			state_fill(&expected, i - 1);
			state_assert_same(metadata_state(metadata), &expected);
		}
		assert_null(
			store_open_file(place.io, place.path, true, &reason));
		assert_non_null(strstr(reason.text, place.path));
		state_fill(metadata_state(metadata), i);
		metadata_commit(metadata, &commit.commit);
		assert_int_equal(commit.ended, 0);
		while (commit.ended == 0)
			assert_int_equal(loop_turn(place.loop, NS_PER_S), 0);
		assert_int_equal(commit.error, 0);
		metadata_close(metadata);
	}
	assert_int_equal(stat(place.path, &status), 0);
	assert_int_equal(status.st_size, 2 * METADATA_COPY_BYTES);
	assert_int_equal(status.st_mode & 0777, 0600);
	place_done(&place);
}

static void
test_a_file_that_cannot_be_had_is_named(void **state)
{
	struct reason reason = { "" };
	struct place place;

	(void)state;
	place_init(&place);
	assert_null(store_open_file(place.io, place.path, false, &reason));
	assert_non_null(strstr(reason.text, place.path));
	assert_null(store_open_file(place.io, "/nonexistent/x.meta", true,
				    &reason));
	assert_non_null(strstr(reason.text, "/nonexistent/x.meta"));
	assert_null(store_open_file(place.io, place.directory, true, &reason));
	assert_non_null(strstr(reason.text, place.directory));
	place_done(&place);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_file_keeps_the_state_and_is_locked),
		cmocka_unit_test(test_a_file_that_cannot_be_had_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
