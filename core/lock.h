/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lock - keeps an image to one daemon at a time, QEMU included.
 *
 * Open file description locks (fcntl F_OFD_*) on the bytes that QEMU's file
 * driver uses for its permissions (100 + bit: held; 200 + bit: not shared), so
 * that the two refuse each other.  Locks go with the descriptor.
 */
#ifndef CORE_LOCK_H
#define CORE_LOCK_H

#include <stdbool.h>

struct reason;

/* Alone (`exclusive`: we write), or beside other readers only.  -EAGAIN and a
 * reason that names `path` if somebody is in the way. */
int lock_image(int fd, const char *path, bool exclusive, struct reason *reason);

#endif
