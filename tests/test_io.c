/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * core/io: every test runs over both back-ends.
 */
#include "core/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/loop.h"
#include "core/reason.h"
#include "core/tapdisk-interface.h"
#include "tests/test.h"

#define BLOCK 4096
#define LARGE (1u << 20) /* no copy of that size is made by the loop */

struct fixture {
	const char *backend;
	struct loop *loop;
	struct io *io;
	int fd;
};

/* One tiocb and what came of it. */
struct job {
	struct tiocb tiocb;
	struct io *io;
	int ended;	  /* callbacks */
	int result;	  /* of the last */
	int order;	  /* as the n-th of all */
	struct job *next; /* queued by the callback */
};

static int jobs_ended;
static struct fixture *current;

static void
stop_when_idle(void)
{
	if (io_pending(current->io) == 0)
		loop_stop(current->loop);
}

static void
job_on_end(void *arg, struct tiocb *tiocb, int err)
{
	struct job *job = arg;

	assert_ptr_equal(tiocb, &job->tiocb);
	job->ended++;
	job->result = err;
	job->order = ++jobs_ended;
	if (job->next)
		io_queue(job->io, &job->next->tiocb);
	stop_when_idle();
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *directory = getenv("TMPDIR");
	char path[4096];

	f->backend = *state;
	f->loop = loop_new(NULL);
	f->io = io_new(f->loop, f->backend, NULL);
	assert_non_null(f->io);
	snprintf(path, sizeof(path), "%s/test_io.XXXXXX",
		 directory ? directory : "/tmp");
	f->fd = mkstemp(path);
	assert_true(f->fd >= 0);
	unlink(path);
	jobs_ended = 0;
	current = f;
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	close(f->fd);
	io_free(f->io);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void
run_until_idle(struct fixture *f)
{
	if (io_pending(f->io))
		assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(io_pending(f->io), 0);
}

static void
fill_file(struct fixture *f, size_t bytes)
{
	char *data = malloc(bytes);
	size_t i;

	for (i = 0; i < bytes; i++)
		data[i] = (char)(i / BLOCK + 1);
	assert_int_equal(pwrite(f->fd, data, bytes, 0), bytes);
	free(data);
}

static void
test_backend_is_the_one_asked_for(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(io_backend_name(f->io), f->backend);
}

static void
test_what_was_written_is_read_back(void **state)
{
	static char out[BLOCK], in[BLOCK];
	struct fixture *f = *state;
	struct job write = { .ended = 0 }, read = { .ended = 0 };

	memset(out, 'x', BLOCK);
	td_prep_write(&write.tiocb, f->fd, out, BLOCK, BLOCK, job_on_end,
		      &write);
	io_queue(f->io, &write.tiocb);
	assert_int_equal(io_pending(f->io), 1);
	run_until_idle(f);
	assert_int_equal(write.ended, 1);
	assert_int_equal(write.result, 0);

	td_prep_read(&read.tiocb, f->fd, in, BLOCK, BLOCK, job_on_end, &read);
	io_queue(f->io, &read.tiocb);
	run_until_idle(f);
	assert_int_equal(read.ended, 1);
	assert_int_equal(read.result, 0);
	assert_memory_equal(in, out, BLOCK);
}

static void
test_callback_never_runs_inside_io_queue(void **state)
{
	static char in[BLOCK];
	struct fixture *f = *state;
	struct job job = { .ended = 0 };
	int i;

	fill_file(f, BLOCK);
	for (i = 0; i < 100; i++) {
		td_prep_read(&job.tiocb, f->fd, in, BLOCK, 0, job_on_end, &job);
		td_prep_file(&job.tiocb, (enum td_file)(i % 3));
		io_queue(f->io, &job.tiocb);
		assert_int_equal(job.ended, i);
		run_until_idle(f);
		assert_int_equal(job.ended, i + 1);
	}
}

static void
test_transfer_short_of_the_end_of_file_is_eio(void **state)
{
	static char in[4 * BLOCK];
	struct fixture *f = *state;
	struct job job[4] = { { .ended = 0 } };
	int i;

	fill_file(f, 2 * BLOCK);
	td_prep_read(&job[0].tiocb, f->fd, in, sizeof(in), 0, job_on_end,
		     &job[0]);
	td_prep_read(&job[1].tiocb, f->fd, in, BLOCK, 9 * BLOCK, job_on_end,
		     &job[1]);
	td_prep_read(&job[2].tiocb, f->fd, in, sizeof(in), 0, job_on_end,
		     &job[2]);
	td_prep_file(&job[2].tiocb, TD_FILE_BUFFERED);
	job[3] = job[2];
	job[3].tiocb.arg = &job[3];
	td_prep_file(&job[3].tiocb, TD_FILE_MEMORY);
	for (i = 0; i < 4; i++)
		io_queue(f->io, &job[i].tiocb);
	run_until_idle(f);
	for (i = 0; i < 4; i++) {
		assert_int_equal(job[i].ended, 1);
		assert_int_equal(job[i].result, -EIO);
	}
	/* what there was has been read all the same */
	assert_int_equal(in[0], 1);
	assert_int_equal(in[BLOCK], 2);
}

/* A pipe returns what is in it, so it makes short reads at will. */
static void
test_short_transfer_is_carried_on(void **state)
{
	static char in[300];
	struct fixture *f = *state;
	struct job job = { .ended = 0 };
	int pipes[2], i;

	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(write(pipes[1], "abc", 3), 3);
	td_prep_read(&job.tiocb, pipes[0], in, 6, 0, job_on_end, &job);
	td_prep_file(&job.tiocb,
		     TD_FILE_BUFFERED); /* libaio cannot seek in a pipe */
	if (strcmp(f->backend, "libaio") == 0) {
		/* nor can pread(): an error, told once */
		io_queue(f->io, &job.tiocb);
		run_until_idle(f);
		assert_int_equal(job.result, -ESPIPE);
	} else {
		io_queue(f->io, &job.tiocb);
		for (i = 0; i < 3; i++)
			loop_turn(f->loop, 0);
		assert_int_equal(job.ended, 0);
		assert_int_equal(write(pipes[1], "def", 3), 3);
		run_until_idle(f);
		assert_int_equal(job.result, 0);
		assert_memory_equal(in, "abcdef", 6);
	}
	assert_int_equal(job.ended, 1);
	close(pipes[0]);
	close(pipes[1]);
}

static void
test_empty_transfer_succeeds(void **state)
{
	struct fixture *f = *state;
	struct job job = { .ended = 0 };

	td_prep_read(&job.tiocb, f->fd, NULL, 0, 0, job_on_end, &job);
	io_queue(f->io, &job.tiocb);
	run_until_idle(f);
	assert_int_equal(job.ended, 1);
	assert_int_equal(job.result, 0);
}

static void
test_bad_descriptor_fails_alone(void **state)
{
	static char in[BLOCK];
	struct fixture *f = *state;
	struct job job[5] = { { .ended = 0 } };
	int i;

	fill_file(f, BLOCK);
	for (i = 0; i < 5; i++) {
		td_prep_read(&job[i].tiocb, i % 2 ? 1 << 20 : f->fd, in, BLOCK,
			     0, job_on_end, &job[i]);
		io_queue(f->io, &job[i].tiocb);
	}
	run_until_idle(f);
	for (i = 0; i < 5; i++) {
		assert_int_equal(job[i].ended, 1);
		assert_int_equal(job[i].result, i % 2 ? -EBADF : 0);
	}
}

static void
test_more_than_io_depth_all_end_once(void **state)
{
	enum {
		COUNT = 3 * IO_DEPTH + 7
	};
	struct fixture *f = *state;
	struct job *job = calloc(COUNT, sizeof(*job));
	char *in = calloc(COUNT, 16);
	int i;

	fill_file(f, 16 * BLOCK);
	for (i = 0; i < COUNT; i++) {
		td_prep_read(&job[i].tiocb, f->fd, in + 16 * (size_t)i, 16,
			     (i % 16) * BLOCK, job_on_end, &job[i]);
		io_queue(f->io, &job[i].tiocb);
	}
	assert_int_equal(io_pending(f->io), COUNT);
	run_until_idle(f);
	for (i = 0; i < COUNT; i++) {
		assert_int_equal(job[i].ended, 1);
		assert_int_equal(job[i].result, 0);
		assert_int_equal(in[16 * i], i % 16 + 1);
		/* I3: it was submitted when all before it had ended but
		 * IO_DEPTH - 1 */
		assert_true(job[i].order >= i - IO_DEPTH + 2);
	}
	free(job);
	free(in);
}

static void
test_callback_may_queue_the_next(void **state)
{
	static char in[BLOCK];
	struct fixture *f = *state;
	struct job job[50] = { { .ended = 0 } };
	int i;

	fill_file(f, BLOCK);
	for (i = 0; i < 50; i++) {
		job[i].io = f->io;
		job[i].next = i < 49 ? &job[i + 1] : NULL;
		if (i % 3 == 2)
			td_prep_flush(&job[i].tiocb, f->fd, job_on_end,
				      &job[i]);
		else
			td_prep_read(&job[i].tiocb, f->fd, in, BLOCK, 0,
				     job_on_end, &job[i]);
	}
	io_queue(f->io, &job[0].tiocb);
	run_until_idle(f);
	for (i = 0; i < 50; i++) {
		assert_int_equal(job[i].ended, 1);
		assert_int_equal(job[i].result, 0);
		assert_int_equal(job[i].order, i + 1);
	}
}

static void
test_flush_succeeds_and_its_error_is_told(void **state)
{
	struct fixture *f = *state;
	struct job good = { .ended = 0 }, bad = { .ended = 0 };
	int pipes[2];

	assert_int_equal(pipe(pipes), 0);
	td_prep_flush(&good.tiocb, f->fd, job_on_end, &good);
	td_prep_flush(&bad.tiocb, pipes[0], job_on_end, &bad);
	io_queue(f->io, &good.tiocb);
	io_queue(f->io, &bad.tiocb);
	run_until_idle(f);
	assert_int_equal(good.result, 0);
	assert_int_equal(bad.result, -EINVAL);
	close(pipes[0]);
	close(pipes[1]);
}

static void
move_the_data(struct fixture *f, size_t bytes)
{
	static const enum td_file files[] = {
		TD_FILE_DIRECT,
		TD_FILE_BUFFERED,
		TD_FILE_MEMORY,
	};
	static char out[LARGE], in[LARGE];
	struct job write = { .ended = 0 }, flush = { .ended = 0 };
	size_t i;

	for (i = 0; i < 3; i++) {
		memset(out, 'a' + (int)i, bytes);
		td_prep_write(&write.tiocb, f->fd, out, bytes, 0, job_on_end,
			      &write);
		td_prep_file(&write.tiocb, files[i]);
		io_queue(f->io, &write.tiocb);
		td_prep_flush(&flush.tiocb, f->fd, job_on_end, &flush);
		td_prep_file(&flush.tiocb, files[i]);
		io_queue(f->io, &flush.tiocb);
		assert_int_equal(write.ended + flush.ended, 2 * i);
		run_until_idle(f);
		assert_int_equal(write.ended + flush.ended, 2 * i + 2);
		assert_int_equal(write.result, 0);
		assert_int_equal(flush.result, 0);
		assert_int_equal(pread(f->fd, in, bytes, 0), bytes);
		assert_memory_equal(in, out, bytes);
	}
}

static void
test_transfer_moves_the_data_whatever_the_file(void **state)
{
	move_the_data(*state, BLOCK);
	move_the_data(*state, LARGE);
}

struct gate {
	pthread_barrier_t barrier;
	pthread_t thread;
	int result;
};

static int
gate_call(void *arg)
{
	struct gate *gate = arg;

	gate->thread = pthread_self();
	pthread_barrier_wait(&gate->barrier);
	return gate->result;
}

/* One call on each helper thread, until release_helpers(). */
static void
hold_helpers(struct fixture *f, struct job *call, struct gate *gate)
{
	int i;

	for (i = 0; i < IO_HELPERS; i++) {
		pthread_barrier_init(&gate[i].barrier, NULL, 2);
		gate[i].result = -i;
		td_prep_call(&call[i].tiocb, gate_call, &gate[i], job_on_end,
			     &call[i]);
		io_queue(f->io, &call[i].tiocb);
	}
}

/* The other way round than they began: all of them do run. */
static void
release_helpers(struct fixture *f, struct gate *gate)
{
	int i;

	for (i = IO_HELPERS - 1; i >= 0; i--)
		pthread_barrier_wait(&gate[i].barrier);
	run_until_idle(f);
	for (i = 0; i < IO_HELPERS; i++)
		pthread_barrier_destroy(&gate[i].barrier);
}

/* Threads that the kernel made for io_uring in this process. */
static unsigned int
count_workers(void)
{
	DIR *directory = opendir("/proc/self/task");
	char path[300], name[16] = "";
	unsigned int count = 0;
	struct dirent *entry;
	FILE *file;

	assert_non_null(directory);
	while ((entry = readdir(directory))) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm",
			 entry->d_name);
		file = fopen(path, "re"); /* a thread may have gone */
		if (!file)
			continue;
		if (fgets(name, sizeof(name), file))
			count += strncmp(name, "iou-wrk", 7) == 0;
		fclose(file);
	}
	closedir(directory);
	return count;
}

static void
test_transfers_in_memory_wake_no_worker_of_the_kernel(void **state)
{
	static char out[IO_DEPTH][BLOCK];
	static struct job job[IO_DEPTH];
	struct fixture *f = *state;
	int fd = memfd_create("test_io", MFD_CLOEXEC), i;

	assert_true(fd >= 0);
	for (i = 0; i < IO_DEPTH; i++) {
		job[i] = (struct job){ .ended = 0 };
		memset(out[i], 'a' + i % 26, BLOCK);
		td_prep_write(&job[i].tiocb, fd, out[i], BLOCK,
			      (long long)i * BLOCK, job_on_end, &job[i]);
		td_prep_file(&job[i].tiocb, TD_FILE_MEMORY);
		io_queue(f->io, &job[i].tiocb);
	}
	run_until_idle(f);
	assert_int_equal(jobs_ended, IO_DEPTH);
	for (i = 0; i < IO_DEPTH; i++)
		assert_int_equal(job[i].result, 0);
	assert_int_equal(count_workers(), 0);
	close(fd);
}

static void
test_calls_run_side_by_side_and_hold_up_no_transfer(void **state)
{
	static char in[BLOCK];
	struct fixture *f = *state;
	struct job call[IO_HELPERS] = { { .ended = 0 } }, read = { .ended = 0 };
	struct gate gate[IO_HELPERS];
	int i;

	fill_file(f, BLOCK);
	hold_helpers(f, call, gate);
	td_prep_read(&read.tiocb, f->fd, in, BLOCK, 0, job_on_end, &read);
	io_queue(f->io, &read.tiocb);
	while (!read.ended)
		assert_int_equal(loop_turn(f->loop, 0), 0);
	assert_int_equal(io_pending(f->io), IO_HELPERS);

	release_helpers(f, gate);
	for (i = 0; i < IO_HELPERS; i++) {
		assert_int_equal(call[i].ended, 1);
		assert_int_equal(call[i].result, -i);
		assert_false(pthread_equal(gate[i].thread, pthread_self()));
	}
}

/* While all helpers are held, it waits; one in a block does not. */
static void
test_long_copy_in_memory_is_not_made_by_the_loop(void **state)
{
	static char out[LARGE], in[LARGE];
	struct fixture *f = *state;
	struct job call[IO_HELPERS] = { { .ended = 0 } };
	struct job large = { .ended = 0 }, small = { .ended = 0 };
	struct gate gate[IO_HELPERS];

	memset(out, 'x', LARGE);
	hold_helpers(f, call, gate);
	td_prep_write(&large.tiocb, f->fd, out, LARGE, 0, job_on_end, &large);
	td_prep_file(&large.tiocb, TD_FILE_MEMORY);
	io_queue(f->io, &large.tiocb);
	td_prep_write(&small.tiocb, f->fd, out, BLOCK, LARGE, job_on_end,
		      &small);
	td_prep_file(&small.tiocb, TD_FILE_MEMORY);
	io_queue(f->io, &small.tiocb);
	while (!small.ended)
		assert_int_equal(loop_turn(f->loop, 0), 0);
	assert_int_equal(large.ended, 0);
	release_helpers(f, gate);
	assert_int_equal(large.ended, 1);
	assert_int_equal(large.result, 0);
	assert_int_equal(pread(f->fd, in, LARGE, 0), LARGE);
	assert_memory_equal(in, out, LARGE);
}

static int calls_done, calls_result;

static void
on_called(struct io_call *call, int result)
{
	(void)call;
	calls_done++;
	calls_result = result;
	stop_when_idle();
}

static int
answer(void *arg)
{
	return *(int *)arg;
}

static void
test_call_outside_a_driver_is_answered(void **state)
{
	struct fixture *f = *state;
	int value = -ENOENT;
	struct io_call call = {
		.call = answer,
		.arg = &value,
		.on_done = on_called,
	};

	calls_done = 0;
	io_call(f->io, &call);
	assert_int_equal(calls_done, 0);
	run_until_idle(f);
	assert_int_equal(calls_done, 1);
	assert_int_equal(calls_result, -ENOENT);
}

static void
test_drain_ends_everything_without_the_loop(void **state)
{
	enum {
		COUNT = IO_DEPTH + 10
	};
	static char in[BLOCK];
	struct fixture *f = *state;
	struct job *job = calloc(COUNT, sizeof(*job));
	struct job last = { .ended = 0 };
	int value = 0, i;

	fill_file(f, BLOCK);
	td_prep_call(&last.tiocb, answer, &value, job_on_end, &last);
	for (i = 0; i < COUNT; i++) {
		td_prep_read(&job[i].tiocb, f->fd, in, BLOCK, 0, job_on_end,
			     &job[i]);
		io_queue(f->io, &job[i].tiocb);
	}
	job[COUNT - 1].io = f->io;
	job[COUNT - 1].next = &last;
	io_drain(f->io);
	assert_int_equal(io_pending(f->io), 0);
	for (i = 0; i < COUNT; i++)
		assert_int_equal(job[i].ended, 1);
	assert_int_equal(last.ended, 1);
	free(job);
}

static void
test_direct_transfer_returns_even_if_called_one_of_memory(void **state)
{
	struct fixture *f = *state;
	struct job job[16] = { { .ended = 0 } };
	char *buffer, path[64];
	int fd, i;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	fd = open(path, O_RDWR | O_DIRECT);
	if (fd < 0) {
		print_message("no O_DIRECT in this directory\n");
		skip();
	}
	buffer = aligned_alloc(BLOCK, sizeof(job) / sizeof(job[0]) * BLOCK);
	fill_file(f, 16 * BLOCK);
	for (i = 0; i < 32; i++) {
		struct job *j = &job[i % 16];

		td_prep_read(&j->tiocb, fd, buffer + BLOCK * (i % 16), BLOCK,
			     BLOCK * (i % 16), job_on_end, j);
		if (i >= 16)
			td_prep_file(&j->tiocb, TD_FILE_MEMORY);
		io_queue(f->io, &j->tiocb);
		if (i % 16 == 15)
			run_until_idle(f);
	}
	for (i = 0; i < 16; i++) {
		assert_int_equal(job[i].ended, 2);
		assert_int_equal(job[i].result, 0);
		assert_int_equal(buffer[BLOCK * i], i + 1);
	}
	free(buffer);
	close(fd);
}

static void
test_unknown_backend_is_refused_with_a_sentence(void **state)
{
	struct reason reason = { "" };
	struct loop *loop = loop_new(NULL);

	(void)state;
	assert_null(io_new(loop, "posix", &reason));
	assert_string_equal(reason.text,
			    "there is no disk back-end \"posix\": choose "
			    "libaio or io_uring");
	loop_free(loop);
}

static void
test_first_backend_that_works_is_taken_unasked(void **state)
{
	struct loop *loop = loop_new(NULL);
	struct io *io = io_new(loop, NULL, NULL);

	(void)state;
	assert_non_null(io);
	assert_true(strcmp(io_backend_name(io), "libaio") == 0 ||
		    strcmp(io_backend_name(io), "io_uring") == 0);
	io_free(io);
	loop_free(loop);
}

static char libaio[] = "libaio", uring[] = "io_uring";

#define OVER(test, backend)                                                             \
	{                                                                               \
#		test " over " #		       backend, test, setup, teardown, backend \
	}
#define OVER_BOTH(test) OVER(test, libaio), OVER(test, uring)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		/* first: those that others wake stay for a while */
		OVER_BOTH(
			test_transfers_in_memory_wake_no_worker_of_the_kernel),
		OVER_BOTH(test_backend_is_the_one_asked_for),
		OVER_BOTH(test_what_was_written_is_read_back),
		OVER_BOTH(test_callback_never_runs_inside_io_queue),
		OVER_BOTH(test_transfer_short_of_the_end_of_file_is_eio),
		OVER_BOTH(test_short_transfer_is_carried_on),
		OVER_BOTH(test_empty_transfer_succeeds),
		OVER_BOTH(test_bad_descriptor_fails_alone),
		OVER_BOTH(test_more_than_io_depth_all_end_once),
		OVER_BOTH(test_callback_may_queue_the_next),
		OVER_BOTH(test_flush_succeeds_and_its_error_is_told),
		OVER_BOTH(test_transfer_moves_the_data_whatever_the_file),
		OVER_BOTH(test_calls_run_side_by_side_and_hold_up_no_transfer),
		OVER_BOTH(test_long_copy_in_memory_is_not_made_by_the_loop),
		OVER_BOTH(test_call_outside_a_driver_is_answered),
		OVER_BOTH(test_drain_ends_everything_without_the_loop),
		OVER_BOTH(
			test_direct_transfer_returns_even_if_called_one_of_memory),
		cmocka_unit_test(
			test_unknown_backend_is_refused_with_a_sentence),
		cmocka_unit_test(
			test_first_backend_that_works_is_taken_unasked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
