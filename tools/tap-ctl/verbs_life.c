/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_life.c - the verbs that begin and end processes and minors.
 *
 * create is allocate, spawn, attach and open; what it began is undone when a
 * later step fails, so that it leaves all or nothing.
 */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/reason.h"
#include "tools/common/run_dir.h"
#include "tools/tap-ctl/client.h"
#include "tools/tap-ctl/verbs.h"

/* --- minors --- */

int
verb_allocate(struct context *context)
{
	struct reason reason = { "" };
	int r = run_dir_make(context->run_dir, -1, &reason);

	if (r == 0)
		r = run_dir_allocate(context->run_dir, &reason);
	if (r < 0)
		return complain_of(context, r, &reason);
	if (has(context, ARG_JSON))
		printf("{\"minor\": %d}\n", r);
	else
		printf("%d\n", r);
	return EXIT_OK;
}

int
verb_free(struct context *context)
{
	long minor = number_of(context, ARG_MINOR, RUN_DIR_MINORS - 1, -1);
	struct reason reason = { "" };
	int r;

	if (minor < 0)
		return complain(context, EXIT_USAGE,
				"say which minor: -m MINOR");
	r = run_dir_free(context->run_dir, (int)minor, &reason);
	return r < 0 ? complain_of(context, r, &reason) : EXIT_OK;
}

/* --- processes --- */

/* The tapdisk beside us, or else the one on $PATH. */
static void
find_tapdisk(char path[PATH_MAX])
{
	char own[PATH_MAX - 8];
	ssize_t length = readlink("/proc/self/exe", own, sizeof(own) - 1);
	char *slash;

	own[length > 0 ? length : 0] = '\0';
	slash = strrchr(own, '/');
	if (slash) {
		*slash = '\0';
		snprintf(path, PATH_MAX, "%s/tapdisk", own);
		if (access(path, X_OK) == 0)
			return;
	}
	snprintf(path, PATH_MAX, "tapdisk");
}

static void
exec_tapdisk(const struct context *context)
{
	const char *words[PASS_MAX + 8];
	char path[PATH_MAX];
	int i, count = 0;

	words[count++] = "tapdisk";
	words[count++] = "--daemon";
	words[count++] = "--run-dir";
	words[count++] = context->run_dir;
	if (has(context, ARG_NAME)) {
		words[count++] = "--name";
		words[count++] = context->text[ARG_NAME];
	}
	for (i = 0; i < context->pass_count; i++)
		words[count++] = context->pass[i];
	words[count] = NULL;
	find_tapdisk(path);
	execvp(path, (char *const *)(uintptr_t)words);
	complain(context, EXIT_REFUSED, "cannot run %s: %s", path,
		 strerror(errno));
	_exit(127);
}

/* Start a tapdisk, which says itself on standard error why it could not.
 * Returns its pid, or 0 with *ret_code filled. */
static pid_t
spawn(struct context *context, int *ret_code)
{
	int fds[2], status, pid = 0;
	char text[32] = "";
	pid_t child = -1;
	ssize_t length;

	if (pipe(fds) < 0 || (child = fork()) < 0) {
		*ret_code =
			complain(context, EXIT_REFUSED,
				 "cannot start a process: %s", strerror(errno));
		return 0;
	}
	if (child == 0) {
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		exec_tapdisk(context);
	}
	close(fds[1]);
	do
		length = read(fds[0], text, sizeof(text) - 1);
	while (length < 0 && errno == EINTR);
	close(fds[0]);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	pid = (int)strtol(text, NULL, 10);
	*ret_code = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_USAGE
			    ? EXIT_USAGE
			    : EXIT_REFUSED;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? pid : 0;
}

int
verb_spawn(struct context *context)
{
	int code;
	pid_t pid = spawn(context, &code);

	if (pid <= 0)
		return code;
	if (has(context, ARG_JSON))
		printf("{\"pid\": %d}\n", (int)pid);
	else
		printf("%d\n", (int)pid);
	return EXIT_OK;
}

/* Ask it to end, and wait until it has. */
static int
end_daemon(struct client *client, struct reason *reason)
{
	int r = client_call(client, "exit", NULL, 0, NULL, reason);

	if (r == 0)
		client_wait_end(client);
	return r;
}

/* --- create and destroy --- */

static int
attach_and_open(struct context *context, struct client *client, int minor,
		json_t **ret_status, struct reason *reason)
{
	int r = client_call(client, "attach",
			    json_pack("{s:i}", "minor", minor), 0, NULL,
			    reason);

	if (r == 0)
		r = open_image(context, client, NULL, ret_status, reason);
	return r;
}

static int
create_on(struct context *context, int minor)
{
	struct reason reason = { "" }, ignored;
	struct client *client = NULL;
	json_t *status = NULL;
	int code, r;
	pid_t pid;

	pid = spawn(context, &code);
	if (pid <= 0)
		return code;
	r = client_open(&client, context->run_dir, pid, &reason);
	if (r < 0)
		return complain_of(context, r, &reason);
	r = attach_and_open(context, client, minor, &status, &reason);
	if (r < 0) {
		end_daemon(client, &ignored);
		client_free(client);
		return complain_of(context, r, &reason);
	}
	print_addresses(context, status);
	json_decref(status);
	client_free(client);
	return EXIT_OK;
}

int
verb_create(struct context *context)
{
	struct reason reason = { "" };
	int minor, r;

	if (!has(context, ARG_IMAGE))
		return complain(context, EXIT_USAGE,
				"say which image: -a TYPE:PATH");
	r = run_dir_make(context->run_dir, -1, &reason);
	if (r < 0)
		return complain_of(context, r, &reason);
	minor = run_dir_allocate(context->run_dir, &reason);
	if (minor < 0)
		return complain_of(context, minor, &reason);
	r = create_on(context, minor);
	if (r != EXIT_OK)
		run_dir_free(context->run_dir, minor, NULL);
	return r;
}

/* Close, unless that is done; detach; end. */
static int
take_down(struct context *context, struct client *client, const json_t *status,
	  struct reason *reason)
{
	const char *state = json_string_value(json_object_get(status, "state"));
	json_t *arguments;
	int r = 0;

	if (!state || strcmp(state, "closed") != 0) {
		arguments =
			json_pack("{s:b, s:i}", "force",
				  has(context, ARG_FORCE), "timeout",
				  (int)number_of(context, ARG_LIMIT, 86400, 0));
		r = client_call(client, "close", arguments, 0, NULL, reason);
	}
	return r < 0 ? r : end_daemon(client, reason);
}

int
verb_destroy(struct context *context)
{
	struct reason reason = { "" };
	struct client *client = NULL;
	json_t *status = NULL, *minor;
	int r;

	r = disk_find(context, &client, &status);
	if (r != EXIT_OK)
		return r;
	r = take_down(context, client, status, &reason);
	client_free(client);
	minor = json_object_get(status, "minor");
	if (r == 0 && json_is_integer(minor))
		r = run_dir_free(context->run_dir,
				 (int)json_integer_value(minor), &reason);
	json_decref(status);
	return r < 0 ? complain_of(context, r, &reason) : EXIT_OK;
}

/* --- the host --- */

/* Not a guess from files and versions: start one, ask it, end it. */
int
verb_check(struct context *context)
{
	struct reason reason = { "" };
	struct client *client;
	int code, r;
	pid_t pid;

	r = run_dir_make(context->run_dir, -1, &reason);
	if (r < 0)
		return complain_of(context, r, &reason);
	run_dir_sweep(context->run_dir);
	pid = spawn(context, &code);
	if (pid <= 0)
		return code;
	r = client_open(&client, context->run_dir, pid, &reason);
	if (r == 0) {
		r = end_daemon(client, &reason);
		client_free(client);
	}
	if (r < 0)
		return complain_of(context, r, &reason);
	printf(has(context, ARG_JSON) ? "{\"check\": \"ok\"}\n" : "ok\n");
	return EXIT_OK;
}

int
verb_major(struct context *context)
{
	FILE *file = fopen("/proc/devices", "re");
	char *line = NULL, *name;
	bool blocks = false;
	size_t size = 0;
	long major = -1, number;

	while (file && major < 0 && getline(&line, &size, file) > 0) {
		blocks = blocks || strncmp(line, "Block", 5) == 0;
		number = strtol(line, &name, 10);
		if (blocks && name > line && strcmp(name, " nbd\n") == 0)
			major = number;
	}
	free(line);
	if (file)
		fclose(file);
	if (major < 0)
		return complain(context, EXIT_REFUSED,
				"the kernel has no network block devices; "
				"\"modprobe nbd\" loads them");
	if (has(context, ARG_JSON))
		printf("{\"major\": %ld}\n", major);
	else
		printf("%ld\n", major);
	return EXIT_OK;
}
