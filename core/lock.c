/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lock - see lock.h.
 *
 * QEMU (docs/system/qemu-block-drivers.rst, "Disk image file locking") takes
 * shared locks: on byte 100 + bit for each permission that it uses, on byte
 * 200 + bit for each that it does not let others use; and asks whether anybody
 * holds the opposite byte.  The bits are those of its BLK_PERM_* constants.
 * An exclusive owner takes both ranges whole and asks whether anybody else has
 * a byte of them; a reader behaves as QEMU's readers do.  All locks are shared
 * ones, as QEMU's are: then QEMU comes to its question, and tells its user that
 * another process has the image, not that a lock failed.
 */
#include "core/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/reason.h"

#define PERMISSION_BASE 100
#define UNSHARED_BASE	200
#define BYTES		100 /* of each range */

#define CONSISTENT_READ 0
#define WRITE		1
#define RESIZE		3

static int
lock_bytes(int fd, short type, off_t start, off_t length)
{
	struct flock lock = { .l_type = type,
			      .l_whence = SEEK_SET,
			      .l_start = start,
			      .l_len = length };

	return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

/* -EAGAIN if somebody else holds one of the bytes in any way. */
static int
ask_bytes(int fd, off_t start, off_t length)
{
	struct flock lock = { .l_type = F_WRLCK,
			      .l_whence = SEEK_SET,
			      .l_start = start,
			      .l_len = length };

	if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
		return -errno;
	return lock.l_type == F_UNLCK ? 0 : -EAGAIN;
}

static int
lock_as_reader(int fd)
{
	static const off_t take[] = { PERMISSION_BASE + CONSISTENT_READ,
				      UNSHARED_BASE + WRITE,
				      UNSHARED_BASE + RESIZE };
	static const off_t ask[] = { UNSHARED_BASE + CONSISTENT_READ,
				     PERMISSION_BASE + WRITE,
				     PERMISSION_BASE + RESIZE };
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(take) / sizeof(take[0]); i++)
		r = lock_bytes(fd, F_RDLCK, take[i], 1);
	for (size_t i = 0; r == 0 && i < sizeof(ask) / sizeof(ask[0]); i++)
		r = ask_bytes(fd, ask[i], 1);
	return r;
}

static int
lock_as_owner(int fd)
{
	off_t length = UNSHARED_BASE + BYTES - PERMISSION_BASE;
	int r = lock_bytes(fd, F_RDLCK, PERMISSION_BASE, length);

	return r < 0 ? r : ask_bytes(fd, PERMISSION_BASE, length);
}

int
lock_image(int fd, const char *path, bool exclusive, struct reason *reason)
{
	int r = exclusive ? lock_as_owner(fd) : lock_as_reader(fd);

	if (r == 0)
		return 0;
	(void)lock_bytes(fd, F_UNLCK, PERMISSION_BASE,
			 UNSHARED_BASE + BYTES - PERMISSION_BASE);
	if (r == -EAGAIN || r == -EACCES)
		return reason_set(reason, -EAGAIN,
				  "%s is in use by another process (a tapdisk "
				  "or QEMU): stop that first",
				  path);
	return reason_set(reason, r, "%s cannot be locked: %s", path,
			  strerror(-r));
}
