/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_metadata - a replica's durable state: its commits, what is left of them
 * when the power fails at any point with any part of what was not flushed, and
 * what is refused.
 */
#include "tests/test.h"

#include <errno.h>
#include <string.h>

#include "core/reason.h"
#include "drivers/random.h"
#include "replication/bytes.h"
#include "replication/wire.h"
#include "tests/fake_store.h"
#include "tests/state.h"

static struct metadata_state state_a;

/* The checksums are right, whatever else is not. */
static void
sign(unsigned char *copy)
{
	put32(copy + 56, wire_crc(copy + 64, METADATA_COPY_BYTES - 64));
	put32(copy + 60, wire_crc(copy, 60));
}

/* --- commits --- */

struct host {
	struct loop *loop;
	struct fake_file file;
	struct metadata *metadata;
	bool is_new;
	struct reason reason;
};

struct commit {
	struct metadata_commit commit;
	struct host *host;
	unsigned int ended;
	int error;
	struct commit *then;
	bool closes;
};

static void
host_init(struct host *host, uint64_t seed)
{
	memset(host, 0, sizeof(*host));
	host->loop = loop_new_simulated();
	fake_file_init(&host->file, seed);
	host->file.delay_ns = NS_PER_MS;
}

static bool
host_open(struct host *host)
{
	host->reason.text[0] = '\0';
	host->metadata = metadata_open(host->loop,
				       fake_store_open(&host->file, host->loop),
				       &host->is_new, &host->reason);
	return host->metadata != NULL;
}

static void
host_close(struct host *host)
{
	host->metadata = metadata_close(host->metadata);
}

static void
host_done(struct host *host)
{
	host_close(host);
	fake_file_done(&host->file);
	host->loop = loop_free(host->loop);
}

static void
on_committed(struct metadata_commit *base, int error)
{
	struct commit *commit = container_of(base, struct commit, commit);

	commit->ended++;
	commit->error = error;
	if (commit->closes)
		host_close(commit->host);
	else if (commit->then != NULL)
		metadata_commit(commit->host->metadata, &commit->then->commit);
}

static void
begin_commit(struct host *host, struct commit *commit)
{
	*commit =
		(struct commit){ .commit.on_done = on_committed, .host = host };
	metadata_commit(host->metadata, &commit->commit);
}

static void
test_a_new_store_is_a_new_replica_until_its_first_commit(void **state)
{
	struct host host;
	struct commit commit;

	(void)state;
	host_init(&host, 1);
	assert_true(host_open(&host));
	assert_true(host.is_new);
	assert_int_equal(host.file.writes, 0);
	host_close(&host);

	assert_true(host_open(&host));
	assert_true(host.is_new);
	state_fill(metadata_state(host.metadata), 7);
	begin_commit(&host, &commit);
	assert_false(metadata_is_idle(host.metadata));
	assert_int_equal(commit.ended, 0);
	loop_advance(host.loop, NS_PER_S);
	assert_int_equal(commit.ended, 1);
	assert_int_equal(commit.error, 0);
	assert_true(metadata_is_idle(host.metadata));
	host_close(&host);

	fake_file_crash(&host.file);
	assert_true(host_open(&host));
	assert_false(host.is_new);
	state_fill(&state_a, 7);
	state_assert_same(metadata_state(host.metadata), &state_a);
	host_done(&host);
}

static void
test_commits_asked_for_meanwhile_are_joined_into_the_next(void **state)
{
	struct host host;
	struct commit commit[10];

	(void)state;
	host_init(&host, 1);
	assert_true(host_open(&host));
	for (uint64_t i = 0; i < 10; i++) {
		state_fill(metadata_state(host.metadata), i);
		begin_commit(&host, &commit[i]);
	}
	loop_advance(host.loop, 2 * NS_PER_MS);
	assert_int_equal(commit[0].ended, 1);
	assert_int_equal(commit[1].ended, 0);
	loop_advance(host.loop, NS_PER_S);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(commit[i].ended, 1);
		assert_int_equal(commit[i].error, 0);
	}
	assert_int_equal(host.file.writes, 2);
	assert_int_equal(host.file.flushes, 2);
	host_close(&host);
	assert_true(host_open(&host));
	state_fill(&state_a, 9);
	state_assert_same(metadata_state(host.metadata), &state_a);
	host_done(&host);
}

static void
test_a_commit_may_ask_for_another_or_close(void **state)
{
	struct host host;
	struct commit first, second, third, never;

	(void)state;
	host_init(&host, 1);
	assert_true(host_open(&host));
	state_fill(metadata_state(host.metadata), 1);
	begin_commit(&host, &first);
	second = (struct commit){ .commit.on_done = on_committed,
				  .host = &host };
	first.then = &second;
	loop_advance(host.loop, NS_PER_S);
	assert_int_equal(second.ended, 1);
	assert_int_equal(second.error, 0);

	begin_commit(&host, &first);
	begin_commit(&host, &third);
	begin_commit(&host, &never);
	third.closes = true;
	loop_advance(host.loop, NS_PER_S);
	assert_int_equal(third.ended, 1);
	assert_int_equal(never.ended, 0);
	assert_null(host.metadata);
	assert_null(host.file.store);
	host_done(&host);
}

/* F3 */
static void
test_after_a_failed_write_or_flush_no_commit_succeeds(void **state)
{
	(void)state;
	for (int flush = 0; flush < 2; flush++) {
		struct host host;
		struct commit good, bad, meanwhile, later;

		host_init(&host, 1);
		*(flush ? &host.file.fail_flush_at : &host.file.fail_write_at) =
			2;
		host.file.error = flush ? -EIO : -ENOSPC;
		assert_true(host_open(&host));
		state_fill(metadata_state(host.metadata), 1);
		begin_commit(&host, &good);
		loop_advance(host.loop, NS_PER_S);
		assert_int_equal(good.error, 0);
		begin_commit(&host, &bad);
		begin_commit(&host, &meanwhile);
		loop_advance(host.loop, NS_PER_S);
		begin_commit(&host, &later);
		assert_int_equal(later.ended, 0); /* not from inside */
		loop_advance(host.loop, NS_PER_S);
		assert_int_equal(bad.error, host.file.error);
		assert_int_equal(meanwhile.error, host.file.error);
		assert_int_equal(later.error, host.file.error);
		assert_int_equal(bad.ended + meanwhile.ended + later.ended, 3);
		assert_int_equal(host.file.writes, 2);
		host_done(&host);
	}
}

/* --- crashes --- */

#define COMMITS 5

/* Commit states 1 .. COMMITS one after the other on a new store, and let the
 * power fail after `operations` ended; returns the last that was told done. */
static uint64_t
run_until(struct host *host, unsigned int operations)
{
	struct commit commit;
	uint64_t done = 0;

	host->file.silent_after = operations;
	assert_true(host_open(host));
	while (done < COMMITS) {
		state_fill(metadata_state(host->metadata), done + 1);
		begin_commit(host, &commit);
		loop_advance(host->loop, NS_PER_S);
		if (commit.ended == 0)
			break;
		assert_int_equal(commit.error, 0);
		done++;
	}
	host_close(host);
	return done;
}

/* X1: the state told durable, or the one on its way; and from there it goes
 * on. */
static void
check_recovery(struct host *host, uint64_t done)
{
	struct commit commit;
	uint64_t found;

	host->file.silent_after = UINT32_MAX;
	if (!host_open(host))
		fail_msg("refused after commit %u: %s", (unsigned int)done,
			 host->reason.text);
	found = host->is_new
			? 0
			: metadata_state(host->metadata)->epoch / STATE_EPOCHS;
	assert_in_range(found, done, done + 1);
	if (found > 0) {
		state_fill(&state_a, found);
		state_assert_same(metadata_state(host->metadata), &state_a);
	}
	for (uint64_t next = 20; next < 23; next++) {
		state_fill(metadata_state(host->metadata), next);
		begin_commit(host, &commit);
		loop_advance(host->loop, NS_PER_S);
		assert_int_equal(commit.ended, 1);
		host_close(host);
		fake_file_crash(&host->file);
		assert_true(host_open(host));
		state_fill(&state_a, next);
		state_assert_same(metadata_state(host->metadata), &state_a);
	}
}

static void
test_a_cut_at_any_point_leaves_the_old_state_or_the_new(void **state)
{
	(void)state;
	for (unsigned int cut = 0; cut <= 2 * COMMITS; cut++) {
		for (uint64_t seed = 0; seed < 100; seed++) {
			struct host host;
			uint64_t done;

			host_init(&host, seed * 1000 + cut);
			done = run_until(&host, cut);
			assert_int_equal(done, cut / 2);
			fake_file_crash(&host.file);
			check_recovery(&host, done);
			host_done(&host);
		}
	}
}

/* Which sectors of a write survive: one, all but one, those before one, those
 * behind it. */
struct shape {
	int kind;
	size_t sector;
};

static bool
shape_survives(void *arg, size_t number)
{
	const struct shape *shape = arg;

	switch (shape->kind) {
	case 0:
		return number == shape->sector;
	case 1:
		return number != shape->sector;
	case 2:
		return number < shape->sector;
	default:
		return number >= shape->sector;
	}
}

static void
test_each_sector_may_be_the_one_that_is_torn(void **state)
{
	const size_t sectors = METADATA_COPY_BYTES / MEDIUM_SECTOR;

	(void)state;
	for (unsigned int cut = 0; cut < 6; cut++) {
		for (size_t i = 0; i < 4 * sectors; i++) {
			struct shape shape = { (int)(i / sectors),
					       i % sectors };
			struct host host;
			uint64_t done;

			host_init(&host, i);
			done = run_until(&host, cut);
			medium_crash(&host.file.medium, shape_survives, &shape);
			check_recovery(&host, done);
			host_done(&host);
		}
	}
}

static void
test_a_cut_during_recovery_leaves_the_old_state_or_the_new(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 400; seed++) {
		uint64_t random = seed, floor = 0, top = 0;
		struct host host;

		host_init(&host, seed);
		for (int crash = 0; crash < 8; crash++) {
			struct commit commit = { .ended = 0 };
			unsigned int operations =
				(unsigned int)(random_next(&random) * 4);

			host.file.silent_after =
				host.file.operations + operations;
			assert_true(host_open(&host));
			top = host.is_new
				      ? 0
				      : metadata_state(host.metadata)->epoch /
						STATE_EPOCHS;
			assert_true(top >= floor);
			floor = top; /* what was seen once stays */
			do {
				state_fill(metadata_state(host.metadata),
					   ++top);
				begin_commit(&host, &commit);
				loop_advance(host.loop, NS_PER_S);
				if (commit.ended)
					floor = top;
			} while (commit.ended);
			host_close(&host);
			if (random_next(&random) < 0.7)
				fake_file_crash(&host.file);
		}
		host_done(&host);
	}
}

/* --- what is not ours --- */

/* Whether a store that holds `length` bytes is refused. */
static bool
is_refused(struct host *host, const void *content, size_t length)
{
	struct store *store;

	host_init(host, 1);
	assert_true(medium_write(&host->file.medium, content,
				 (length + 511) / 512 * 512, 0));
	store = fake_store_open(&host->file, host->loop);
	host->metadata =
		metadata_open(host->loop, store, &host->is_new, &host->reason);
	return host->metadata == NULL;
}

static void
assert_refused(const void *content, size_t length, const char *words)
{
	struct host host;

	if (!is_refused(&host, content, length))
		fail_msg("taken, although it should say \"%s\"", words);
	assert_null(host.file.store); /* closed on failure too */
	assert_non_null(strstr(host.reason.text, "fake.meta"));
	if (strstr(host.reason.text, words) == NULL)
		fail_msg("says: %s", host.reason.text);
	host_done(&host);
}

static void
test_what_is_not_ours_is_refused_and_named(void **state)
{
	static unsigned char file[3 * METADATA_COPY_BYTES];
	unsigned char *copy[2] = { file, file + METADATA_COPY_BYTES };
	const size_t whole = 2 * METADATA_COPY_BYTES;

	(void)state;
	/* somebody else's file */
	memset(file, 'x', sizeof(file));
	assert_refused(file, 4096, "not a replica's");
	assert_refused(file, sizeof(file), "not a replica's");
	/* a disk's image that begins with zeros */
	memset(file, 0, METADATA_COPY_BYTES);
	assert_refused(file, whole, "not a replica's");
	memset(file, 0, sizeof(file));
	assert_refused(file, sizeof(file), "remove it");
	memset(file + METADATA_COPY_BYTES + 8192, 'x', 4096);
	assert_refused(file, sizeof(file), "remove it");

	/* cut off */
	state_fill(&state_a, 3);
	metadata_encode(&state_a, 2, copy[0]);
	metadata_encode(&state_a, 3, copy[1]);
	assert_refused(file, METADATA_COPY_BYTES, "truncated");
	assert_refused(file, whole - 512, "truncated");
	assert_refused(file, 4096, "truncated");

	/* both damaged; damaged alone, after more than one commit */
	copy[0][700] ^= 1;
	copy[1][700] ^= 1;
	assert_refused(file, whole, "damaged");
	memset(copy[0], 0, METADATA_COPY_BYTES);
	assert_refused(file, whole, "damaged");
	/* exchanged */
	metadata_encode(&state_a, 3, copy[0]);
	metadata_encode(&state_a, 2, copy[1]);
	assert_refused(file, whole, "exchanged");

	/* newer, in the copy that does not count even */
	metadata_encode(&state_a, 2, copy[0]);
	put32(copy[0] + 8, 2);
	sign(copy[0]);
	metadata_encode(&state_a, 3, copy[1]);
	assert_refused(file, whole, "newer tapdisk");
}

static void
test_a_store_that_cannot_be_read_is_refused(void **state)
{
	struct host host;

	(void)state;
	host_init(&host, 1);
	host.file.read_error = -EIO;
	assert_false(host_open(&host));
	assert_non_null(strstr(host.reason.text, "cannot be read"));
	assert_null(host.file.store);
	host_done(&host);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_a_new_store_is_a_new_replica_until_its_first_commit),
		cmocka_unit_test(
			test_commits_asked_for_meanwhile_are_joined_into_the_next),
		cmocka_unit_test(test_a_commit_may_ask_for_another_or_close),
		cmocka_unit_test(
			test_after_a_failed_write_or_flush_no_commit_succeeds),
		cmocka_unit_test(
			test_a_cut_at_any_point_leaves_the_old_state_or_the_new),
		cmocka_unit_test(test_each_sector_may_be_the_one_that_is_torn),
		cmocka_unit_test(
			test_a_cut_during_recovery_leaves_the_old_state_or_the_new),
		cmocka_unit_test(test_what_is_not_ours_is_refused_and_named),
		cmocka_unit_test(test_a_store_that_cannot_be_read_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
