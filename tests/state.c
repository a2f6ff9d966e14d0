/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state - see state.h.
 */
#include "tests/state.h"

#include <stdio.h>
#include <string.h>

#include "tests/test.h"

static void
fill_map(struct metadata_state *state, uint64_t number)
{
	state->map = (struct metadata_map){
		.id = number,
		.region = 64u << 10,
		.extent = 4u << 20,
		.capacity = 2048,
		.unknown_epoch = number,
		.wide_epoch = number - 1,
		.image_size = number * 512,
		.image_time_ns = number << 40,
	};
	for (uint64_t i = 0; i < number * 20 && i < METADATA_CHECKPOINTS; i++) {
		struct metadata_checkpoint *row =
			&state->checkpoint[state->checkpoints++];

		snprintf(row->name, sizeof(row->name), "day-%d", (int)i);
		row->timeline = number;
		row->epoch = i;
		row->confirmed = i % 2;
	}
}

/* A state that the number tells from any other. */
void
state_fill(struct metadata_state *state, uint64_t number)
{
	memset(state, 0, sizeof(*state));
	memset(state->disk_id, 0xd1, METADATA_ID);
	memset(state->replica_id, 0xa1, METADATA_ID);
	state->role = number % 2 ? METADATA_PRIMARY : METADATA_SECONDARY;
	state->size = 64ull << 20;
	state->sector_size = number % 3 ? 512 : 4096;
	state->incarnation = number * 3;
	state->active = number & 1;
	state->consistent = number & 2;
	state->outdated = number & 4;
	state->primary_last = number & 8;
	for (unsigned int i = 0; i < METADATA_PEERS && i < number; i++) {
		memset(state->peer[i].replica_id, (int)(0x10 + i), METADATA_ID);
		state->peer[i].incarnation = number * 100 + i;
		state->peer[i].met = number * 7 + i;
		state->peer[i].stood = number * 5 + i;
		state->peer[i].may_be_synced = (number >> i) & 1;
	}
	for (uint64_t i = 0; i < number * 7; i++)
		history_append(&state->history, 0x7000 + i * 3, 1 + i * 2,
			       i % 5 == 0 ? HISTORY_FORCED : 0);
	if (number == 0)
		history_append(&state->history, 0x6fff, 1, 0);
	state->epoch = 1 + number * STATE_EPOCHS;
	if (number % 4 == 2)
		fill_map(state, number);
}

void
state_assert_same(const struct metadata_state *a,
		  const struct metadata_state *b)
{
	assert_memory_equal(a->disk_id, b->disk_id, METADATA_ID);
	assert_memory_equal(a->replica_id, b->replica_id, METADATA_ID);
	assert_int_equal(a->role, b->role);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->sector_size, b->sector_size);
	assert_int_equal(a->epoch, b->epoch);
	assert_int_equal(a->incarnation, b->incarnation);
	assert_int_equal(a->active, b->active);
	assert_int_equal(a->consistent, b->consistent);
	assert_int_equal(a->outdated, b->outdated);
	assert_int_equal(a->primary_last, b->primary_last);
	for (int i = 0; i < METADATA_PEERS; i++) {
		assert_memory_equal(a->peer[i].replica_id,
				    b->peer[i].replica_id, METADATA_ID);
		assert_int_equal(a->peer[i].incarnation,
				 b->peer[i].incarnation);
		assert_int_equal(a->peer[i].met, b->peer[i].met);
		assert_int_equal(a->peer[i].stood, b->peer[i].stood);
		assert_int_equal(a->peer[i].may_be_synced,
				 b->peer[i].may_be_synced);
	}
	assert_memory_equal(&a->map, &b->map, sizeof(a->map));
	assert_int_equal(a->checkpoints, b->checkpoints);
	for (unsigned int i = 0; i < a->checkpoints; i++) {
		const struct metadata_checkpoint *row = &b->checkpoint[i];

		assert_string_equal(a->checkpoint[i].name, row->name);
		assert_int_equal(a->checkpoint[i].timeline, row->timeline);
		assert_int_equal(a->checkpoint[i].epoch, row->epoch);
		assert_int_equal(a->checkpoint[i].confirmed, row->confirmed);
	}
	assert_true(history_equal(&a->history, &b->history));
	for (uint32_t i = 0; i < a->history.count; i++)
		assert_int_equal(a->history.entry[i].flags,
				 b->history.entry[i].flags);
}
