/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon_options.c - see daemon_options.h.
 */
#include "tools/common/daemon_options.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

const struct daemon_option daemon_options[DAEMON_OPTIONS] = {
	{ DAEMON_OPTION_NAME, DAEMON_OPTION_ALONE, "name", "NAME",
	  "name of the disk, in logs and for tap-ctl" },
	{ DAEMON_OPTION_READ_ONLY, DAEMON_OPTION_ALONE, "read-only", NULL,
	  "let nobody write" },
	{ DAEMON_OPTION_NO_DIRECT, DAEMON_OPTION_ALONE, "no-direct", NULL,
	  "reach files and devices by way of the page cache" },
	{ DAEMON_OPTION_NBD, DAEMON_OPTION_SPAWN, "nbd", "ADDRESS",
	  "serve NBD at unix:PATH, tcp:HOST:PORT or\n"
	  "tcp:[IPV6]:PORT; may be given several times" },
	{ DAEMON_OPTION_NBD_EXPORT, DAEMON_OPTION_SPAWN, "nbd-export", "NAME",
	  "name of the export (the disk's name)" },
	{ DAEMON_OPTION_TLS, DAEMON_OPTION_SPAWN, "tls", "off|on|require",
	  "refuse, allow or demand TLS of NBD clients" },
	{ DAEMON_OPTION_TLS_CERTIFICATES, DAEMON_OPTION_SPAWN,
	  "tls-certificates", "DIR",
	  "ca-cert.pem, server-cert.pem, server-key.pem" },
	{ DAEMON_OPTION_TLS_PSK, DAEMON_OPTION_SPAWN, "tls-psk", "FILE",
	  "lines of USER:HEXKEY, as psktool writes them" },
	{ DAEMON_OPTION_TLS_VERIFY_PEER, DAEMON_OPTION_SPAWN, "tls-verify-peer",
	  NULL, "clients must have a certificate of our CA" },
	{ DAEMON_OPTION_ROLE, DAEMON_OPTION_PAIR, "role", "primary|secondary",
	  "one of two replicas: the one that serves guests, or\n"
	  "its copy" },
	{ DAEMON_OPTION_LISTEN, DAEMON_OPTION_PAIR, "listen", "URL",
	  "where the peer may call: rdma://HOST:PORT or\n"
	  "tcp://HOST:PORT; may be given several times" },
	{ DAEMON_OPTION_PEER, DAEMON_OPTION_PAIR, "peer", "URL",
	  "where the peer is; several times, the best first" },
	{ DAEMON_OPTION_ACK, DAEMON_OPTION_PAIR, "ack",
	  "received|written|durable",
	  "how far a write has come at the peer when the guest\n"
	  "hears of it (written)" },
	{ DAEMON_OPTION_ON_PEER_LOSS, DAEMON_OPTION_PAIR, "on-peer-loss",
	  "continue|freeze",
	  "go on alone without the peer, or hold the guest's\n"
	  "requests (continue)" },
	{ DAEMON_OPTION_KEY, DAEMON_OPTION_PAIR, "key", "FILE",
	  "the key that both replicas share" },
	{ DAEMON_OPTION_RDMA_MAC, DAEMON_OPTION_PAIR, "rdma-mac", "on|off",
	  "with --key: a proof of it in each message over RDMA\n"
	  "(on)" },
	{ DAEMON_OPTION_META, DAEMON_OPTION_PAIR, "meta", "FILE",
	  "the replica's metadata (the image's path and .meta)" },
	{ DAEMON_OPTION_GRACE, DAEMON_OPTION_PAIR, "grace", "TIME",
	  "a connection that is back within TIME costs no copy\n"
	  "(10s)" },
	{ DAEMON_OPTION_DEAD, DAEMON_OPTION_PAIR, "dead", "TIME",
	  "a connection that is silent for TIME is broken (5s)" },
	{ DAEMON_OPTION_PING, DAEMON_OPTION_PAIR, "ping", "TIME",
	  "ask an idle peer every TIME whether it is alive (1s)" },
	{ DAEMON_OPTION_DIGEST, DAEMON_OPTION_PAIR, "digest", NULL,
	  "a resync skips what is equal by SHA-256 on both hosts" },
	{ DAEMON_OPTION_RESYNC_LATENCY, DAEMON_OPTION_PAIR, "resync-latency",
	  "TIME",
	  "a resync goes as fast as lets nine of ten of the\n"
	  "guest's requests end within TIME (as fast as it can)" },
	{ DAEMON_OPTION_INSECURE_NETWORK, DAEMON_OPTION_PAIR,
	  "insecure-network", NULL,
	  "without --key, replicate beyond this host even so" },
	{ DAEMON_OPTION_TRACK, DAEMON_OPTION_PAIR, "track", NULL,
	  "note what is changed, for checkpoints and backups, also\n"
	  "without a peer" },
	{ DAEMON_OPTION_IO, DAEMON_OPTION_SPAWN, "io", "libaio|io_uring",
	  "how to do disk I/O (the first that works)" },
	{ DAEMON_OPTION_REQUEST_TIMEOUT, DAEMON_OPTION_SPAWN, "request-timeout",
	  "S", "a request fails after S seconds (120)" },
	{ DAEMON_OPTION_POOL_SIZE, DAEMON_OPTION_SPAWN, "pool-size", "SIZE",
	  "memory for data under way (64M)" },
	{ DAEMON_OPTION_BUSY_POLL, DAEMON_OPTION_SPAWN, "busy-poll", "US",
	  "poll up to US microseconds before sleeping (100; with one\n"
	  "processor 0)" },
	{ DAEMON_OPTION_RUN_DIR, DAEMON_OPTION_ALONE, "run-dir", "DIR",
	  "where sockets are\n"
	  "($TAPDISK_RUN_DIR, or /run/tapdisk)" },
	{ DAEMON_OPTION_GROUP, DAEMON_OPTION_SPAWN, "group", "GROUP",
	  "let this group use the sockets, too" },
	{ DAEMON_OPTION_LOG, DAEMON_OPTION_SPAWN, "log",
	  "stderr|syslog|file:PATH",
	  "where messages go (stderr; syslog with --daemon)" },
	{ DAEMON_OPTION_LOG_LEVEL, DAEMON_OPTION_SPAWN, "log-level", "LEVEL",
	  "error, warning, info or debug (info)" },
	{ DAEMON_OPTION_DAEMON, DAEMON_OPTION_ALONE, "daemon", NULL,
	  "go to the background once the disk is served, and\n"
	  "print the process id" },
	{ DAEMON_OPTION_PID_FILE, DAEMON_OPTION_ALONE, "pid-file", "PATH",
	  "write the process id once the disk is served" },
	{ DAEMON_OPTION_STOP_TIMEOUT, DAEMON_OPTION_SPAWN, "stop-timeout", "S",
	  "when told to stop, end within S seconds (30)" },
	{ DAEMON_OPTION_VERSION, DAEMON_OPTION_ALONE, "version", NULL,
	  "print the version" },
	{ DAEMON_OPTION_HELP, DAEMON_OPTION_ALONE, "help", NULL,
	  "print this text" },
};

const struct daemon_option *
daemon_option_of(enum daemon_option_id id)
{
	const struct daemon_option *option =
		&daemon_options[id - daemon_options[0].id];

	assert(option->id == id);
	return option;
}

#define HEAD_WIDTH 27

void
option_print_text(const char *head, const char *help)
{
	const char *line = help, *end;

	printf("  %-*s", HEAD_WIDTH - 2, head);
	if (strlen(head) > HEAD_WIDTH - 2)
		printf("\n%*s", HEAD_WIDTH, "");
	while ((end = strchr(line, '\n'))) {
		printf(" %.*s\n%*s", (int)(end - line), line, HEAD_WIDTH, "");
		line = end + 1;
	}
	printf(" %s\n", line);
}

void
option_print(const struct daemon_option *option)
{
	char head[64];

	snprintf(head, sizeof(head), "--%s%s%s", option->name,
		 option->argument ? " " : "",
		 option->argument ? option->argument : "");
	option_print_text(head, option->help);
}
