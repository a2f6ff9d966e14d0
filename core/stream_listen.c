/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream_listen - the listening half of stream.h: addresses in words, sockets
 * that accept.
 *
 * N1  A Unix socket's file is never open to more people than `mode` says, not
 *     even for a moment: the socket carries its mode before it is bound.
 * N2  A socket file is removed at the end only if it is still the one that was
 *     bound here; at the start only if nobody answers behind it.
 * N3  A process that ran out of descriptors does not spin on the connection
 *     that it cannot take: it looks again after ACCEPT_PAUSE_NS.
 */
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/log.h"
#include "core/reason.h"
#include "core/stream.h"

#define ACCEPT_BATCH	16
#define ACCEPT_PAUSE_NS NS_PER_S
#define LISTEN_BACKLOG	64
#define HOST_MAX	256

static bool
out_of_something(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS ||
	       error == ENOMEM;
}

static void
on_connection(struct watch *watch, unsigned int events)
{
	struct listener *listener = container_of(watch, struct listener, watch);

	(void)events;
	/* the callback may close the listener */
	for (int i = 0; i < ACCEPT_BATCH && watch->loop != NULL; i++) {
		int fd = accept4(watch->fd, NULL, NULL,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			listener->on_accept(listener, fd);
			continue;
		}
		if (out_of_something(errno)) {
			log_warn("stream",
				 "%s: cannot take a connection: %s; trying "
				 "again in a second",
				 listener->name, strerror(errno));
			watch_set(watch, 0);
			timer_set(&listener->pause, ACCEPT_PAUSE_NS);
			return;
		}
		if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

static void
on_pause_over(struct timer *timer)
{
	struct listener *listener = container_of(timer, struct listener, pause);

	watch_set(&listener->watch, WATCH_READ);
}

/* --- Unix sockets --- */

/* Somebody listens at `path`, or might. */
static bool
is_answered(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool answered;

	if (fd < 0)
		return true;
	answered = connect(fd, (const struct sockaddr *)address,
			   sizeof(*address)) == 0 ||
		   errno != ECONNREFUSED;
	(void)close(fd);
	return answered;
}

static int
remove_stale(const struct sockaddr_un *address, struct reason *reason)
{
	const char *path = address->sun_path;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0
				       : reason_set(reason, -errno, "%s: %s",
						    path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return reason_set(reason, -EEXIST,
				  "%s exists and is not a socket: choose "
				  "another path or remove it",
				  path);
	if (is_answered(address))
		return reason_set(reason, -EADDRINUSE,
				  "%s: another process listens there", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return reason_set(reason, -errno,
				  "%s: cannot remove the socket of a dead "
				  "process: %s",
				  path, strerror(errno));
	return 0;
}

static int
bind_unix(struct listener *listener, const struct sockaddr_un *address,
	  unsigned int mode, int group, struct reason *reason)
{
	const char *path = address->sun_path;
	struct stat st;

	/* owner only, until the group is right (N1) */
	if (fchmod(listener->fd, mode & 0700) < 0 ||
	    bind(listener->fd, (const struct sockaddr *)address,
		 sizeof(*address)) < 0)
		return reason_set(reason, -errno, "cannot listen on %s: %s",
				  path, strerror(errno));
	listener->path = strdup(path);
	if (listener->path == NULL)
		return reason_set(reason, -ENOMEM, "cannot listen on %s: %s",
				  path, strerror(ENOMEM));
	if (lstat(path, &st) == 0) {
		listener->device = st.st_dev;
		listener->inode = st.st_ino;
	}
	if (group >= 0 && chown(path, (uid_t)-1, (gid_t)group) < 0)
		return reason_set(reason, -errno,
				  "%s: cannot give the socket to group %d: %s",
				  path, group, strerror(errno));
	if (chmod(path, mode) < 0)
		return reason_set(reason, -errno,
				  "%s: cannot set the socket's mode: %s", path,
				  strerror(errno));
	return 0;
}

static int
open_unix(struct listener *listener, const char *path, unsigned int mode,
	  int group, struct reason *reason)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int r;

	if (*path == '\0')
		return reason_set(reason, -EINVAL,
				  "unix: needs a path, as in unix:/run/x.sock");
	if (strlen(path) >= sizeof(address.sun_path))
		return reason_set(reason, -ENAMETOOLONG,
				  "%s is too long for a socket: at most %zu "
				  "bytes are allowed",
				  path, sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, strlen(path) + 1);
	r = remove_stale(&address, reason);
	if (r < 0)
		return r;
	listener->fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		return reason_set(reason, -errno, "socket: %s",
				  strerror(errno));
	return bind_unix(listener, &address, mode, group, reason);
}

/* --- TCP --- */

/* Cuts "HOST:PORT" or "[HOST]:PORT"; host is "" for all addresses. */
static int
split_host(const char *address, char *host, const char **port,
	   struct reason *reason)
{
	const char *colon = strrchr(address, ':');
	size_t length;

	if (colon == NULL || colon == address || colon[1] == '\0')
		return reason_set(reason, -EINVAL,
				  "tcp:%s: write tcp:HOST:PORT, with * for all "
				  "addresses and port 0 for a free one",
				  address);
	length = (size_t)(colon - address);
	if (address[0] == '[' && colon[-1] == ']') {
		address++;
		length -= 2;
	} else if (memchr(address, ':', length) != NULL) {
		return reason_set(reason, -EINVAL,
				  "tcp:%s: write an IPv6 address in brackets, "
				  "as in tcp:[::1]:10809",
				  address);
	}
	if (length >= HOST_MAX)
		return reason_set(reason, -ENAMETOOLONG,
				  "tcp:%s: the host's name is too long",
				  address);
	memcpy(host, address, length);
	host[length] = '\0';
	if (strcmp(host, "*") == 0)
		host[0] = '\0';
	*port = colon + 1;
	return 0;
}

/* `all`: one socket for both families, if the system can. */
static int
bind_tcp(struct listener *listener, const struct addrinfo *info, bool all)
{
	int one = 1, only = !all, error;
	int fd = socket(info->ai_family,
			SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (info->ai_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only,
				 sizeof(only));
	if (bind(fd, info->ai_addr, info->ai_addrlen) < 0) {
		error = -errno;
		(void)close(fd);
		return error;
	}
	listener->fd = fd;
	return 0;
}

static int
open_tcp(struct listener *listener, const char *address, struct reason *reason)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE,
				  .ai_socktype = SOCK_STREAM };
	struct addrinfo *list, *info;
	char host[HOST_MAX] = "";
	const char *port = "";
	bool all;
	int r = split_host(address, host, &port, reason);

	if (r < 0)
		return r;
	all = host[0] == '\0';
	if (strspn(port, "0123456789") != strlen(port) || strlen(port) > 5 ||
	    strtoul(port, NULL, 10) > 65535)
		return reason_set(reason, -EINVAL,
				  "tcp:%s: %s is not a port (0 to 65535)",
				  address, port);
	r = getaddrinfo(all ? NULL : host, port, &hints, &list);
	if (r != 0)
		return reason_set(reason, -EADDRNOTAVAIL,
				  "tcp:%s: no such address: %s", address,
				  gai_strerror(r));
	r = -EADDRNOTAVAIL;
	/* all addresses: the IPv6 socket takes both families, so it is first */
	for (int want_v4 = 0; want_v4 < (all ? 2 : 1) && r < 0; want_v4++) {
		for (info = list; info != NULL && r < 0; info = info->ai_next) {
			if (!all || (info->ai_family == AF_INET) == want_v4)
				r = bind_tcp(listener, info, all);
		}
	}
	freeaddrinfo(list);
	if (r == -EADDRINUSE)
		return reason_set(reason, r,
				  "tcp:%s: the port is in use: choose another, "
				  "or 0 for a free one",
				  address);
	if (r < 0)
		return reason_set(reason, r, "cannot listen on tcp:%s: %s",
				  address, strerror(-r));
	return 0;
}

/* The address as bound, in the words that listener_open() takes. */
static char *
bound_name(const struct listener *listener)
{
	struct sockaddr_storage address = { 0 };
	socklen_t length = sizeof(address);
	char host[NI_MAXHOST], port[NI_MAXSERV];
	char *name = NULL;
	int r;

	if (listener->path != NULL) {
		r = asprintf(&name, "unix:%s", listener->path);
		return r < 0 ? NULL : name;
	}
	if (getsockname(listener->fd, (struct sockaddr *)&address, &length) <
		    0 ||
	    getnameinfo((struct sockaddr *)&address, length, host, sizeof(host),
			port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
		return NULL;
	r = asprintf(&name,
		     address.ss_family == AF_INET6 ? "tcp:[%s]:%s"
						   : "tcp:%s:%s",
		     host, port);
	return r < 0 ? NULL : name;
}

int
listener_open(struct listener *listener, struct loop *loop, const char *address,
	      unsigned int mode, int group,
	      void (*on_accept)(struct listener *, int fd),
	      struct reason *reason)
{
	int r;

	*listener = (struct listener){ .fd = -1, .on_accept = on_accept };
	timer_init(&listener->pause, loop, on_pause_over);
	if (strncmp(address, "unix:", 5) == 0)
		r = open_unix(listener, address + 5, mode, group, reason);
	else if (strncmp(address, "tcp:", 4) == 0)
		r = open_tcp(listener, address + 4, reason);
	else
		r = reason_set(reason, -EINVAL,
			       "%s is not an address: write unix:PATH or "
			       "tcp:HOST:PORT",
			       address);
	if (r == 0 && listen(listener->fd, LISTEN_BACKLOG) < 0)
		r = reason_set(reason, -errno, "cannot listen on %s: %s",
			       address, strerror(errno));
	if (r == 0) {
		listener->name = bound_name(listener);
		r = listener->name == NULL
			    ? -ENOMEM
			    : watch_open(&listener->watch, loop, listener->fd,
					 WATCH_READ, on_connection);
		if (r < 0)
			(void)reason_set(reason, r, "cannot listen on %s: %s",
					 address, strerror(-r));
	}
	if (r < 0)
		listener_close(listener);
	return r;
}

void
listener_close(struct listener *listener)
{
	struct stat st;

	if (listener->on_accept == NULL)
		return;
	watch_close(&listener->watch);
	timer_clear(&listener->pause);
	if (listener->fd >= 0)
		(void)close(listener->fd);
	if (listener->path != NULL && lstat(listener->path, &st) == 0 &&
	    st.st_dev == listener->device && st.st_ino == listener->inode)
		(void)unlink(listener->path);
	free(listener->path);
	free(listener->name);
	*listener = (struct listener){ .fd = -1 };
}
