/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blktaplib.h - the constants that drivers of blktap2 took from its library:
 * the ring's size, and the numbers by which td_get_parent_id names a type.
 */
#ifndef CORE_BLKTAPLIB_H
#define CORE_BLKTAPLIB_H

/* Requests in a one-page Xen block ring (xen/interface/io/blkif.h). */
#define MAX_REQUESTS 32

#define DISK_TYPE_AIO	      0
#define DISK_TYPE_SYNC	      1
#define DISK_TYPE_VMDK	      2
#define DISK_TYPE_VHDSYNC     3
#define DISK_TYPE_VHD	      4
#define DISK_TYPE_RAM	      5
#define DISK_TYPE_QCOW	      6
#define DISK_TYPE_BLOCK_CACHE 7
#define DISK_TYPE_VINDEX      8
#define DISK_TYPE_LOG	      9
#define DISK_TYPE_REMUS	      10

#endif
