/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pair.c - see pair.h.
 */
#include "tools/common/pair.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/reason.h"
#include "replication/link.h"

static_assert(PAIR_ADDRESSES_MAX == LINK_ADDRESSES_MAX,
	      "an address that cannot be taken would be refused late");

#define TIME_MAX_MS (24ul * 3600 * 1000)

static int
refuse(const struct daemon_option *option, const char *text, const char *why,
       struct reason *reason)
{
	return reason_set(reason, -EINVAL, "--%s %.200s: %s", option->name,
			  text, why);
}

/* One of the words in the table's "a|b|c". */
static int
take_word(const char **ret_word, const struct daemon_option *option,
	  const char *text, struct reason *reason)
{
	size_t length = strlen(text);
	const char *word = option->argument;

	while (word) {
		if (strcspn(word, "|") == length &&
		    strncmp(word, text, length) == 0) {
			*ret_word = text;
			return 0;
		}
		word = strchr(word, '|');
		word = word ? word + 1 : NULL;
	}
	return reason_set(reason, -EINVAL, "--%s %.200s: must be one of %s",
			  option->name, text, option->argument);
}

/* The stack's name gives both characters a meaning. */
static int
take_text(const char **ret_text, const struct daemon_option *option,
	  const char *text, struct reason *reason)
{
	if (!*text || strpbrk(text, ",|"))
		return refuse(option, text,
			      "must be without ',' and '|', and not empty",
			      reason);
	*ret_text = text;
	return 0;
}

static int
take_url(const char **list, int *count, const struct daemon_option *option,
	 const char *text, struct reason *reason)
{
	const char *scheme_end = strstr(text, "://");

	if (!scheme_end || scheme_end == text || !scheme_end[3])
		return refuse(option, text,
			      "write rdma://HOST:PORT or tcp://HOST:PORT",
			      reason);
	if (*count == PAIR_ADDRESSES_MAX)
		return refuse(option, text, "too many addresses", reason);
	return take_text(&list[(*count)++], option, text, reason);
}

/* With its unit: a bare number is as easily meant as the one as the other. */
static int
take_time(unsigned int *ret_ms, const struct daemon_option *option,
	  const char *text, struct reason *reason)
{
	unsigned long number;
	char *end;

	errno = 0;
	number = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || errno != 0 || number > TIME_MAX_MS ||
	    (strcmp(end, "ms") != 0 && strcmp(end, "s") != 0))
		return refuse(option, text, "write a time like 500ms or 5s",
			      reason);
	if (strcmp(end, "s") == 0)
		number *= 1000;
	if (number == 0 || number > TIME_MAX_MS)
		return refuse(option, text, "must be from 1ms to 86400s",
			      reason);
	*ret_ms = (unsigned int)number;
	return 0;
}

int
pair_take(struct pair *pair, const struct daemon_option *option,
	  const char *text, struct reason *reason)
{
	switch ((int)option->id) {
	case DAEMON_OPTION_ROLE:
		return take_word(&pair->role, option, text, reason);
	case DAEMON_OPTION_LISTEN:
		return take_url(pair->listen, &pair->listen_count, option, text,
				reason);
	case DAEMON_OPTION_PEER:
		return take_url(pair->peer, &pair->peer_count, option, text,
				reason);
	case DAEMON_OPTION_ACK:
		return take_word(&pair->ack, option, text, reason);
	case DAEMON_OPTION_ON_PEER_LOSS:
		return take_word(&pair->on_peer_loss, option, text, reason);
	case DAEMON_OPTION_KEY:
		return take_text(&pair->key, option, text, reason);
	case DAEMON_OPTION_RDMA_MAC:
		return take_word(&pair->rdma_mac, option, text, reason);
	case DAEMON_OPTION_META:
		return take_text(&pair->meta, option, text, reason);
	case DAEMON_OPTION_GRACE:
		return take_time(&pair->grace_ms, option, text, reason);
	case DAEMON_OPTION_DEAD:
		return take_time(&pair->dead_ms, option, text, reason);
	case DAEMON_OPTION_PING:
		return take_time(&pair->ping_ms, option, text, reason);
	case DAEMON_OPTION_DIGEST:
		pair->digest = true;
		return 0;
	case DAEMON_OPTION_RESYNC_LATENCY:
		return take_time(&pair->resync_latency_ms, option, text,
				 reason);
	case DAEMON_OPTION_TRACK:
		pair->track = true;
		return 0;
	case DAEMON_OPTION_INSECURE_NETWORK:
		pair->insecure_network = true;
		return 0;
	default:
		return reason_set(reason, -EINVAL, "--%s is no word of a pair",
				  option->name);
	}
}

/* What makes it one of two replicas. */
static bool
is_replica(const struct pair *pair)
{
	return pair->role || pair->listen_count > 0 || pair->peer_count > 0 ||
	       pair->ack || pair->on_peer_loss || pair->key || pair->rdma_mac ||
	       pair->grace_ms || pair->dead_ms || pair->ping_ms ||
	       pair->resync_latency_ms || pair->digest ||
	       pair->insecure_network;
}

bool
pair_is_given(const struct pair *pair)
{
	return is_replica(pair) || pair->meta || pair->track;
}

int
pair_check(const struct pair *pair, struct reason *reason)
{
	if (!pair_is_given(pair) || (pair->track && !is_replica(pair)))
		return 0;
	if (!pair->role)
		return reason_set(reason, -EINVAL,
				  "a replica needs --role primary or --role "
				  "secondary");
	if (strcmp(pair->role, "primary") == 0 && pair->peer_count == 0)
		return reason_set(reason, -EINVAL,
				  "--role primary needs --peer URL, the "
				  "address of the secondary");
	if (strcmp(pair->role, "secondary") == 0 && pair->listen_count == 0)
		return reason_set(reason, -EINVAL,
				  "--role secondary needs --listen URL, where "
				  "the primary calls");
	return 0;
}

/* --- the name of the stack --- */

/* The part of a stack's name that begins so; NULL without. */
static const char *
find_head(const char *image, const char *head)
{
	const char *part = image;

	while (part && strncmp(part, head, strlen(head)) != 0) {
		part = strchr(part, '|');
		part = part ? part + 1 : NULL;
	}
	return part;
}

static const char *
find_part(const char *image)
{
	return find_head(image, PAIR_TYPE ":");
}

bool
pair_is_in(const char *image)
{
	return find_part(image) != NULL;
}

/* Text that grows; `left` is 0 once something did not fit. */
struct text {
	char *end;
	size_t left;
};

static void add(struct text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void
add(struct text *text, const char *format, ...)
{
	va_list list;
	int length;

	va_start(list, format);
	length = vsnprintf(text->end, text->left, format, list);
	va_end(list);
	if (length < 0 || (size_t)length >= text->left) {
		text->left = 0;
		return;
	}
	text->end += length;
	text->left -= (size_t)length;
}

static void
add_word(struct text *text, const char *key, const char *value)
{
	if (value)
		add(text, ",%s=%s", key, value);
}

static void
add_ms(struct text *text, const char *key, unsigned int ms)
{
	if (ms > 0)
		add(text, ",%s-ms=%u", key, ms);
}

static void
add_options(struct text *text, const struct pair *pair)
{
	int i;

	for (i = 0; i < pair->listen_count; i++)
		add_word(text, "listen", pair->listen[i]);
	for (i = 0; i < pair->peer_count; i++)
		add_word(text, "peer", pair->peer[i]);
	add_word(text, "ack", pair->ack);
	add_word(text, "on-peer-loss", pair->on_peer_loss);
	add_word(text, "key", pair->key);
	add_word(text, "rdma-mac", pair->rdma_mac);
	add_word(text, "meta", pair->meta);
	add_ms(text, "grace", pair->grace_ms);
	add_ms(text, "dead", pair->dead_ms);
	add_ms(text, "ping", pair->ping_ms);
	add_ms(text, "resync-latency", pair->resync_latency_ms);
	if (pair->digest)
		add(text, ",digest");
	if (pair->insecure_network)
		add(text, ",insecure-network");
}

static int
finish(const struct text *text, struct reason *reason)
{
	if (text->left > 0)
		return 0;
	return reason_set(reason, -ENAMETOOLONG,
			  "the name of the image, with the words of the pair, "
			  "is too long");
}

int
pair_compose(const struct pair *pair, const char *disk, const char *image,
	     char *text, size_t size, struct reason *reason)
{
	struct text out = { text, size };
	int r;

	if (!pair_is_given(pair)) {
		add(&out, "%s", image);
		return finish(&out, reason);
	}
	r = pair_check(pair, reason);
	if (r < 0)
		return r;
	if (pair_is_in(image))
		return reason_set(reason, -EINVAL,
				  "the image %.200s is a replica by its name; "
				  "leave out --role and what goes with it",
				  image);
	if (!is_replica(pair)) {
		add(&out, PAIR_TRACK_TYPE ":%s%s|%s", pair->meta ? "meta=" : "",
		    pair->meta ? pair->meta : "", image);
		return finish(&out, reason);
	}
	add(&out, PAIR_TYPE ":role=%s", pair->role);
	add_options(&out, pair);
	add(&out, ",name=%s|%s", disk, image);
	return finish(&out, reason);
}

/* The options of a replica, up to `end`, with another role. */
static void
add_with_role(struct text *text, const char *part, const char *end,
	      const char *role)
{
	const char *option = part + strlen(PAIR_TYPE ":"), *next;
	bool first = true;

	add(text, PAIR_TYPE ":");
	while (option < end) {
		next = option + strcspn(option, ",|");
		add(text, "%s", first ? "" : ",");
		if (strncmp(option, "role=", 5) == 0)
			add(text, "role=%s", role);
		else
			add(text, "%.*s", (int)(next - option), option);
		first = false;
		option = next + 1;
	}
}

int
pair_keep(const char *current, const char *role, const char *image, char *text,
	  size_t size, struct reason *reason)
{
	struct text out = { text, size };
	const char *part = find_part(current), *end;

	if (!part && (!image || !find_head(image, PAIR_TRACK_TYPE ":"))) {
		part = find_head(current, PAIR_TRACK_TYPE ":");
		role = NULL;
	}
	if (!part || (image && pair_is_in(image))) {
		add(&out, "%s", image ? image : current);
		return finish(&out, reason);
	}
	end = part + strcspn(part, "|");
	add(&out, "%.*s", (int)(part - current), current);
	if (role)
		add_with_role(&out, part, end, role);
	else
		add(&out, "%.*s", (int)(end - part), part);
	if (image)
		add(&out, "|%s", image);
	else
		add(&out, "%s", end);
	return finish(&out, reason);
}
