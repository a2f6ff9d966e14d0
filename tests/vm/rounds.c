/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rounds - connect and disconnect over RDMA again and again, for a story in
 * guests to see that nothing stays behind:
 *
 *     rounds listen ADDRESS
 *     rounds connect ADDRESS ROUNDS
 *
 * In each round who connects sends a message; in every second one he closes
 * the channel, in the others who listens does when the message has come.  After
 * each hundredth round, when all has come to rest, both print the number of
 * rounds, of descriptors, and the kilobytes of resident memory.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/io.h"
#include "core/loop.h"
#include "core/pool.h"
#include "core/reason.h"
#include "replication/transport.h"

#define POOL_BYTES (32u << 20)
#define LENGTH	   4096
#define REPORT	   100		       /* rounds */
#define REST_NS	   (2 * NS_PER_S)      /* before a report */
#define STUCK_NS   (120ull * NS_PER_S) /* a round takes no longer */

static struct {
	struct transport_context context;
	const char *address;
	unsigned int rounds, done; /* rounds: 0 for who listens */
	struct channel *channel;   /* owned; NULL between rounds */
	struct channel_send send;
	unsigned char *payload;
	bool sending;
	struct task next; /* close, and begin anew */
	struct timer rest, stuck;
} self;

static void
fail(const char *what, const struct reason *reason)
{
	fprintf(stderr, "rounds: round %u: %s%s%s\n", self.done, what,
		reason != NULL ? ": " : "", reason != NULL ? reason->text : "");
	exit(1);
}

static void
report(void)
{
	unsigned int descriptors = 0;
	unsigned long size, resident;
	DIR *directory = opendir("/proc/self/fd");
	FILE *file = fopen("/proc/self/statm", "r");

	if (directory == NULL || file == NULL ||
	    fscanf(file, "%lu %lu", &size, &resident) != 2)
		fail("no /proc", NULL);
	while (readdir(directory) != NULL)
		descriptors++;
	(void)closedir(directory);
	(void)fclose(file);
	printf("%u %u %lu\n", self.done, descriptors, resident * 4);
	(void)fflush(stdout);
}

static void
on_sent(struct channel_send *send, int error)
{
	(void)send;
	(void)error;
	self.sending = false;
	if (self.done % 2 == 0)
		task_post(&self.next);
}

static void
on_open(struct channel *channel)
{
	struct wire_header header = {
		.type = WIRE_WRITE,
		.session = 1,
		.sequence = 1,
		.length = LENGTH,
		.payload_crc = wire_crc(self.payload, LENGTH),
	};

	if (self.rounds == 0)
		return;
	wire_encode(&header, self.send.header);
	self.send.payload = self.payload;
	self.send.length = LENGTH;
	self.send.on_done = on_sent;
	self.sending = true;
	channel->transport->send(channel, &self.send);
}

static void
on_message(struct channel *channel, const struct wire_header *header,
	   void *payload, size_t length)
{
	(void)channel;
	if (header->type != WIRE_WRITE || length != LENGTH)
		fail("another message came than was sent", NULL);
	pool_put(self.context.pool, payload);
	if (self.done % 2 == 1)
		task_post(&self.next);
}

static void
on_close(struct channel *channel, int error, const struct reason *reason)
{
	(void)channel;
	(void)error;
	if (self.rounds > 0 && self.done % 2 == 0)
		fail("the other end closed the channel", reason);
	task_post(&self.next);
}

static const struct channel_events events = {
	.on_open = on_open,
	.on_message = on_message,
	.on_close = on_close,
};

static void
begin(void)
{
	struct reason reason = { "" };

	timer_set(&self.stuck, STUCK_NS);
	if (self.rounds == 0)
		return;
	if (self.done == self.rounds) {
		loop_stop(self.context.loop);
		return;
	}
	self.channel = transport_rdma.connect(&self.context, self.address,
					      &events, NULL, &reason);
	if (self.channel == NULL)
		fail("cannot connect", &reason);
}

static void
on_next(struct task *task)
{
	(void)task;
	if (self.channel == NULL)
		return;
	self.channel->transport->close(self.channel);
	self.channel = NULL;
	if (self.sending)
		fail("a send has not ended with its channel", NULL);
	self.done++;
	/* Who listens looks while who connects still rests. */
	if (self.done % REPORT == 0)
		timer_set(&self.rest, self.rounds == 0 ? REST_NS / 2 : REST_NS);
	else
		begin();
}

static void
on_rest(struct timer *timer)
{
	(void)timer;
	report();
	begin();
}

static void
on_stuck(struct timer *timer)
{
	(void)timer;
	fail("it takes too long", NULL);
}

static void
on_accept(struct acceptor *acceptor, struct channel *channel)
{
	(void)acceptor;
	if (self.channel != NULL) { /* its end has not been told yet */
		task_cancel(&self.next);
		on_next(&self.next);
	}
	channel->events = &events;
	self.channel = channel;
}

int
main(int argc, char **argv)
{
	struct reason reason = { "" };
	struct acceptor *acceptor = NULL;
	bool listens = argc == 3 && strcmp(argv[1], "listen") == 0;

	if (!listens && !(argc == 4 && strcmp(argv[1], "connect") == 0)) {
		fprintf(stderr, "rounds: see the head of tests/vm/rounds.c\n");
		return 2;
	}
	self.address = argv[2];
	self.rounds = listens ? 0 : (unsigned int)strtoul(argv[3], NULL, 10);
	self.context.loop = loop_new(&reason);
	self.context.io = io_new(self.context.loop, NULL, &reason);
	self.context.pool = pool_new(self.context.loop, POOL_BYTES, &reason);
	if (self.context.pool == NULL || self.context.io == NULL)
		fail("cannot begin", &reason);
	self.payload = pool_get(self.context.pool, LENGTH);
	memset(self.payload, 0x5a, LENGTH);
	task_init(&self.next, self.context.loop, on_next);
	timer_init(&self.rest, self.context.loop, on_rest);
	timer_init(&self.stuck, self.context.loop, on_stuck);
	if (listens) {
		acceptor = transport_rdma.listen(&self.context, self.address,
						 on_accept, NULL, &reason);
		if (acceptor == NULL)
			fail("cannot listen", &reason);
	}
	begin();
	if (loop_run(self.context.loop) < 0)
		fail("the loop", NULL);
	pool_put(self.context.pool, self.payload);
	if (acceptor != NULL)
		transport_rdma.stop(acceptor);
	pool_free(self.context.pool);
	io_free(self.context.io);
	loop_free(self.context.loop);
	return 0;
}
