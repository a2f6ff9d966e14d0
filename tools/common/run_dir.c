/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run_dir.c - the run directory: its mode, its sockets, its markers.
 *
 * RD1  A marker counts only while its file is still the one at its path: who
 *      gets a lock looks again, since the holder before may have removed it.
 * RD2  A socket is removed only when its process is dead: one that is bound
 *      and not yet listening refuses connections, too.
 */
#include "tools/common/run_dir.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/reason.h"

#define DEFAULT_DIR "/run/tapdisk"

const char *
run_dir_default(void)
{
	const char *dir = getenv("TAPDISK_RUN_DIR");

	return dir && *dir ? dir : DEFAULT_DIR;
}

int
run_dir_make(const char *dir, int group, struct reason *reason)
{
	struct stat st;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return reason_set(reason, -errno,
				  "cannot make the run directory %s: %s", dir,
				  strerror(errno));
	if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
		return reason_set(reason, -ENOTDIR,
				  "the run directory %s is no directory", dir);
	if ((st.st_mode & 022) && !(st.st_mode & S_ISVTX))
		return reason_set(reason, -EPERM,
				  "the run directory %s can be written to by "
				  "others; chmod it to 0700",
				  dir);
	if (group >= 0 && (st.st_gid != (gid_t)group || !(st.st_mode & 010)) &&
	    (chown(dir, (uid_t)-1, (gid_t)group) < 0 || chmod(dir, 0750) < 0))
		return reason_set(reason, -errno,
				  "cannot give the run directory %s to group "
				  "%d: %s",
				  dir, group, strerror(errno));
	return 0;
}

int
run_dir_path(char path[RUN_DIR_PATH_MAX], const char *dir,
	     struct reason *reason, const char *format, ...)
{
	int length = snprintf(path, RUN_DIR_PATH_MAX, "%s/", dir);
	va_list list;

	if (length > 0 && length < RUN_DIR_PATH_MAX) {
		va_start(list, format);
		length += vsnprintf(path + length,
				    RUN_DIR_PATH_MAX - (size_t)length, format,
				    list);
		va_end(list);
	}
	if (length <= 0 || length >= RUN_DIR_PATH_MAX)
		return reason_set(reason, -ENAMETOOLONG,
				  "the run directory %s is too long for the "
				  "path of a socket; choose one with --run-dir",
				  dir);
	return 0;
}

bool
run_dir_name_is_valid(const char *name)
{
	size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz"
				     "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "0123456789._-");

	return length > 0 && length <= RUN_DIR_NAME_MAX && !name[length];
}

/* The number behind `prefix` in "ctl123" or "nbd123.4"; -1 if it is none. */
static long
number_after(const char *file, const char *prefix)
{
	size_t length = strlen(prefix);
	char *end;
	long number;

	if (strncmp(file, prefix, length) != 0 ||
	    !isdigit((unsigned char)file[length]))
		return -1;
	errno = 0;
	number = strtol(file + length, &end, 10);
	if (errno || number > INT32_MAX || (*end && *end != '.'))
		return -1;
	return number;
}

/* Also one that ended and whose parent does not care to hear of it. */
static bool
process_is_dead(pid_t pid)
{
	char path[32], text[256] = "", *state;
	FILE *file;

	if (kill(pid, 0) < 0)
		return errno == ESRCH;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	state = strrchr(text, ')'); /* "pid (name) state ..." */
	return state && strncmp(state, ") Z", 3) == 0;
}

static int
compare_pids(const void *a, const void *b)
{
	const pid_t *left = a, *right = b;

	return (*left > *right) - (*left < *right);
}

int
run_dir_list(const char *dir, pid_t **ret_pids, struct reason *reason)
{
	DIR *stream = opendir(dir);
	pid_t *pids = NULL, *grown;
	struct dirent *entry;
	size_t count = 0;
	long pid;

	if (!stream && errno != ENOENT)
		return reason_set(reason, -errno,
				  "cannot read the run directory %s: %s", dir,
				  strerror(errno));
	while (stream && (entry = readdir(stream))) {
		pid = number_after(entry->d_name, "ctl");
		if (pid <= 0 || strchr(entry->d_name, '.'))
			continue;
		grown = reallocarray(pids, count + 1, sizeof(*pids));
		if (!grown)
			break;
		pids = grown;
		pids[count++] = (pid_t)pid;
	}
	if (stream)
		closedir(stream);
	if (count > 0)
		qsort(pids, count, sizeof(*pids), compare_pids);
	*ret_pids = pids;
	return (int)count;
}

/* --- markers --- */

/* RD1.  -EBUSY if it is locked, -ENOENT if it isn't there and `create` is not
 * given, -EAGAIN if it was removed under us. */
static int
marker_lock(const char *path, bool create)
{
	struct stat ours, there;
	int fd;

	fd = open(path,
		  O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0),
		  0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		return -EBUSY;
	}
	if (fstat(fd, &ours) == 0 && stat(path, &there) == 0 &&
	    ours.st_ino == there.st_ino && ours.st_dev == there.st_dev)
		return fd;
	close(fd);
	return -EAGAIN;
}

/* A name's marker that nobody holds. */
static void
sweep_name(const char *dir, const char *file)
{
	char path[RUN_DIR_PATH_MAX];
	int fd;

	if (run_dir_path(path, dir, NULL, "%s", file) < 0)
		return;
	fd = marker_lock(path, false);
	if (fd < 0)
		return;
	unlink(path);
	close(fd);
}

void
run_dir_sweep(const char *dir)
{
	DIR *stream = opendir(dir);
	struct dirent *entry;
	long pid;

	while (stream && (entry = readdir(stream))) {
		if (strncmp(entry->d_name, "name-", 5) == 0)
			sweep_name(dir, entry->d_name);
		pid = number_after(entry->d_name, "ctl");
		if (pid < 0)
			pid = number_after(entry->d_name, "nbd");
		if (pid > 0 && process_is_dead((pid_t)pid))
			unlinkat(dirfd(stream), entry->d_name, 0);
	}
	if (stream)
		closedir(stream);
}

/* The marker says whose it is, for people and for run_dir_allocate(). */
static int
marker_write_pid(int fd)
{
	if (ftruncate(fd, 0) < 0 || dprintf(fd, "%d\n", (int)getpid()) < 0)
		return -errno;
	return 0;
}

int
run_dir_hold_name(const char *dir, const char *name, struct reason *reason)
{
	char path[RUN_DIR_PATH_MAX];
	int fd, r;

	r = run_dir_path(path, dir, reason, "name-%s", name);
	if (r < 0)
		return r;
	do
		fd = marker_lock(path, true);
	while (fd == -EAGAIN);
	if (fd == -EBUSY)
		return reason_set(reason, fd,
				  "a disk named %s is being served already; "
				  "choose another --name",
				  name);
	if (fd >= 0 && (r = marker_write_pid(fd)) < 0) {
		close(fd);
		fd = r;
	}
	if (fd < 0)
		return reason_set(reason, fd, "cannot write %s: %s", path,
				  strerror(-fd));
	return fd;
}

void
run_dir_drop_name(const char *dir, const char *name, int fd)
{
	char path[RUN_DIR_PATH_MAX];

	if (fd < 0)
		return;
	if (run_dir_path(path, dir, NULL, "name-%s", name) == 0)
		unlink(path);
	close(fd);
}

int
run_dir_hold_minor(const char *dir, int minor, struct reason *reason)
{
	char path[RUN_DIR_PATH_MAX];
	int fd, r;

	r = run_dir_path(path, dir, reason, "minor%d", minor);
	if (r < 0)
		return r;
	fd = marker_lock(path, false);
	if (fd == -ENOENT || fd == -EAGAIN)
		return reason_set(reason, -ENOENT,
				  "minor %d is not allocated; \"tap-ctl "
				  "allocate\" gives one",
				  minor);
	if (fd == -EBUSY)
		return reason_set(reason, fd,
				  "minor %d is attached to a daemon already",
				  minor);
	if (fd >= 0 && (r = marker_write_pid(fd)) < 0) {
		close(fd);
		fd = r;
	}
	if (fd < 0)
		return reason_set(reason, fd, "cannot write %s: %s", path,
				  strerror(-fd));
	return fd;
}

void
run_dir_drop_minor(int fd)
{
	if (fd < 0)
		return;
	/* If it fails the marker names a dead process, and can be had. */
	(void)!ftruncate(fd, 0);
	close(fd);
}

/* A marker that nobody holds, though it names a process: its daemon died. */
static bool
minor_is_abandoned(const char *path)
{
	int fd = marker_lock(path, false);
	struct stat st;
	bool abandoned;

	if (fd < 0)
		return false;
	abandoned =
		fstat(fd, &st) == 0 && st.st_size > 0 && ftruncate(fd, 0) == 0;
	close(fd);
	return abandoned;
}

int
run_dir_allocate(const char *dir, struct reason *reason)
{
	char path[RUN_DIR_PATH_MAX];
	int fd, minor, r;

	for (minor = 0; minor < RUN_DIR_MINORS; minor++) {
		r = run_dir_path(path, dir, reason, "minor%d", minor);
		if (r < 0)
			return r;
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd >= 0) {
			close(fd);
			return minor;
		}
		if (errno != EEXIST)
			return reason_set(reason, -errno, "cannot make %s: %s",
					  path, strerror(errno));
		if (minor_is_abandoned(path))
			return minor;
	}
	return reason_set(reason, -ENOSPC,
			  "all %d minors are allocated; \"tap-ctl free\" one",
			  RUN_DIR_MINORS);
}

int
run_dir_free(const char *dir, int minor, struct reason *reason)
{
	int fd = run_dir_hold_minor(dir, minor, reason);
	char path[RUN_DIR_PATH_MAX];
	int r;

	if (fd < 0)
		return fd;
	r = run_dir_path(path, dir, reason, "minor%d", minor);
	if (r == 0 && unlink(path) < 0)
		r = reason_set(reason, -errno, "cannot remove %s: %s", path,
			       strerror(errno));
	close(fd);
	return r;
}

void
run_dir_each_minor(const char *dir, void (*visit)(int minor, void *arg),
		   void *arg)
{
	DIR *stream = opendir(dir);
	struct dirent *entry;
	long minor;

	while (stream && (entry = readdir(stream))) {
		minor = number_after(entry->d_name, "minor");
		if (minor >= 0 && minor < RUN_DIR_MINORS)
			visit((int)minor, arg);
	}
	if (stream)
		closedir(stream);
}
