/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cover - see sim.h: which states of replica and link, and which changes
 * between them, a run has reached, and which of the tables below it has not.
 *
 * States are looked at whenever a node does something that is seen, and at the
 * end of its turns; two changes with nothing between them count as one, and
 * the tables name those, too.  A change that no table has is a mistake, of the
 * product or of the table, and fails the run.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "replication/link_private.h"
#include "replication/replica_private.h"
#include "tests/sim/sim.h"

#define REPLICA_STATES (REPLICA_FAILED + 1)
#define LINK_STATES    (LINK_BROKEN + 1)
#define NOWHERE	       16 /* before the first and after the last state */

struct coverage {
	uint64_t replica[NOWHERE + 1][NOWHERE + 1];
	uint64_t link[NOWHERE + 1][NOWHERE + 1];
};

struct change {
	int from, to;
};

/* By the rule that makes it. */
static const struct change replica_changes[] = {
	{ NOWHERE, REPLICA_WAITING }, /* C2 */
	{ NOWHERE, REPLICA_SOLO },    /* C2 without an arbiter */
	{ NOWHERE, REPLICA_SECONDARY },
	{ NOWHERE, REPLICA_FAILED },		/* at its first step */
	{ REPLICA_WAITING, REPLICA_SOLO },	/* C2, M3, M5 */
	{ REPLICA_WAITING, REPLICA_RESYNC },	/* H3, H4 */
	{ REPLICA_WAITING, REPLICA_PAIRED },	/* H2 */
	{ REPLICA_WAITING, REPLICA_SECONDARY }, /* demote */
	{ REPLICA_SOLO, REPLICA_RESYNC },
	{ REPLICA_SOLO, REPLICA_PAIRED },    /* as one: nothing to copy */
	{ REPLICA_SOLO, REPLICA_SECONDARY }, /* demote */
	{ REPLICA_RESYNC, REPLICA_SOLO },    /* lost, nobody may be synced */
	{ REPLICA_RESYNC, REPLICA_LOST },    /* lost, somebody may be */
	{ REPLICA_RESYNC, REPLICA_PAIRED },  /* M1 */
	{ REPLICA_PAIRED, REPLICA_LOST },    /* M0 */
	{ REPLICA_PAIRED, REPLICA_SYNCED },  /* M6 */
	{ REPLICA_PAIRED, REPLICA_SECONDARY },
	{ REPLICA_LOST, REPLICA_SOLO },	     /* M3 */
	{ REPLICA_LOST, REPLICA_RESYNC },    /* H3, H4 */
	{ REPLICA_LOST, REPLICA_PAIRED },    /* H2 */
	{ REPLICA_LOST, REPLICA_SECONDARY }, /* demote */
	{ REPLICA_SECONDARY, REPLICA_TARGET },
	{ REPLICA_SECONDARY, REPLICA_SOLO }, /* M5 */
	{ REPLICA_SECONDARY, REPLICA_LOST }, /* M6, the peer gone at once */
	{ REPLICA_TARGET, REPLICA_SECONDARY },
	{ REPLICA_TARGET, REPLICA_SYNCED }, /* M2 */
	{ REPLICA_SYNCED, REPLICA_SECONDARY },
	{ REPLICA_SYNCED, REPLICA_PAIRED }, /* M6 */
	{ REPLICA_WAITING, REPLICA_FAILED },
	{ REPLICA_SOLO, REPLICA_FAILED },
	{ REPLICA_RESYNC, REPLICA_FAILED },
	{ REPLICA_PAIRED, REPLICA_FAILED },
	{ REPLICA_LOST, REPLICA_FAILED },
	{ REPLICA_SECONDARY, REPLICA_FAILED },
	{ REPLICA_TARGET, REPLICA_FAILED },
	{ REPLICA_SYNCED, REPLICA_FAILED },
	{ REPLICA_WAITING, NOWHERE },
	{ REPLICA_SOLO, NOWHERE },
	{ REPLICA_RESYNC, NOWHERE },
	{ REPLICA_PAIRED, NOWHERE },
	{ REPLICA_LOST, NOWHERE },
	{ REPLICA_SECONDARY, NOWHERE },
	{ REPLICA_TARGET, NOWHERE },
	{ REPLICA_SYNCED, NOWHERE },
	{ REPLICA_FAILED, NOWHERE },
};

static const struct change link_changes[] = {
	{ NOWHERE, LINK_CONNECTING },
	{ NOWHERE, LINK_DOWN }, /* the replica failed at its first step */
	{ LINK_CONNECTING, LINK_GREETING },
	{ LINK_CONNECTING, LINK_MEETING },
	{ LINK_GREETING, LINK_MEETING },
	{ LINK_MEETING, LINK_UP },
	{ LINK_MEETING, LINK_CONNECTING },
	{ LINK_UP, LINK_BROKEN },
	{ LINK_UP, LINK_CONNECTING },
	{ LINK_BROKEN, LINK_UP },
	{ LINK_BROKEN, LINK_CONNECTING },
	{ LINK_CONNECTING, LINK_DOWN },
	{ LINK_MEETING, LINK_DOWN },
	{ LINK_UP, LINK_DOWN },
	{ LINK_BROKEN, LINK_DOWN },
	{ LINK_CONNECTING, NOWHERE },
	{ LINK_MEETING, NOWHERE },
	{ LINK_UP, NOWHERE },
	{ LINK_BROKEN, NOWHERE },
	{ LINK_DOWN, NOWHERE },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- looking --- */

static int replica_was[SIM_NODES], link_was[SIM_NODES];

static void
count(uint64_t (*table)[NOWHERE + 1], int *was, int is)
{
	if (*was == is)
		return;
	table[*was][is]++;
	*was = is;
}

void
cover(const struct node *node)
{
	const struct replica *replica;

	if (sim->coverage == NULL || !node_is_live(node))
		return;
	replica = node_replica(node);
	if (replica == NULL || replica->link == NULL || replica->opening)
		return;
	count(sim->coverage->replica, &replica_was[node->index],
	      (int)replica->state);
	count(sim->coverage->link, &link_was[node->index],
	      (int)replica->link->state);
}

void
cover_life(const struct node *node, bool begins)
{
	if (sim->coverage == NULL)
		return;
	if (begins) {
		replica_was[node->index] = NOWHERE;
		link_was[node->index] = NOWHERE;
		return;
	}
	count(sim->coverage->replica, &replica_was[node->index], NOWHERE);
	count(sim->coverage->link, &link_was[node->index], NOWHERE);
}

/* --- telling --- */

static const char *
replica_name(int state)
{
	return state == NOWHERE ? "-"
				: replica_state_name((enum replica_state)state);
}

static const char *
link_name(int state)
{
	return state == NOWHERE ? "-" : link_state_name((enum link_state)state);
}

static unsigned int
print_table(const char *what, const uint64_t (*seen)[NOWHERE + 1],
	    const struct change *changes, size_t known,
	    const char *(*name)(int state))
{
	bool in_table[NOWHERE + 1][NOWHERE + 1] = { { false } };
	unsigned int reached = 0, unknown = 0;

	for (size_t i = 0; i < known; i++) {
		in_table[changes[i].from][changes[i].to] = true;
		reached += seen[changes[i].from][changes[i].to] > 0;
	}
	printf("%s: %u of %zu changes of state reached", what, reached, known);
	for (size_t i = 0; i < known; i++) {
		if (seen[changes[i].from][changes[i].to] == 0)
			printf("%s %s to %s", reached < known ? "; not:" : ",",
			       name(changes[i].from), name(changes[i].to)),
				reached = (unsigned int)known;
	}
	printf("\n");
	for (int from = 0; from <= NOWHERE; from++) {
		for (int to = 0; to <= NOWHERE; to++) {
			if (seen[from][to] == 0 || in_table[from][to] ||
			    (from == NOWHERE && to == NOWHERE))
				continue;
			unknown++;
			printf("%s: %s to %s was seen %" PRIu64
			       " times and is in no table\n",
			       what, name(from), name(to), seen[from][to]);
		}
	}
	return unknown;
}

unsigned int
coverage_print(const struct coverage *coverage)
{
	return print_table("replica", coverage->replica, replica_changes,
			   COUNT(replica_changes), replica_name) +
	       print_table("link", coverage->link, link_changes,
			   COUNT(link_changes), link_name);
}

struct coverage *
coverage_new(void)
{
	struct coverage *coverage =
		mmap(NULL, sizeof(*coverage), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (coverage == MAP_FAILED)
		abort();
	return coverage;
}
