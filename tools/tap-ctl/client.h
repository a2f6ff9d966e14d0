/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client - a connection to a daemon's control socket (core/control.h), for
 * programs that wait for each answer.
 */
#ifndef TOOLS_TAP_CTL_CLIENT_H
#define TOOLS_TAP_CTL_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

struct client;
struct reason;

/* Seconds that an answer to a mere question may take. */
#define CLIENT_QUICK_S 10

/* -ENOENT: there is no such daemon (the socket of a dead one is removed). */
int client_open(struct client **ret_client, const char *run_dir, pid_t pid,
		struct reason *reason);
void client_free(struct client *client);

/* One command and its answer; takes `arguments` (NULL: none).  At most
 * `limit_s` seconds (0: as long as it takes): -ETIMEDOUT.  -EREMOTEIO: the
 * daemon refused, `reason` has its sentence.  *ret_result is a new reference.
 */
int client_call(struct client *client, const char *command, json_t *arguments,
		unsigned int limit_s, json_t **ret_result,
		struct reason *reason);

/* From now on show on standard error each line that is said ("->") or heard. */
void client_trace(void);

/* The next line that comes, NULL at the end; for events. */
json_t *client_next(struct client *client);

/* Whether client_next() has a whole line already. */
bool client_has_line(const struct client *client);

/* Until the daemon has closed its end. */
void client_wait_end(struct client *client);

int client_fd(const struct client *client);

#endif
