/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * options - the daemon's command line.
 *
 * One table is the grammar, the help text and what tests compare the manual
 * page with.
 */
#ifndef TOOLS_TAPDISK_OPTIONS_H
#define TOOLS_TAPDISK_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/tapdisk.h"
#include "tools/common/pair.h"

struct driver_type;

#define OPTIONS_ADDRESSES_MAX 8

enum options_tls {
	OPTIONS_TLS_OFF,
	OPTIONS_TLS_ON, /* a client may use it */
	OPTIONS_TLS_REQUIRE,
};

/* All strings are borrowed from argv or are literals. */
struct options {
	const char *image; /* NULL: wait for tap-ctl */
	const char *name;  /* NULL: "tapdiskPID" */
	const char *nbd[OPTIONS_ADDRESSES_MAX];
	int nbd_count;
	const char *nbd_export; /* NULL: the disk's name */
	bool read_only;
	bool no_direct;
	struct pair pair;
	enum options_tls tls;
	const char *tls_certificates;
	const char *tls_psk;
	bool tls_verify_peer;
	const char *io; /* NULL: the first that works */
	const char *run_dir;
	int group; /* -1: only our user */
	const char *log;
	int log_level;
	unsigned int timeout_s; /* 0: the vbd's own */
	unsigned int stop_timeout_s;
	uint64_t pool_bytes;
	uint64_t busy_poll_us;
	bool background;
	const char *pid_file;
};

/* Fills *options, or prints help, a version or a sentence and exits.  `types`
 * is for the help text. */
void options_parse(struct options *options, int argc, char **argv,
		   const struct driver_type *types);

/* TD_OPEN_*, as an image is opened. */
td_flag_t options_open_flags(bool read_only, bool no_direct);

/* LOG_ERR for "error" ...; -EINVAL for another word. */
int options_log_level(const char *word);

#endif
