/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * process.c - see process.h.
 *
 * The background process keeps the starter's standard error until it is ready,
 * so that the sentence of a failed start reaches the person; then all three
 * standard descriptors turn to /dev/null.
 */
#include "tools/tapdisk/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/log.h"
#include "core/reason.h"

/* In the background: closed, with one byte written before, when ready. */
static int ready_fd = -1;

static void
raise_limit(int resource)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(resource, &limit);
}

void
process_prepare(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	close(fd);
	raise_limit(RLIMIT_NOFILE);
	raise_limit(RLIMIT_MEMLOCK);
	raise_limit(RLIMIT_CORE);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

/* The parent's part: never returns. */
static void
wait_for_child(pid_t child, int fd)
{
	int status;
	ssize_t r;
	char byte;

	do
		r = read(fd, &byte, 1);
	while (r < 0 && errno == EINTR);
	if (r == 1) {
		printf("%d\n", (int)child);
		exit(fflush(stdout) == 0 ? EXIT_STOPPED : EXIT_START);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		exit(WEXITSTATUS(status));
	fprintf(stderr, "tapdisk: the process ended before it could serve\n");
	exit(EXIT_START);
}

void
process_background(void)
{
	int fds[2];
	pid_t child;

	if (pipe2(fds, O_CLOEXEC) < 0 || (child = fork()) < 0) {
		fprintf(stderr, "tapdisk: cannot go to the background: %s\n",
			strerror(errno));
		exit(EXIT_START);
	}
	if (child > 0) {
		close(fds[1]);
		wait_for_child(child, fds[0]);
	}
	close(fds[0]);
	ready_fd = fds[1];
	setsid(); /* and stays in its directory: images are named from there */
}

static int
write_pid_file(const char *path, struct reason *reason)
{
	FILE *file = fopen(path, "we");
	int error = 0;

	if (!file || fprintf(file, "%d\n", (int)getpid()) < 0)
		error = -errno;
	if (file && fclose(file) != 0 && error == 0)
		error = -errno;
	if (error < 0)
		return reason_set(reason, error,
				  "cannot write the pid file %s: %s", path,
				  strerror(-error));
	return 0;
}

static void
release_parent(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fd;

	if (ready_fd < 0)
		return;
	/* A parent that was killed meanwhile doesn't matter to the disk. */
	if (write(ready_fd, "", 1) < 0)
		log_warn("process", "nobody waited for the start: %s",
			 strerror(errno));
	close(ready_fd);
	ready_fd = -1;
	for (fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	close(null);
}

int
process_ready(const char *pid_file, struct reason *reason)
{
	int r = pid_file ? write_pid_file(pid_file, reason) : 0;

	if (r < 0)
		return r;
	process_notify("READY=1");
	release_parent();
	return 0;
}

void
process_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t length;
	int fd;

	if (!path || (path[0] != '/' && path[0] != '@') ||
	    strlen(path) >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, strlen(path));
	length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
			     strlen(path));
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL,
			     (struct sockaddr *)&address, length) < 0)
		log_warn("process", "cannot tell the service manager %s: %s",
			 state, strerror(errno));
	if (fd >= 0)
		close(fd);
}
