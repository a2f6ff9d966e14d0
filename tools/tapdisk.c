/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tapdisk - the daemon's main: the tables of everything that is built in.
 *
 * To read these tables is to read what the program can do.  Drivers that are
 * not built in (make EXTRA_DRIVERS=...) come before them, and one with a
 * built-in's name replaces it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/image.h"
#include "core/log.h"
#include "core/reason.h"
#include "drivers/drivers.h"
#include "replication/log.h"
#include "replication/metadata.h"
#include "replication/remus.h"
#include "replication/transport.h"
#include "tools/tapdisk/daemon.h"
#include "tools/tapdisk/extra.h"
#include "tools/tapdisk/frontend.h"
#include "tools/tapdisk/options.h"
#include "tools/tapdisk/process.h"

static const struct driver_type built_in[] = {
	{ "aio", DISK_TYPE_AIO, &tapdisk_aio,
	  "PATH: a raw file or block device" },
	{ "ram", DISK_TYPE_RAM, &tapdisk_ram,
	  "SIZE[K|M|G|T]: memory, lost at close" },
	{ "null", -1, &tapdisk_null,
	  "SIZE[K|M|G|T]: reads zeros, forgets writes" },
	{ "fault", -1, &tapdisk_fault,
	  "[RULES]: a filter that fails, delays, hangs, corrupts" },
	{ "lossy", -1, &tapdisk_lossy,
	  "[OPTIONS]: a filter that forgets what is not flushed" },
	{ "log", DISK_TYPE_LOG, &tapdisk_log,
	  "[OPTIONS]: a filter that tracks changes, see --track" },
	{ "remus", -1, &tapdisk_remus,
	  "role=ROLE,listen=URL,peer=URL,...: a filter that mirrors" },
	{ NULL, -1, NULL, NULL },
};

static const struct transport *const transports[] = { &transport_tcp,
						      &transport_rdma, NULL };

static bool
look_at_image(const char *path, uint64_t *ret_size, uint64_t *ret_time_ns)
{
	struct stat look;

	if (stat(path, &look) < 0 || !S_ISREG(look.st_mode))
		return false;
	*ret_size = (uint64_t)look.st_size;
	*ret_time_ns = (uint64_t)look.st_mtim.tv_sec * NS_PER_S +
		       (uint64_t)look.st_mtim.tv_nsec;
	return true;
}

const struct remus_program remus_program = {
	.transports = transports,
	.open_store = store_open_file,
	.look_at_image = look_at_image,
};

static const struct frontend *const frontends[] = { &frontend_nbd, NULL };

int
main(int argc, char **argv)
{
	const struct driver_type *types = extra_join(built_in);
	struct reason reason = { "" };
	struct options options;
	int r;

	process_prepare();
	options_parse(&options, argc, argv, types);
	if (options.background)
		process_background();
	r = log_open(options.log, &reason);
	if (r < 0) {
		fprintf(stderr, "tapdisk: %s\n", reason_text(&reason, r));
		return EXIT_START;
	}
	log_set_level(options.log_level);
	r = daemon_run(&options, types, frontends);
	log_close();
	return r;
}
