/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state - durable states of a replica for tests: one that a number tells from
 * any other.
 */
#ifndef TESTS_STATE_H
#define TESTS_STATE_H

#include "replication/metadata.h"

#define STATE_EPOCHS 1000000ull /* epoch = 1 + number * STATE_EPOCHS */

void state_fill(struct metadata_state *state, uint64_t number);
void state_assert_same(const struct metadata_state *a,
		       const struct metadata_state *b);

#endif
