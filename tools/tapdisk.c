/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tapdisk - the daemon's main: the tables of everything that is built in.
 *
 * To read these tables is to read what the program can do.  The core searches
 * types from the first row on; out-of-tree drivers come first, so that one with
 * a built-in's name replaces it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/image.h"
#include "core/log.h"
#include "core/reason.h"
#include "tools/tapdisk/daemon.h"
#include "tools/tapdisk/frontend.h"
#include "tools/tapdisk/options.h"
#include "tools/tapdisk/process.h"

static const struct driver_type types[] = {
	{ NULL, -1, NULL, NULL },
};

static const struct frontend frontends[] = {
	{ .name = NULL },
};

int
main(int argc, char **argv)
{
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
