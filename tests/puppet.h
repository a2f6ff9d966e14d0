/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * puppet - a peer that speaks the protocol with its own mouth and may say
 * anything, for tests of links and replicas.
 *
 * Left alone it is polite: it says hello, proves itself, answers BEGIN, and
 * acknowledges each message as done.  What it hears is kept.
 */
#ifndef TESTS_PUPPET_H
#define TESTS_PUPPET_H

#include "replication/wire.h"

struct channel;
struct loop;
struct pool;

#define PUPPET_KINDS 64
#define PUPPET_LOG   256
#define PUPPET_SIZE  (1u << 20) /* bytes, of its disk */

struct puppet {
	struct channel *channel;
	struct loop *loop;
	struct pool *pool;
	const char *key;
	struct wire_hello hello; /* that it says */
	bool silent;		 /* says none */
	bool mute;		 /* proves nothing by itself */
	bool hesitant;		 /* does not answer BEGIN */
	bool keep_acks;		 /* acknowledges nothing by itself */
	bool open, closed;
	unsigned char own[WIRE_HELLO_MAX], theirs[WIRE_HELLO_MAX];
	size_t own_length, theirs_length; /* of this connection's hellos */
	uint64_t session, sequence;	  /* sequence: the last it sent */

	/* heard, since puppet_forget() */
	int heard[PUPPET_KINDS]; /* by type */
	char text[WIRE_TEXT_MAX + 1];
	struct wire_hello other; /* the replica's last hello */
	struct wire_begin begin;
	struct wire_header log[PUPPET_LOG]; /* sequenced messages */
	unsigned int logged;
	struct wire_ack acks[PUPPET_LOG];
	unsigned int acked;
	struct wire_region regions[PUPPET_LOG];
	unsigned int named;
};

/* It calls `address` of the fake network. */
struct puppet *puppet_new(struct loop *loop, const char *key);
void puppet_call(struct puppet *puppet, const char *address);
void puppet_hang_up(struct puppet *puppet);
struct puppet *puppet_free(struct puppet *puppet); /* takes NULL */
void puppet_forget(struct puppet *puppet);

/* The hello that a silent puppet has kept to itself, and its proof. */
void puppet_greet(struct puppet *puppet);
/* The checksums are made right. */
void puppet_say(struct puppet *puppet, struct wire_header header,
		const void *payload, size_t length);
/* As they are. */
void puppet_say_bytes(struct puppet *puppet, const unsigned char *header,
		      const void *payload, size_t length);
/* Meets as the source: from now on in session `session`. */
void puppet_begin(struct puppet *puppet, uint64_t session);
/* The same, with a decision made by the rules from both hellos; the two flags
 * of the BEGIN are of `like`. */
void puppet_begin_fairly(struct puppet *puppet, uint64_t session,
			 const struct wire_begin *like);
/* As the target. */
void puppet_agree(struct puppet *puppet);

/* In the session; `length` of the range, `bytes` of the payload.  The sequence
 * that it got. */
uint64_t puppet_send(struct puppet *puppet, struct wire_header header,
		     const void *payload, size_t bytes);
void puppet_acknowledge(struct puppet *puppet, uint64_t sequence,
			enum wire_ack_kind kind, int status);

/* The final acknowledgement of a message it sent; NULL if there is none. */
const struct wire_ack *puppet_ack_of(const struct puppet *puppet,
				     uint64_t sequence);
/* The last message of a type that it heard; NULL if there is none. */
const struct wire_header *puppet_last(const struct puppet *puppet,
				      enum wire_type type);
/* Whether a region that it was named, or a message of `type`, touches a byte.
 */
bool puppet_was_named(const struct puppet *puppet, uint64_t offset);
bool puppet_was_sent(const struct puppet *puppet, enum wire_type type,
		     uint64_t offset);

#endif
