/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_transport - connections inside a test, over a simulated loop: whole
 * messages, in order, that can be held back, cut off, damaged and recorded.
 *
 * There is one network in a process; an address is any word.
 */
#ifndef TESTS_FAKE_TRANSPORT_H
#define TESTS_FAKE_TRANSPORT_H

#include "replication/transport.h"

#define FAKE_TAPE_MAX (1u << 20)

struct fake_network {
	bool hold; /* nothing arrives, nobody notices */
	bool down; /* who connects is told that nobody is there */
	/* Addresses for which that is so, and for which nothing ever comes of
	 * a connect; NULL: none. */
	const char *down_address, *dead_address;
	bool damage; /* the next payload arrives with a wrong byte */
	int cut_in;  /* everything is cut after so many messages; 0: never */
	unsigned int channels; /* that are open */

	/* What callers sent, since last emptied. */
	unsigned char tape[FAKE_TAPE_MAX];
	size_t tape_length;
	struct list_head acceptors, ends;
};

extern struct fake_network fake_network;
extern const struct transport transport_fake; /* "fake://word" */

void fake_network_open(void);
/* All connections break, at both ends; what was under way is lost. */
void fake_network_cut(void);
void fake_network_hold(bool hold);
/* The same, of connections to one address. */
void fake_network_cut_address(const char *address);
/* Connections to one address that are open, both ends counted. */
unsigned int fake_network_open_to(const char *address);

#endif
