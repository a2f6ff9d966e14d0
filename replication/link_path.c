/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * link_path - which of the peer's addresses to call, and when.
 *
 * A path is one of the addresses, in order of preference; see link.h.
 *
 * L1  Without a connection each path is called in turn, the best first.  One
 *     that does not answer at once does not hold up the next: after STAGGER_MS
 *     that is called, too.  The first to prove itself is used, and what else
 *     is being called is given up.
 * L2  With a session over a path that is not the best, the better ones are
 *     called again and again, and one that answers goes on with the session:
 *     what is not acknowledged is replayed, nothing is copied.
 * L3  A path that broke soon after it was taken is left for a worse one, and
 *     tried again later each time, up to PROBE_MAX waits, so that a path that
 *     comes and goes does not cost a pause each time.
 *
 * Only who calls decides; who is called follows.
 */
#include <assert.h>
#include <jansson.h>
#include <string.h>

#include "core/log.h"
#include "replication/link_private.h"

#define STAGGER_MS  500
#define PROBE_WAITS 10 /* times the time between attempts */
#define PROBE_MAX   16 /* times that, at most */
#define STEADY	    6  /* times that is a path in use to be trusted again */

static uint64_t
now_of(const struct link *link)
{
	return loop_now(link->options.context.loop);
}

static uint64_t
probe_wait(const struct link *link)
{
	return NS_PER_MS * PROBE_WAITS * link->options.connect_ms;
}

static unsigned int
path_count(const struct link *link)
{
	unsigned int count = 0;

	while (link->options.peers[count] != NULL)
		count++;
	return count;
}

/* The path that a connection takes; of one that we were called by, the best
 * that has its transport. */
static unsigned int
path_of(const struct link_connection *connection)
{
	const char *const *peers = connection->link->options.peers;
	const char *scheme = connection->channel->transport->scheme;
	size_t length = strlen(scheme);

	if (connection->caller)
		return connection->path;
	for (unsigned int i = 0; peers[i] != NULL; i++) {
		if (strncmp(peers[i], scheme, length) == 0 &&
		    peers[i][length] == ':')
			return i;
	}
	return 0;
}

/* --- calling --- */

/* After what failed: the next path at once, all anew after a while. */
static void
call_next(struct link *link)
{
	link->next_call_ns = now_of(link);
	if (link->next_path == 0)
		link->next_call_ns += link->options.connect_ms * NS_PER_MS;
}

static void
call(struct link *link, unsigned int path)
{
	const char *url = link->options.peers[path], *address;
	const struct transport *transport;
	struct link_connection *connection;
	struct reason reason = { "" };

	connection = link_connection_take(link, true);
	if (connection == NULL)
		return;
	connection->path = path;
	transport = transport_find(link->options.transports, url, &address,
				   &reason);
	assert(transport != NULL); /* link_new() has looked */
	connection->channel =
		transport->connect(&link->options.context, address,
				   &link_channel_events, connection, &reason);
	if (connection->channel == NULL) {
		connection->state = CONNECTION_FREE;
		link->path_why[path] = reason;
		call_next(link);
		log_debug("link", "%s", reason.text);
	}
}

/* Whether a call is under way: to this path, or younger than `age_ns`. */
static bool
is_calling(const struct link *link, unsigned int path, uint64_t age_ns)
{
	for (int i = 0; i < LINK_CONNECTIONS_MAX; i++) {
		const struct link_connection *connection =
			&link->connections[i];

		if (connection->caller &&
		    connection->state != CONNECTION_FREE &&
		    connection != link->connection &&
		    (connection->path == path ||
		     now_of(link) - connection->begun_ns < age_ns))
			return true;
	}
	return false;
}

/* L1 */
static void
call_anew(struct link *link, uint64_t now)
{
	unsigned int path = link->next_path;

	if (now < link->next_call_ns ||
	    is_calling(link, path, STAGGER_MS * NS_PER_MS))
		return;
	link->next_path = (path + 1) % path_count(link);
	link->next_call_ns = 0;
	if (link->next_path == 0)
		link->next_call_ns = now + link->options.connect_ms * NS_PER_MS;
	call(link, path);
}

/* L2 */
static void
call_better(struct link *link, uint64_t now)
{
	unsigned int best = path_of(link->connection);

	if (best == 0 || now < link->next_probe_ns ||
	    link->connection->state != CONNECTION_READY)
		return;
	link->next_probe_ns = now + link->probe_wait_ns;
	link->next_probe %= best;
	if (!is_calling(link, link->next_probe, 0))
		call(link, link->next_probe++);
}

void
link_path_tick(struct link *link, uint64_t now)
{
	if (!link->calling || link->options.peers[0] == NULL)
		return;
	if (link->connection == NULL)
		call_anew(link, now);
	else if (link->state == LINK_UP)
		call_better(link, now);
}

/* --- what became of it --- */

void
link_path_failed(const struct link_connection *connection,
		 const struct reason *reason)
{
	struct link *link = connection->link;

	if (link->options.peers[0] == NULL || connection->channel == NULL)
		return;
	link->path_why[path_of(connection)] = *reason;
	if (connection->caller && link->connection == NULL) {
		link->next_path = (connection->path + 1) % path_count(link);
		call_next(link);
	}
}

/* L3 */
void
link_path_broke(const struct link_connection *connection)
{
	struct link *link = connection->link;
	uint64_t steady = STEADY * probe_wait(link);
	bool soon = now_of(link) - link->path_since_ns < steady;

	unsigned int path;

	link->next_path = 0;
	if (link->options.peers[0] == NULL)
		return;
	path = path_of(connection);
	if (path + 1 == path_count(link))
		return; /* there is no worse one to stay on */
	if (!soon) {
		link->probe_wait_ns = probe_wait(link);
		return;
	}
	link->next_path = path + 1;
	if (link->probe_wait_ns < PROBE_MAX * probe_wait(link))
		link->probe_wait_ns *= 2;
}

void
link_path_taken(struct link_connection *connection)
{
	struct link *link = connection->link;
	uint64_t now = now_of(link);

	for (int i = 0; i < LINK_CONNECTIONS_MAX; i++) {
		struct link_connection *other = &link->connections[i];

		if (other != connection && other->caller &&
		    other->state != CONNECTION_ENDING)
			link_connection_close(other);
	}
	link->next_path = 0;
	link->path_since_ns = now;
	if (link->probe_wait_ns == 0)
		link->probe_wait_ns = probe_wait(link);
	link->next_probe_ns = now + link->probe_wait_ns;
	if (link->options.peers[0] != NULL)
		link->path_why[path_of(connection)] = (struct reason){ "" };
}

/* --- for people --- */

json_t *
link_path_json(const struct link *link)
{
	const struct link_connection *connection = link->connection;
	bool any = connection != NULL && connection->channel != NULL;
	unsigned int taken = any ? path_of(connection) : 0;
	json_t *list = json_array();

	for (unsigned int i = 0; link->options.peers[i] != NULL; i++)
		(void)json_array_append_new(
			list, json_pack("{s:s, s:b, s:s}", "address",
					link->options.peers[i], "in_use",
					any && i == taken, "why",
					link->path_why[i].text));
	return list;
}

/* A reason begins with the address that it is about. */
static const char *
without_address(const char *why, const char *address)
{
	size_t length = strlen(address);

	return strncmp(why, address, length) == 0 &&
			       strncmp(why + length, ": ", 2) == 0
		       ? why + length + 2
		       : why;
}

void
link_path_explain(const struct link *link, struct reason *ret_why)
{
	const struct link_connection *connection = link->connection;

	*ret_why = (struct reason){ "" };
	if (connection == NULL || connection->channel == NULL)
		return;
	for (unsigned int i = 0;
	     i < path_of(connection) && link->options.peers[i] != NULL; i++) {
		if (link->path_why[i].text[0] == '\0')
			continue;
		(void)reason_set(ret_why, 0, "%s is better, but: %.400s",
				 link->options.peers[i],
				 without_address(link->path_why[i].text,
						 link->options.peers[i]));
		return;
	}
}
