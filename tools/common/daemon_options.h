/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon_options - the options of tapdisk, as one table: its grammar and its
 * help text.  tap-ctl spawn and create take the same words and pass them on.
 */
#ifndef TOOLS_COMMON_DAEMON_OPTIONS_H
#define TOOLS_COMMON_DAEMON_OPTIONS_H

#include <stdbool.h>

enum daemon_option_id {
	DAEMON_OPTION_NAME = 256, /* above all letters */
	DAEMON_OPTION_READ_ONLY,
	DAEMON_OPTION_NO_DIRECT,
	DAEMON_OPTION_NBD,
	DAEMON_OPTION_NBD_EXPORT,
	DAEMON_OPTION_TLS,
	DAEMON_OPTION_TLS_CERTIFICATES,
	DAEMON_OPTION_TLS_PSK,
	DAEMON_OPTION_TLS_VERIFY_PEER,
	DAEMON_OPTION_ROLE,
	DAEMON_OPTION_LISTEN,
	DAEMON_OPTION_PEER,
	DAEMON_OPTION_ACK,
	DAEMON_OPTION_ON_PEER_LOSS,
	DAEMON_OPTION_KEY,
	DAEMON_OPTION_RDMA_MAC,
	DAEMON_OPTION_META,
	DAEMON_OPTION_GRACE,
	DAEMON_OPTION_DEAD,
	DAEMON_OPTION_PING,
	DAEMON_OPTION_DIGEST,
	DAEMON_OPTION_RESYNC_LATENCY,
	DAEMON_OPTION_INSECURE_NETWORK,
	DAEMON_OPTION_TRACK,
	DAEMON_OPTION_IO,
	DAEMON_OPTION_REQUEST_TIMEOUT,
	DAEMON_OPTION_POOL_SIZE,
	DAEMON_OPTION_BUSY_POLL,
	DAEMON_OPTION_RUN_DIR,
	DAEMON_OPTION_GROUP,
	DAEMON_OPTION_LOG,
	DAEMON_OPTION_LOG_LEVEL,
	DAEMON_OPTION_DAEMON,
	DAEMON_OPTION_PID_FILE,
	DAEMON_OPTION_STOP_TIMEOUT,
	DAEMON_OPTION_VERSION,
	DAEMON_OPTION_HELP,
};

/* Who takes an option besides tapdisk. */
enum daemon_option_use {
	DAEMON_OPTION_ALONE, /* nobody */
	DAEMON_OPTION_SPAWN, /* tap-ctl spawn and create */
	DAEMON_OPTION_PAIR,  /* these and open: a word of tools/common/pair.h */
};

struct daemon_option {
	enum daemon_option_id id;
	enum daemon_option_use use;
	const char *name;
	const char *argument; /* NULL: takes none */
	const char *help;     /* further lines stand behind '\n' */
};

#define DAEMON_OPTIONS 37

extern const struct daemon_option daemon_options[DAEMON_OPTIONS];

const struct daemon_option *daemon_option_of(enum daemon_option_id id);

/* One option of a help text: `head` ("--nbd ADDRESS") and its lines. */
void option_print_text(const char *head, const char *help);
void option_print(const struct daemon_option *option);

#endif
