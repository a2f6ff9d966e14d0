/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * arbiter - see sim.h: a record far away, asked by letter.
 *
 * A letter takes its time and is lost where the arbiter is gone or its sender
 * cut off; who hears nothing for LIMIT_NS is told so, and what he asked may
 * have been done, or be done yet (AR1).  An answer to one who died, or who
 * asks no more, is nobody's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/reason.h"
#include "tests/sim/sim.h"

#define LIMIT_NS (1500 * NS_PER_MS)

enum letter_kind {
	LETTER_QUESTION,
	LETTER_ANSWER,
	LETTER_LIMIT, /* no answer came */
};

/* The replica's end. */
struct asker {
	struct arbiter arbiter;
	struct node *node;
	struct arbiter_call *call; /* under way; NULL: none */
	uint64_t number;	   /* of it */
};

struct letter {
	struct list_head entry;
	uint64_t due_ns;
	enum letter_kind kind;
	struct asker *asker; /* of a life; not looked at after that */
	struct node *node;
	uint64_t life, number;
	bool swap;
	struct arbiter_record record;
	int error;
};

static void
post(struct letter *letter, uint64_t due_ns)
{
	struct list_head *at = sim->arbiter.letters.prev;

	letter->due_ns = due_ns;
	while (at != &sim->arbiter.letters &&
	       list_entry(at, struct letter, entry)->due_ns > due_ns)
		at = at->prev;
	list_add(&letter->entry, at);
}

static struct letter *
letter_new(enum letter_kind kind, struct asker *asker)
{
	struct letter *letter = calloc(1, sizeof(*letter));

	if (letter == NULL)
		abort();
	letter->kind = kind;
	letter->asker = asker;
	letter->node = asker->node;
	letter->life = asker->node->life;
	letter->number = asker->number;
	return letter;
}

static uint64_t
delay(void)
{
	return sim->arbiter.latency_ns +
	       sim_below(STREAM_ARBITER, 3 * NS_PER_MS);
}

static bool
is_reached(const struct node *node)
{
	return !sim->arbiter.gone && !sim->arbiter.cut[node->index];
}

/* --- the replica's end --- */

static void
ask(struct arbiter *base, struct arbiter_call *call, bool swap)
{
	struct asker *asker = container_of(base, struct asker, arbiter);
	struct letter *letter;

	if (!node_acts(asker->node))
		return;
	asker->call = call;
	asker->number++;
	letter = letter_new(LETTER_QUESTION, asker);
	letter->swap = swap;
	letter->record = call->record;
	post(letter, sim->now_ns + delay());
	post(letter_new(LETTER_LIMIT, asker), sim->now_ns + LIMIT_NS);
}

static void
sim_read(struct arbiter *arbiter, struct arbiter_call *call)
{
	ask(arbiter, call, false);
}

static void
sim_swap(struct arbiter *arbiter, struct arbiter_call *call)
{
	ask(arbiter, call, true);
}

static void
sim_cancel(struct arbiter *base, struct arbiter_call *call)
{
	struct asker *asker = container_of(base, struct asker, arbiter);

	(void)call;
	asker->call = NULL;
}

static void
sim_close(struct arbiter *base)
{
	struct asker *asker = container_of(base, struct asker, arbiter);
	struct letter *letter;

	list_for_each_entry (letter, &sim->arbiter.letters, entry) {
		if (letter->asker == asker)
			letter->asker = NULL;
	}
	free(asker);
}

static const struct arbiter_ops ops = {
	.read = sim_read,
	.swap = sim_swap,
	.cancel = sim_cancel,
	.close = sim_close,
};

static struct arbiter *
sim_open(const struct arbiter_context *context, const char *text,
	 struct reason *reason)
{
	struct asker *asker = calloc(1, sizeof(*asker));

	(void)text;
	(void)reason;
	if (asker == NULL)
		abort();
	asker->arbiter =
		(struct arbiter){ .ops = &ops, .name = "sim", .decides = true };
	asker->node = node_of(context->loop);
	return &asker->arbiter;
}

const struct arbiter_type arbiter_sim = { .name = "sim", .open = sim_open };

/* --- the far end --- */

static bool
lists(const struct arbiter_record *record, const struct node *node)
{
	return node->has_durable &&
	       arbiter_record_lists(record, node->durable.replica_id);
}

/* Who lists both says that both have all of it. */
static void
check_both(const struct letter *letter)
{
	const struct node *node = letter->node;

	if (letter->record.count == 2 && node->has_durable &&
	    node_timeline(node) != node_timeline(node_peer(node)))
		world_fail("M8: %s lists both, and they are on two timelines",
			   node->name);
}

static void
swap(struct letter *letter)
{
	struct sim_arbiter *arbiter = &sim->arbiter;

	if (letter->record.revision != arbiter->record.revision) {
		arbiter->refused++;
		letter->error = -EAGAIN;
		return;
	}
	check_both(letter);
	arbiter->agreed++;
	arbiter->record = letter->record;
	arbiter->record.revision++;
	world_say("the arbiter lists%s%s, revision %" PRIu64,
		  lists(&arbiter->record, &sim->node[0]) ? " a" : "",
		  lists(&arbiter->record, &sim->node[1]) ? " b" : "",
		  arbiter->record.revision);
}

static void
answer(struct letter *letter)
{
	sim->arbiter.asked++;
	if (letter->swap)
		swap(letter);
	letter->record = sim->arbiter.record;
	letter->kind = LETTER_ANSWER;
	post(letter, sim->now_ns + delay());
}

static void
tell(struct letter *letter, int error)
{
	struct asker *asker = letter->asker;
	struct arbiter_call *call;

	if (asker == NULL || !node_is_live(letter->node) ||
	    letter->node->life != letter->life ||
	    asker->number != letter->number || asker->call == NULL)
		return;
	call = asker->call;
	asker->call = NULL;
	if (letter->kind == LETTER_ANSWER)
		call->record = letter->record;
	call->on_done(call, error);
}

/* True if it is done with. */
static bool
arrive(struct letter *letter)
{
	switch (letter->kind) {
	case LETTER_QUESTION:
		if (!is_reached(letter->node))
			break;
		answer(letter);
		return false;
	case LETTER_ANSWER:
		if (is_reached(letter->node))
			tell(letter, letter->error);
		break;
	case LETTER_LIMIT:
		tell(letter, -ETIMEDOUT);
		break;
	}
	return true;
}

void
sim_arbiter_run(struct sim_arbiter *arbiter)
{
	while (!list_empty(&arbiter->letters) && !sim->failed) {
		struct letter *letter = list_first_entry(&arbiter->letters,
							 struct letter, entry);

		/* list_del() took out the one before, which is not seen
		 * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		if (letter->due_ns > sim->now_ns)
			break;
		list_del(&letter->entry);
		if (arrive(letter))
			free(letter);
	}
}

uint64_t
sim_arbiter_next(const struct sim_arbiter *arbiter)
{
	if (list_empty(&arbiter->letters))
		return UINT64_MAX;
	return list_first_entry(&arbiter->letters, struct letter, entry)
		->due_ns;
}

bool
sim_arbiter_lists(const struct sim_arbiter *arbiter, const struct node *node)
{
	return lists(&arbiter->record, node);
}

bool
sim_arbiter_lists_alone(const struct sim_arbiter *arbiter,
			const struct node *node)
{
	return arbiter->record.count == 1 && lists(&arbiter->record, node);
}

void
sim_arbiter_init(struct sim_arbiter *arbiter)
{
	INIT_LIST_HEAD(&arbiter->letters);
	arbiter->latency_ns = 1 * NS_PER_MS;
}

void
sim_arbiter_done(struct sim_arbiter *arbiter)
{
	struct letter *letter, *spare;

	list_for_each_entry_safe (letter, spare, &arbiter->letters, entry)
		free(letter);
	INIT_LIST_HEAD(&arbiter->letters);
}
