/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * torture - see torture.h; the witness and the broken drivers stand in
 * witness.c.
 *
 * A part goes down at once or waits among `late` for the timer, which takes
 * some of them in any order.  A part of its own has a struct own, which knows
 * the request that it belongs to; its answers may wait among `late` as well.
 */
#include "tests/torture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/random.h"
#include "tests/test.h"

#define DELAY_MAX_NS (3 * NS_PER_MS)

struct torture;

struct own {
	struct torture *torture; /* borrowed; NULL while free */
	td_request_t original;
	int left; /* sectors that are not back */
};

struct late {
	td_request_t treq;
	bool is_answer;
	int res;
};

struct torture {
	td_driver_t *driver; /* borrowed */
	uint64_t random;
	double late, own, error, busy; /* probabilities */
	unsigned int inside;	       /* calls of torture_queue() */
	struct timer timer;
	unsigned int waiting;
	struct late waits[TORTURE_LATE_MAX];
	struct own owns[TORTURE_OWN_MAX];
	struct torture_counts counts;
};

static bool
happens(struct torture *torture, double probability)
{
	return random_next(&torture->random) < probability;
}

static unsigned int
below(struct torture *torture, unsigned int end)
{
	return (unsigned int)(random_next(&torture->random) * end);
}

static bool
has_data(const td_request_t *treq)
{
	return treq->op == TD_OP_READ || treq->op == TD_OP_WRITE;
}

/* The part [sec, sec + secs) of `whole`. */
static td_request_t
part_of(td_request_t whole, td_sector_t sec, int secs)
{
	if (has_data(&whole))
		whole.buf += (sec - whole.sec) << SECTOR_SHIFT;
	whole.sec = sec;
	whole.secs = secs;
	return whole;
}

/* --- late --- */

static void
arm(struct torture *torture)
{
	if (torture->waiting > 0 && !timer_is_set(&torture->timer))
		timer_set(&torture->timer, below(torture, DELAY_MAX_NS));
}

static bool
put_off(struct torture *torture, td_request_t treq, bool is_answer, int res)
{
	if (torture->waiting == TORTURE_LATE_MAX ||
	    !happens(torture, torture->late))
		return false;
	torture->waits[torture->waiting++] = (struct late){
		.treq = treq,
		.is_answer = is_answer,
		.res = res,
	};
	arm(torture);
	return true;
}

/* --- requests of its own --- */

static void
on_own(td_request_t treq, int res)
{
	struct own *own = treq.cb_data;
	struct torture *torture = own->torture;
	td_request_t part = part_of(own->original, treq.sec, treq.secs);

	assert_non_null(torture);
	assert_int_equal(torture->inside, 0); /* W3 */
	own->left -= treq.secs;
	assert_true(own->left >= 0);
	if (own->left == 0)
		own->torture = NULL;
	if (put_off(torture, part, true, res))
		torture->counts.late_answers++;
	else
		td_complete_request(part, res);
}

static struct own *
own_new(struct torture *torture, td_request_t treq)
{
	size_t i;

	for (i = 0; i < TORTURE_OWN_MAX; i++) {
		if (torture->owns[i].torture)
			continue;
		torture->owns[i] = (struct own){
			.torture = torture,
			.original = treq,
			.left = treq.secs,
		};
		return &torture->owns[i];
	}
	return NULL;
}

/* --- down --- */

static void
pass_down(struct torture *torture, td_request_t treq)
{
	struct own *own = NULL;

	if (happens(torture, torture->error)) {
		torture->counts.errors++;
		td_complete_request(treq, -EIO);
		return;
	}
	if (happens(torture, torture->busy)) {
		torture->counts.busy++;
		td_complete_request(treq, -EBUSY);
		return;
	}
	if (happens(torture, torture->own))
		own = own_new(torture, treq);
	if (!own) {
		td_forward_request(treq);
		return;
	}
	torture->counts.own++;
	treq.cb = (void *)on_own;
	treq.cb_data = own;
	td_queue_request(td_image_below(torture->driver), treq);
}

static void
on_timer(struct timer *timer)
{
	struct torture *torture = container_of(timer, struct torture, timer);
	unsigned int due = 1 + below(torture, torture->waiting);

	while (due-- > 0 && torture->waiting > 0) {
		unsigned int i = below(torture, torture->waiting);
		struct late late = torture->waits[i];

		torture->waits[i] = torture->waits[--torture->waiting];
		if (late.is_answer)
			td_complete_request(late.treq, late.res);
		else
			pass_down(torture, late.treq);
	}
	arm(torture);
}

/* Cut at up to TORTURE_PARTS_MAX - 1 places; returns the parts. */
static int
cut(struct torture *torture, td_request_t treq, td_request_t *ret_parts)
{
	td_sector_t unit = torture->driver->info.sector_size >> SECTOR_SHIFT;
	int parts = 0, most = 1 + (int)below(torture, TORTURE_PARTS_MAX);

	while (treq.op != TD_OP_FLUSH && parts < most - 1 &&
	       (td_sector_t)treq.secs > unit) {
		unsigned int units = (unsigned int)treq.secs / unit;
		int secs = (int)(unit * (1 + below(torture, units - 1)));

		ret_parts[parts++] = part_of(treq, treq.sec, secs);
		treq = part_of(treq, treq.sec + (td_sector_t)secs,
			       treq.secs - secs);
	}
	ret_parts[parts++] = treq;
	return parts;
}

static void
torture_queue(td_driver_t *driver, td_request_t treq)
{
	struct torture *torture = driver->data;
	td_request_t parts[TORTURE_PARTS_MAX];
	int count = cut(torture, treq, parts);
	td_sector_t last = 0;

	torture->inside++;
	torture->counts.requests++;
	torture->counts.parts += (unsigned int)count;
	torture->counts.split += count > 1;
	while (count > 0) {
		int i = (int)below(torture, (unsigned int)count);
		td_request_t part = parts[i];

		parts[i] = parts[--count];
		torture->counts.disordered += part.sec < last;
		last = part.sec;
		if (put_off(torture, part, false, 0)) {
			torture->counts.late++;
			continue;
		}
		torture->counts.inside++;
		pass_down(torture, part);
	}
	torture->inside--;
}

/* --- life --- */

static int
parse_word(struct torture *torture, const char *word)
{
	const struct {
		const char *name;
		double *value;
	} words[] = {
		{ "late=", &torture->late },
		{ "own=", &torture->own },
		{ "error=", &torture->error },
		{ "busy=", &torture->busy },
	};
	size_t i;

	if (strncmp(word, "seed=", 5) == 0) {
		torture->random = strtoull(word + 5, NULL, 10);
		return 0;
	}
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t length = strlen(words[i].name);

		if (strncmp(word, words[i].name, length) != 0)
			continue;
		*words[i].value = strtod(word + length, NULL);
		return 0;
	}
	return -EINVAL;
}

static int
torture_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	struct torture *torture = driver->data;
	char *copy = strdup(name), *rest = copy, *word;
	int error = 0;

	(void)flags;
	assert_non_null(td_image_below(driver));
	torture->driver = driver;
	torture->random = 1;
	torture->late = 0.5;
	torture->own = 0.3;
	timer_init(&torture->timer, driver->image->stack->loop, on_timer);
	while (!error && (word = strsep(&rest, ",")))
		error = *word ? parse_word(torture, word) : 0;
	free(copy);
	return error;
}

static int
torture_close(td_driver_t *driver)
{
	struct torture *torture = driver->data;

	assert_int_equal(torture->waiting, 0);
	timer_clear(&torture->timer);
	return 0;
}

static int
torture_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
torture_validate_parent(td_driver_t *driver, td_driver_t *parent,
			td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return 0;
}

struct torture_counts
torture_counts(struct image_stack *stack)
{
	int i;

	for (i = 0; i < stack->count; i++) {
		td_driver_t *driver = stack->images[i]->driver;

		if (driver->ops == &tapdisk_torture)
			return ((struct torture *)driver->data)->counts;
	}
	fail_msg("there is no torture in the stack");
	return (struct torture_counts){ .requests = 0 };
}

struct tap_disk tapdisk_torture = {
	.disk_type = "tapdisk_torture",
	.private_data_size = sizeof(struct torture),
	.td_open = torture_open,
	.td_close = torture_close,
	.td_get_parent_id = torture_get_parent_id,
	.td_validate_parent = torture_validate_parent,
	.td_queue_read = torture_queue,
	.td_queue_write = torture_queue,
	.td_queue_flush = torture_queue,
	.td_queue_discard = torture_queue,
	.td_queue_write_zeroes = torture_queue,
	.td_queue_block_status = torture_queue,
};
