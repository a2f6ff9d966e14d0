/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fault - a filter that makes the image below fail, late, hang, or lie.
 *
 * Its name is a list of rules joined by ';', each a list of words joined by
 * ',', and may be empty:
 *
 *   op=OP            read, write, flush, discard, write-zeroes, block-status
 *                    or any (the rule unless said)
 *   from=N, to=N     only requests that touch these bytes (K, M, G, T)
 *   nth=N            from the N-th request that matches on (1)
 *   count=N          at most N times (for ever)
 *   probability=P    0 to 1, drawn from
 *   seed=N           (1)
 *   error=NAME       fail with it: EIO, ENOSPC, EBUSY, ...
 *   delay=N{us|ms|s} first wait so long
 *   hang             first wait for "release"
 *   corrupt          change a byte of the first sector that matches, of data
 *                    read or on the way to the image; the guest's own buffer
 *                    of a write stays as it was
 *
 * A request meets the rules in order; the first that hits decides.  What the
 * core tries again after EBUSY counts as another request.
 *
 * Commands: "add RULES", "clear", "list", "release" (what hangs goes on).
 *
 * A request that waits or is corrupted has one of SLOTS slots; when none is
 * free it is -EBUSY.  Others pass without.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/image.h"
#include "core/loop.h"
#include "core/reason.h"
#include "drivers/drivers.h"
#include "drivers/random.h"
#include "drivers/size.h"

#define RULES_MAX     32
#define RULE_TEXT_MAX 128 /* with the final NUL */
#define SLOTS	      TAPDISK_DATA_REQUESTS
#define SECTOR_MAX    4096
#define ANY_OP	      ((1u << TD_OP_COUNT) - 1)

struct fault_rule {
	char text[RULE_TEXT_MAX];
	unsigned int ops;  /* bits by TD_OP_* */
	uint64_t from, to; /* bytes */
	uint64_t nth, count;
	double probability;
	uint64_t random; /* the generator's state */
	int error;	 /* 0 or a negative errno */
	uint64_t delay_ns;
	bool hang;
	bool corrupt;

	uint64_t matched, hits;
};

struct fault_slot {
	struct list_head entry; /* free, hung or delayed */
	struct fault *fault;	/* borrowed */
	td_request_t treq;
	uint64_t due_ns; /* while delayed */
	int error;
	bool corrupt;
	td_sector_t victim; /* the sector that is changed */
	int left;	    /* references below */
	char *sector;	    /* borrowed: SECTOR_MAX bytes of fault->sectors */
};

struct fault {
	td_driver_t *driver; /* borrowed */
	int rules;
	struct fault_rule rule[RULES_MAX];
	struct list_head free;
	struct list_head hung;
	struct list_head delayed; /* by due_ns */
	struct timer timer;	  /* for the first of them */
	char *sectors;		  /* owned */
	struct fault_slot slot[SLOTS];
};

/* --- rules --- */

static bool
parse_op(const char *value, unsigned int *ret_ops)
{
	int op;

	if (strcmp(value, "any") == 0) {
		*ret_ops = ANY_OP;
		return true;
	}
	for (op = 0; op < TD_OP_COUNT; op++) {
		if (strcmp(value, td_op_name(op)) == 0) {
			*ret_ops = 1u << op;
			return true;
		}
	}
	return false;
}

static bool
parse_error(const char *value, int *ret_error)
{
	int error;

	for (error = 1; error < 134; error++) { /* EHWPOISON is the last */
		if (strcmp(errno_name(-error), value) == 0) {
			*ret_error = -error;
			return true;
		}
	}
	return false;
}

static bool
parse_number(const char *value, uint64_t *ret_number)
{
	char *end;

	if (*value < '0' || *value > '9')
		return false;
	errno = 0;
	*ret_number = strtoull(value, &end, 10);
	return !errno && !*end;
}

static bool
parse_size(const char *value, uint64_t *ret_bytes)
{
	const char *end = value;

	return size_parse(value, ret_bytes, &end) == 0 && !*end;
}

static bool
parse_probability(const char *value, double *ret_probability)
{
	char *end;

	*ret_probability = strtod(value, &end);
	return end != value && !*end && *ret_probability >= 0 &&
	       *ret_probability <= 1;
}

static bool
parse_delay(const char *value, uint64_t *ret_ns)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {
		{ "us", NS_PER_US },
		{ "ms", NS_PER_MS },
		{ "s", NS_PER_S },
	};
	char *end;
	uint64_t number = strtoull(value, &end, 10);
	size_t i;

	if (*value < '0' || *value > '9' || number > 1000000)
		return false;
	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].name) == 0) {
			*ret_ns = number * units[i].ns;
			return true;
		}
	}
	return false;
}

static bool
parse_word(struct fault_rule *rule, const char *key, const char *value)
{
	if (!value) {
		if (strcmp(key, "hang") == 0)
			return rule->hang = true;
		if (strcmp(key, "corrupt") == 0)
			return rule->corrupt = true;
		return false;
	}
	if (strcmp(key, "op") == 0)
		return parse_op(value, &rule->ops);
	if (strcmp(key, "from") == 0)
		return parse_size(value, &rule->from);
	if (strcmp(key, "to") == 0)
		return parse_size(value, &rule->to);
	if (strcmp(key, "nth") == 0)
		return parse_number(value, &rule->nth) && rule->nth > 0;
	if (strcmp(key, "count") == 0)
		return parse_number(value, &rule->count);
	if (strcmp(key, "probability") == 0)
		return parse_probability(value, &rule->probability);
	if (strcmp(key, "seed") == 0)
		return parse_number(value, &rule->random);
	if (strcmp(key, "error") == 0)
		return parse_error(value, &rule->error);
	if (strcmp(key, "delay") == 0)
		return parse_delay(value, &rule->delay_ns);
	return false;
}

static int
parse_rule(td_driver_t *driver, struct fault_rule *rule, char *text)
{
	char *word, *value;

	*rule = (struct fault_rule){
		.ops = ANY_OP,
		.to = UINT64_MAX,
		.nth = 1,
		.count = UINT64_MAX,
		.probability = 1,
		.random = 1,
	};
	if ((size_t)snprintf(rule->text, RULE_TEXT_MAX, "%s", text) >=
	    RULE_TEXT_MAX)
		return td_reason(driver, -EINVAL,
				 "a rule may have %d characters",
				 RULE_TEXT_MAX - 1);
	while ((word = strsep(&text, ","))) {
		value = strchr(word, '=');
		if (value)
			*value++ = '\0';
		if (!parse_word(rule, word, value))
			return td_reason(driver, -EINVAL,
					 "\"%s%s%s\" is no word of a rule; an "
					 "example of one is "
					 "op=write,error=EIO,from=0,to=1M,"
					 "count=1",
					 word, value ? "=" : "",
					 value ? value : "");
	}
	if (!rule->error && !rule->delay_ns && !rule->hang && !rule->corrupt)
		return td_reason(driver, -EINVAL,
				 "the rule \"%s\" does nothing: give it error=,"
				 " delay=, hang or corrupt",
				 rule->text);
	if (rule->from >= rule->to)
		return td_reason(driver, -EINVAL,
				 "the rule \"%s\" never matches: its to= is "
				 "not behind its from=",
				 rule->text);
	return 0;
}

/* All of them or none. */
static int
fault_add(td_driver_t *driver, const char *text)
{
	struct fault *fault = driver->data;
	char *copy = strdup(text), *rest = copy, *part;
	int rules = fault->rules, error = copy ? 0 : -ENOMEM;

	while (!error && (part = strsep(&rest, ";"))) {
		if (!*part)
			continue;
		if (rules == RULES_MAX)
			error = td_reason(driver, -ENOSPC,
					  "there are %d rules already",
					  RULES_MAX);
		else
			error = parse_rule(driver, &fault->rule[rules++], part);
	}
	free(copy);
	if (!error)
		fault->rules = rules;
	return error;
}

static bool
rule_matches(const struct fault_rule *rule, const td_request_t *treq)
{
	uint64_t from = treq->sec << SECTOR_SHIFT;
	uint64_t to = from + ((uint64_t)treq->secs << SECTOR_SHIFT);

	if (!(rule->ops & (1u << treq->op)))
		return false;
	/* a flush is everywhere */
	return treq->op == TD_OP_FLUSH || (from < rule->to && to > rule->from);
}

static struct fault_rule *
fault_find(struct fault *fault, const td_request_t *treq)
{
	struct fault_rule *rule;

	for (rule = fault->rule; rule < fault->rule + fault->rules; rule++) {
		if (!rule_matches(rule, treq))
			continue;
		rule->matched++;
		if (rule->matched < rule->nth || rule->hits >= rule->count)
			continue;
		if (rule->probability < 1 &&
		    random_next(&rule->random) >= rule->probability)
			continue;
		rule->hits++;
		return rule;
	}
	return NULL;
}

/* --- what is done to a request --- */

static void
slot_free(struct fault_slot *slot)
{
	list_add(&slot->entry, &slot->fault->free);
}

static bool
has_sector(const td_request_t *treq, td_sector_t sector)
{
	return sector >= treq->sec &&
	       sector < treq->sec + (td_sector_t)treq->secs;
}

static void
on_corrupted(td_request_t part, int res)
{
	struct fault_slot *slot = part.cb_data;
	td_request_t treq = slot->treq;
	size_t skip = (size_t)(part.sec - treq.sec) << SECTOR_SHIFT;

	treq.sec = part.sec;
	treq.secs = part.secs;
	treq.buf += skip;
	if (treq.op == TD_OP_READ && res == 0 &&
	    has_sector(&treq, slot->victim))
		treq.buf[(slot->victim - treq.sec) << SECTOR_SHIFT] ^= 0x55;
	slot->left -= treq.secs;
	assert(slot->left >= 0);
	if (slot->left == 0)
		slot_free(slot);
	td_complete_request(treq, res);
}

static void
queue_part(struct fault_slot *slot, td_sector_t from, td_sector_t to, char *buf)
{
	td_request_t part = slot->treq;

	if (from == to)
		return;
	part.sec = from;
	part.secs = (int)(to - from);
	part.buf = buf ? buf
		       : part.buf + ((from - slot->treq.sec) << SECTOR_SHIFT);
	part.cb = (void *)on_corrupted;
	part.cb_data = slot;
	td_queue_request(td_image_below(slot->fault->driver), part);
}

/* A write is split so that one sector comes from a buffer of our own. */
static void
corrupt(struct fault_slot *slot)
{
	td_sector_t unit =
		slot->fault->driver->info.sector_size >> SECTOR_SHIFT;
	td_sector_t first = slot->victim - slot->victim % unit;
	td_sector_t begin = slot->treq.sec;
	td_sector_t end = begin + (td_sector_t)slot->treq.secs;

	slot->left = slot->treq.secs;
	if (slot->treq.op == TD_OP_READ) {
		queue_part(slot, begin, end, NULL);
		return;
	}
	memcpy(slot->sector, slot->treq.buf + ((first - begin) << SECTOR_SHIFT),
	       unit << SECTOR_SHIFT);
	slot->sector[(slot->victim - first) << SECTOR_SHIFT] ^= 0x55;
	queue_part(slot, begin, first, NULL);
	queue_part(slot, first, first + unit, slot->sector);
	queue_part(slot, first + unit, end, NULL);
}

/* The request has waited long enough. */
static void
slot_go(struct fault_slot *slot)
{
	td_request_t treq = slot->treq;
	int error = slot->error;

	if (!error && slot->corrupt &&
	    (treq.op == TD_OP_READ || treq.op == TD_OP_WRITE)) {
		corrupt(slot);
		return;
	}
	slot_free(slot);
	if (error)
		td_complete_request(treq, error);
	else
		td_forward_request(treq);
}

static void
timer_for_first(struct fault *fault)
{
	struct fault_slot *first;
	uint64_t now = loop_now(fault->timer.loop);

	if (list_empty(&fault->delayed))
		return;
	first = list_first_entry(&fault->delayed, struct fault_slot, entry);
	timer_set(&fault->timer, first->due_ns > now ? first->due_ns - now : 0);
}

static void
on_due(struct timer *timer)
{
	struct fault *fault = container_of(timer, struct fault, timer);
	uint64_t now = loop_now(timer->loop);
	struct fault_slot *slot;

	while (!list_empty(&fault->delayed)) {
		slot = list_first_entry(&fault->delayed, struct fault_slot,
					entry);
		if (slot->due_ns > now)
			break;
		list_del(&slot->entry);
		slot_go(slot);
	}
	timer_for_first(fault);
}

static void
delay(struct fault_slot *slot, uint64_t delay_ns)
{
	struct fault *fault = slot->fault;
	struct list_head *place = &fault->delayed;
	struct fault_slot *other;

	slot->due_ns = loop_now(fault->timer.loop) + delay_ns;
	list_for_each_entry (other, &fault->delayed, entry) {
		if (other->due_ns > slot->due_ns) {
			place = &other->entry;
			break;
		}
	}
	list_add_tail(&slot->entry, place); /* before `place` */
	timer_for_first(fault);
}

static void
fault_queue(td_driver_t *driver, td_request_t treq)
{
	struct fault *fault = driver->data;
	struct fault_rule *rule = fault_find(fault, &treq);
	struct fault_slot *slot;

	if (!rule) {
		td_forward_request(treq);
		return;
	}
	if (!rule->delay_ns && !rule->hang && !rule->corrupt) {
		td_complete_request(treq, rule->error);
		return;
	}
	if (list_empty(&fault->free)) {
		td_complete_request(treq, -EBUSY);
		return;
	}
	slot = list_first_entry(&fault->free, struct fault_slot, entry);
	list_del(&slot->entry);
	slot->treq = treq;
	slot->error = rule->error;
	slot->corrupt = rule->corrupt;
	slot->victim = treq.sec;
	if (rule->from >> SECTOR_SHIFT > treq.sec)
		slot->victim = rule->from >> SECTOR_SHIFT;
	if (rule->hang)
		list_add_tail(&slot->entry, &fault->hung);
	else if (rule->delay_ns)
		delay(slot, rule->delay_ns);
	else
		slot_go(slot);
}

/* --- life --- */

static int
fault_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	struct fault *fault = driver->data;
	int i;

	(void)flags;
	if (!td_image_below(driver))
		return td_reason(driver, -EINVAL,
				 "a filter needs an image below it: "
				 "fault:RULES|aio:PATH");
	fault->driver = driver;
	INIT_LIST_HEAD(&fault->free);
	INIT_LIST_HEAD(&fault->hung);
	INIT_LIST_HEAD(&fault->delayed);
	timer_init(&fault->timer, driver->image->stack->loop, on_due);
	fault->sectors = aligned_alloc(SECTOR_MAX, (size_t)SLOTS * SECTOR_MAX);
	if (!fault->sectors)
		return -ENOMEM;
	for (i = SLOTS - 1; i >= 0; i--) {
		fault->slot[i].fault = fault;
		fault->slot[i].sector = fault->sectors + (size_t)i * SECTOR_MAX;
		slot_free(&fault->slot[i]);
	}
	i = fault_add(driver, name);
	if (i < 0)
		free(fault->sectors);
	return i;
}

static int
fault_close(td_driver_t *driver)
{
	struct fault *fault = driver->data;

	timer_clear(&fault->timer);
	free(fault->sectors);
	return 0;
}

static int
fault_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
fault_validate_parent(td_driver_t *driver, td_driver_t *parent, td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return 0;
}

/* --- control --- */

static int
count(const struct list_head *list)
{
	const struct list_head *entry;
	int n = 0;

	list_for_each (entry, list)
		n++;
	return n;
}

static void
fault_list(struct fault *fault, json_t *object)
{
	json_t *rules = json_array();
	int i;

	for (i = 0; i < fault->rules; i++)
		json_array_append_new(
			rules,
			json_pack("{s:s, s:I, s:I}", "rule",
				  fault->rule[i].text, "matched",
				  (json_int_t)fault->rule[i].matched, "hits",
				  (json_int_t)fault->rule[i].hits));
	json_object_set_new(object, "rules", rules);
	json_object_set_new(object, "hung", json_integer(count(&fault->hung)));
	json_object_set_new(object, "delayed",
			    json_integer(count(&fault->delayed)));
}

static void
fault_stats(td_driver_t *driver, struct json_t *object)
{
	fault_list(driver->data, object);
}

/* Only those that hang now: the image below may answer at once. */
static int
fault_release(struct fault *fault)
{
	LIST_HEAD(due);
	struct fault_slot *slot;
	int n = 0;

	list_splice_tail_init(&fault->hung, &due);
	while (!list_empty(&due)) {
		slot = list_first_entry(&due, struct fault_slot, entry);
		list_del(&slot->entry);
		slot_go(slot);
		n++;
	}
	return n;
}

static int
fault_command(td_driver_t *driver, const char *command, struct json_t *result)
{
	struct fault *fault = driver->data;

	if (strncmp(command, "add ", 4) == 0)
		return fault_add(driver, command + 4);
	if (strcmp(command, "clear") == 0) {
		fault->rules = 0;
		return 0;
	}
	if (strcmp(command, "list") == 0) {
		fault_list(fault, result);
		return 0;
	}
	if (strcmp(command, "release") == 0) {
		json_object_set_new(result, "released",
				    json_integer(fault_release(fault)));
		return 0;
	}
	return td_reason(driver, -EINVAL,
			 "\"%s\" is no command: there are add RULES, clear, "
			 "list and release",
			 command);
}

struct tap_disk tapdisk_fault = {
	.disk_type = "tapdisk_fault",
	.private_data_size = sizeof(struct fault),
	.td_open = fault_open,
	.td_close = fault_close,
	.td_get_parent_id = fault_get_parent_id,
	.td_validate_parent = fault_validate_parent,
	.td_queue_read = fault_queue,
	.td_queue_write = fault_queue,
	.td_queue_flush = fault_queue,
	.td_queue_discard = fault_queue,
	.td_queue_write_zeroes = fault_queue,
	.td_queue_block_status = fault_queue,
	.td_stats = fault_stats,
	.td_command = fault_command,
};
