/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk - one vbd over real drivers, for tests: a call is a request, seen
 * through to its end.
 */
#ifndef TESTS_DISK_H
#define TESTS_DISK_H

#include <stdbool.h>

#include "core/io.h"
#include "core/loop.h"
#include "core/reason.h"
#include "core/vbd.h"

struct disk {
	struct loop *loop;
	struct io *io; /* NULL while simulated */
	struct vbd *vbd;
	struct reason reason; /* of the last refusal */
	struct td_extents extents;
	char directory[256]; /* of the test's own; removed at the end */
};

/* A request on its way; for tests that have several at once. */
struct disk_request {
	struct request request;
	bool done, released;
	int result;
	int order; /* as the n-th done of all */
};

/* `backend` as for io_new(), or DISK_SIMULATED: no I/O, so no aio, and time
 * passes only while the test waits.  `types` NULL for all drivers. */
#define DISK_SIMULATED "simulated"

struct disk *disk_new(const char *backend, const struct driver_type *types);
struct disk *disk_free(struct disk *disk); /* closes it if it is open */

/* 0 or a negative errno and disk->reason. */
int disk_open(struct disk *disk, const char *image, td_flag_t flags);
int disk_open_limited(struct disk *disk, const char *image,
		      unsigned int timeout_s);
int disk_close(struct disk *disk);

/* "<directory>/<name>", in a buffer overwritten by the second next call. */
const char *disk_path(struct disk *disk, const char *name);

/* A file of `bytes` zeros; "aio:" and its path. */
const char *disk_file(struct disk *disk, const char *name, long long bytes);

/* The result; block status is left in disk->extents. */
int disk_do(struct disk *disk, int op, uint64_t offset, uint64_t length,
	    char *buffer, uint32_t flags);
int disk_read(struct disk *disk, uint64_t offset, uint64_t length, char *buf);
int disk_write(struct disk *disk, uint64_t offset, uint64_t length, char *buf);
int disk_fill(struct disk *disk, uint64_t offset, uint64_t length, int byte);
int disk_flush(struct disk *disk);

/* Whether `length` bytes (4 MiB at most) from `offset` all read as `byte`. */
bool disk_holds(struct disk *disk, uint64_t offset, uint64_t length, int byte);

void disk_submit(struct disk *disk, struct disk_request *request, int op,
		 uint64_t offset, uint64_t length, char *buffer);
/* Turn the loop until it is done; and until it is released. */
int disk_wait(struct disk *disk, struct disk_request *request);
void disk_wait_released(struct disk *disk, struct disk_request *request);
/* Turn the loop until nothing happens without time passing. */
void disk_settle(struct disk *disk);
/* Simulated: let so much time pass. */
void disk_pass(struct disk *disk, uint64_t ns);

/* td_command of an image in the stack; members go to `result` unless NULL. */
int disk_command(struct disk *disk, const char *type, const char *command,
		 struct json_t *result);

/* What td_stats of the first image of `type` says; a new reference. */
struct json_t *disk_stats(struct disk *disk, const char *type);

#endif
