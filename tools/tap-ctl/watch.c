/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch.c - the live view: a row for each disk, drawn anew at an interval.
 *
 * Rates are differences between two looks at the counters of stats; a disk
 * seen for the first time shows none.  The view is drawn on the terminal's
 * alternate screen, which is left as it was found however we end.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "core/reason.h"
#include "tools/common/run_dir.h"
#include "tools/common/size.h"
#include "tools/tap-ctl/client.h"
#include "tools/tap-ctl/verbs.h"

#define DISKS_MAX    64
#define SCREEN_ENTER "\033[?1049h\033[?25l"
#define SCREEN_LEAVE "\033[?25h\033[?1049l"
#define SCREEN_HOME  "\033[H"
#define LINE_END     "\033[K\n"
#define SCREEN_REST  "\033[J"

struct counters {
	pid_t pid; /* 0: free */
	double when;
	json_int_t count[2], bytes[2]; /* read, write */
};

struct view {
	struct counters before[DISKS_MAX];
	int rows;
};

static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static json_t *
stats_of(const struct context *context, pid_t pid)
{
	struct client *client;
	json_t *stats = NULL;

	if (client_open(&client, context->run_dir, pid, NULL) < 0)
		return NULL;
	if (client_call(client, "stats", NULL, CLIENT_QUICK_S, &stats, NULL) <
	    0)
		stats = NULL;
	client_free(client);
	return stats;
}

static struct counters *
find_counters(struct view *view, pid_t pid)
{
	struct counters *free = NULL;
	int i;

	for (i = 0; i < DISKS_MAX; i++) {
		if (view->before[i].pid == pid)
			return &view->before[i];
		if (!free && view->before[i].pid == 0)
			free = &view->before[i];
	}
	return free;
}

static double
percentile(json_t *ops, const char *op, const char *which)
{
	json_t *latency =
		json_object_get(json_object_get(ops, op), "latency_us");

	return json_number_value(json_object_get(latency, which));
}

/* "12.3k" operations and "48 MiB" a second, and the 99th percentile. */
static void
print_rate(json_t *ops, const char *op, struct counters *before, int i,
	   double seconds)
{
	json_t *one = json_object_get(ops, op);
	json_int_t count = json_integer_value(json_object_get(one, "count"));
	json_int_t bytes = json_integer_value(json_object_get(one, "bytes"));
	char rate[SIZE_TEXT_MAX] = "-";
	double per_second = 0;

	if (seconds > 0 && count >= before->count[i]) {
		per_second = (double)(count - before->count[i]) / seconds;
		size_text(rate, (uint64_t)((double)(bytes - before->bytes[i]) /
					   seconds));
	}
	printf(" %9.0f %9s %8.0f", per_second, rate,
	       percentile(ops, op, "p99"));
	before->count[i] = count;
	before->bytes[i] = bytes;
}

static void
print_row(struct context *context, json_t *status, void *arg)
{
	struct view *view = arg;
	pid_t pid = (pid_t)json_integer_value(json_object_get(status, "pid"));
	struct counters *before = find_counters(view, pid);
	json_t *stats = stats_of(context, pid), *ops;
	double seconds;

	if (!stats || !before) {
		json_decref(stats);
		return;
	}
	ops = json_object_get(stats, "stats");
	seconds = before->pid == pid ? now() - before->when : 0;
	before->pid = pid;
	before->when = now();
	printf("%-14.14s %-8s %4lld",
	       json_string_value(json_object_get(status, "name")),
	       json_string_value(json_object_get(status, "state")),
	       (long long)json_integer_value(
		       json_object_get(status, "in_flight")));
	print_rate(ops, "read", before, 0, seconds);
	print_rate(ops, "write", before, 1, seconds);
	printf(LINE_END);
	if (json_is_object(json_object_get(status, "replica"))) {
		pair_print_row(json_object_get(status, "replica"));
		printf(LINE_END);
	}
	view->rows++;
	json_decref(stats);
}

static int
draw(struct context *context, struct view *view)
{
	time_t wall = time(NULL);
	char when[16] = "";
	struct tm tm;
	int r;

	if (localtime_r(&wall, &tm))
		strftime(when, sizeof(when), "%T", &tm);
	printf(SCREEN_HOME "%s   latencies: 99 of 100, in us   "
			   "(Ctrl-C ends)" LINE_END,
	       when);
	printf("%-14s %-8s %4s %9s %9s %8s %9s %9s %8s" LINE_END, "NAME",
	       "STATE", "BUSY", "READS/s", "READ/s", "LATENCY", "WRITES/s",
	       "WRITE/s", "LATENCY");
	view->rows = 0;
	r = disk_each(context, print_row, view);
	if (view->rows == 0)
		printf("there is no such disk now" LINE_END);
	printf(SCREEN_REST);
	fflush(stdout);
	return r;
}

int
watch(struct context *context)
{
	long interval_s = number_of(context, ARG_INTERVAL, 3600, 1);
	static struct view view;
	struct pollfd poll_fd = { .events = POLLIN };
	sigset_t set;
	int r;

	if (!isatty(STDOUT_FILENO))
		return complain(context, EXIT_USAGE,
				"--watch needs a terminal; programs take "
				"--json or \"tap-ctl events\"");
	if (has(context, ARG_JSON) || interval_s == 0)
		return complain(context, EXIT_USAGE,
				"--watch goes with neither --json nor an "
				"interval of 0");
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	poll_fd.fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (poll_fd.fd < 0)
		return complain(context, EXIT_REFUSED,
				"cannot receive signals: %s", strerror(errno));
	printf(SCREEN_ENTER);
	do
		r = draw(context, &view);
	while (r == EXIT_OK && poll(&poll_fd, 1, (int)interval_s * 1000) == 0);
	printf(SCREEN_LEAVE);
	close(poll_fd.fd);
	return r;
}
