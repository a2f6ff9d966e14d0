/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * drivers.h - the drivers that are built in.  tools/tapdisk puts them into its
 * table, which is where they get their names and numbers; the sentence with
 * each is its line of help.
 */
#ifndef DRIVERS_DRIVERS_H
#define DRIVERS_DRIVERS_H

#include "core/tapdisk.h"

/* aio, DISK_TYPE_AIO: "PATH: a raw file or block device" */
extern struct tap_disk tapdisk_aio;

/* ram, DISK_TYPE_RAM: "SIZE[K|M|G|T]: memory, lost at close" */
extern struct tap_disk tapdisk_ram;

/* null, -1: "SIZE[K|M|G|T]: reads zeros, forgets writes" */
extern struct tap_disk tapdisk_null;

/* fault, -1: "[RULE[;RULE...]]: a filter that makes the image below fail, late,
 * hang or lie" */
extern struct tap_disk tapdisk_fault;

/* lossy, -1: "[seed=N,tear=P]: a filter that keeps what was not flushed in
 * memory, to lose it in a crash" */
extern struct tap_disk tapdisk_lossy;

#endif
