/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs.c - the two tables of verbs.h.
 */
#include "tools/tap-ctl/verbs.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

const struct arg_row arg_rows[ARG_COUNT] = {
	[ARG_NAME] = { 'n', "name", "NAME", "the disk of this name" },
	[ARG_PID] = { 'p', "pid", "PID", "the disk of this tapdisk process" },
	[ARG_MINOR] = { 'm', "minor", "MINOR", "the disk with this minor" },
	[ARG_IMAGE] = { 'a', "args", "TYPE:PATH",
			"the image; filters stand before it:\n"
			"FILTER:ARGUMENTS|TYPE:PATH" },
	[ARG_READ_ONLY] = { 'R', "read-only", NULL, "let nobody write" },
	[ARG_NO_DIRECT] = { 'D', "no-direct", NULL,
			    "by way of the page cache, without O_DIRECT" },
	[ARG_FORCE] = { 'f', "force", NULL,
			"even if clients lose the disk by it" },
	[ARG_SIZE] = { 's', "size", "SIZE",
		       "the new size (64M, 2T); without it the\n"
		       "image is asked for its size again" },
	[ARG_WATCH] = { 'w', "watch", NULL,
			"a live view on the terminal; Ctrl-C ends it" },
	[ARG_INTERVAL] = { 'i', "interval", "S",
			   "seconds between two looks (1)" },
	[ARG_TYPE] = { 't', "type", "TYPE", "only images of this type" },
	[ARG_FILE] = { 'f', "file", "PATH", "only images with this path" },
	[ARG_REQUEST_TIMEOUT] = { 't', "timeout", "S",
				  "a request fails after S seconds (120)" },
	[ARG_LIMIT] = { 't', "timeout", "S",
			"wait at most S seconds; what was begun\n"
			"goes on" },
	[ARG_ALONE] = { 0, "alone", NULL,
			"the peer is dead, and was not promoted" },
	[ARG_LOSS] = { 0, "force", NULL,
		       "take the loss of what this copy lacks" },
	[ARG_DISCARD] = { 0, "discard", "local",
			  "give up what only this host wrote" },
	[ARG_REPAIR] = { 0, "repair-from", "local",
			 "copy to the peer what differs" },
	[ARG_STOP] = { 0, "stop", NULL, "end the one that is under way" },
	[ARG_SINCE] = { 0, "since", "CHECKPOINT",
			"the checkpoint of this name" },
	[ARG_RAW] = { 0, "raw", NULL,
		      "ranges only, a line each: OFFSET LENGTH" },
	[ARG_SIDE] = { 0, "discard", "local|peer",
		       "whose changes are given up" },
	[ARG_JSON] = { 0, "json", NULL, "print JSON" },
	[ARG_DEBUG] = { 0, "debug", NULL,
			"show what is said to a tapdisk and by it" },
	[ARG_RUN_DIR] = { 0, "run-dir", "DIR",
			  "where sockets are\n"
			  "($TAPDISK_RUN_DIR, or /run/tapdisk)" },
	[ARG_HELP] = { 'h', "help", NULL, "print this text" },
};

#define DISK ARG_NAME, ARG_PID, ARG_MINOR

const struct verb verbs[] = {
	{ .name = "list",
	  .summary = "show the disks there are",
	  .args = { DISK, ARG_TYPE, ARG_FILE },
	  .help = "On a terminal it prints a table, else a line for each "
		  "disk:\n"
		  "  pid=1234 minor=0 state=0 args=aio:/srv/vm1.img\n"
		  "The state is 0 while the disk is served; see "
		  "tap-ctl(8).\n",
	  .run = verb_list },
	{ .name = "status",
	  .summary = "tell how a disk is, in plain words",
	  .args = { DISK, ARG_WATCH, ARG_INTERVAL },
	  .help = "Without a disk it tells of all.\n\n"
		  "Examples:\n"
		  "  tap-ctl status -n vm1\n"
		  "  tap-ctl status --watch\n",
	  .run = verb_status },
	{ .name = "stats",
	  .summary = "print counts and latencies, as JSON",
	  .args = { DISK },
	  .run = verb_stats },
	{ .name = "events",
	  .summary = "print what happens, a line of JSON for each event",
	  .args = { DISK },
	  .help = "Without a disk it follows all there are now.  It ends "
		  "with the last of them.\n",
	  .run = verb_events },
	{ .name = "create",
	  .summary = "serve a disk: allocate, spawn, attach and open",
	  .args = { ARG_NAME, ARG_IMAGE, ARG_READ_ONLY, ARG_NO_DIRECT,
		    ARG_REQUEST_TIMEOUT },
	  .takes = DAEMON_OPTION_SPAWN,
	  .help = "Prints the addresses at which clients find the disk.\n\n"
		  "Examples:\n"
		  "  tap-ctl create -n vm1 -a aio:/srv/vm1.img\n"
		  "  tap-ctl create -n vm1 -a aio:/srv/vm1.img "
		  "--nbd unix:/run/vm1.sock\n",
	  .run = verb_create },
	{ .name = "destroy",
	  .summary = "end what create began: close, detach and free",
	  .args = { DISK, ARG_FORCE, ARG_LIMIT },
	  .run = verb_destroy },
	{ .name = "spawn",
	  .summary = "start a tapdisk without a disk; prints its process id",
	  .args = { ARG_NAME },
	  .takes = DAEMON_OPTION_SPAWN,
	  .run = verb_spawn },
	{ .name = "allocate",
	  .summary = "take a free minor; prints it",
	  .run = verb_allocate },
	{ .name = "free",
	  .summary = "give a minor back",
	  .args = { ARG_MINOR },
	  .run = verb_free },
	{ .name = "attach",
	  .summary = "give a tapdisk its minor",
	  .args = { ARG_PID, ARG_MINOR },
	  .run = verb_attach },
	{ .name = "detach",
	  .summary = "take the minor from a tapdisk, which then ends",
	  .args = { DISK },
	  .run = verb_detach },
	{ .name = "open",
	  .summary = "let a tapdisk open an image and serve it",
	  .args = { DISK, ARG_IMAGE, ARG_READ_ONLY, ARG_NO_DIRECT,
		    ARG_REQUEST_TIMEOUT },
	  .takes = DAEMON_OPTION_PAIR,
	  .help = "Prints the addresses at which clients find the disk.\n",
	  .run = verb_open },
	{ .name = "close",
	  .summary = "end the service and close the image",
	  .args = { DISK, ARG_FORCE, ARG_LIMIT },
	  .help = "What clients have written is flushed first.\n",
	  .run = verb_close },
	{ .name = "pause",
	  .summary = "close the image; requests wait for unpause",
	  .args = { DISK, ARG_LIMIT },
	  .run = verb_pause },
	{ .name = "unpause",
	  .summary = "open the image again, or another one",
	  .args = { DISK, ARG_IMAGE },
	  .run = verb_unpause },
	{ .name = "resize",
	  .summary = "let a disk grow while it is in use",
	  .args = { DISK, ARG_SIZE },
	  .help = "Example:\n"
		  "  tap-ctl resize -n vm1 -s 20G\n",
	  .run = verb_resize },
	{ .name = "promote",
	  .summary = "make this host's replica the primary",
	  .args = { DISK, ARG_ALONE, ARG_LOSS, ARG_LIMIT },
	  .help = "For the secondary when the primary is dead.  A primary "
		  "that waits for its\npeer goes on with --alone.  Never "
		  "promote while the other host may serve\nthe disk.\n",
	  .run = verb_promote },
	{ .name = "demote",
	  .summary = "make this host's replica the secondary",
	  .args = { DISK, ARG_LIMIT },
	  .help = "If the two are in sync the peer becomes the primary.\n",
	  .run = verb_demote },
	{ .name = "resync",
	  .summary = "try again now to bring two replicas in sync",
	  .args = { DISK, ARG_DISCARD },
	  .help = "It begins by itself when the peer comes.  When both "
		  "wrote alone, --discard\nlocal on one of the two, which "
		  "must be secondary, makes it a copy of the\nother.\n",
	  .run = verb_resync },
	{ .name = "verify",
	  .summary = "compare the two replicas while the disk is in use",
	  .args = { DISK, ARG_REPAIR, ARG_STOP, ARG_LIMIT },
	  .help = "Ask it of the primary.  It prints the ranges that differ, "
		  "and ends with 1 if\nthere are any that were not "
		  "repaired.\n\n"
		  "Example:\n"
		  "  tap-ctl verify -n vm1\n",
	  .run = verb_verify },
	{ .name = "resolve",
	  .summary = "end a divergence: name the side that is given up",
	  .args = { DISK, ARG_SIDE },
	  .help = "When both hosts wrote alone, status tells where they parted "
		  "and what each would\nlose.  What may differ is then copied, "
		  "and no more.\n",
	  .run = verb_resolve },
	{ .name = "checkpoint",
	  .summary = "name the disk's state, to ask later what changed since",
	  .args = { DISK, ARG_LIMIT },
	  .operands_min = 1,
	  .operands_max = 2,
	  .operands = "create NAME|list|delete NAME",
	  .help = "create ends when both hosts have the checkpoint.\n\n"
		  "Example:\n"
		  "  tap-ctl checkpoint -n vm1 create monday\n",
	  .run = verb_checkpoint },
	{ .name = "changed",
	  .summary = "tell what changed since a checkpoint",
	  .args = { DISK, ARG_SINCE, ARG_RAW },
	  .help = "A line for each range: its offset and length in bytes; then "
		  "whether the answer\nis exact or names too much.\n\n"
		  "Example:\n"
		  "  tap-ctl changed -n vm1 --since monday\n",
	  .run = verb_changed },
	{ .name = "metadata",
	  .summary = "look at a replica's metadata file, off line",
	  .operands_min = 2,
	  .operands_max = 2,
	  .operands = "dump|check FILE",
	  .help = "dump prints what the file holds, check only what is wrong "
		  "with it.\n\n"
		  "Example:\n"
		  "  tap-ctl metadata check /srv/vm1.img.meta\n",
	  .run = verb_metadata },
	{ .name = "driver",
	  .summary = "give an instruction to a driver of a disk",
	  .args = { DISK },
	  .operands_min = 2,
	  .operands_max = 2,
	  .operands = "TYPE INSTRUCTION",
	  .help = "INSTRUCTION is in the words of the driver TYPE.  Prints "
		  "its answer as JSON.\n",
	  .run = verb_driver },
	{ .name = "log-level",
	  .summary = "choose what a tapdisk logs",
	  .args = { DISK },
	  .operands_min = 1,
	  .operands_max = 1,
	  .operands = "error|warning|info|debug",
	  .run = verb_log_level },
	{ .name = "check",
	  .summary = "say whether disks can be served on this host",
	  .run = verb_check },
	{ .name = "major",
	  .summary = "print the major number of network block devices",
	  .run = verb_major },
	{ .name = NULL },
};

/* Toolstacks may say these.  Taking them and doing nothing would be a lie. */
static const struct {
	const char *verbs; /* " open create " */
	char letter;
	const char *instead;
} blktap_letters[] = {
	{ " open create ", 'e',
	  "a parent is found by the name that its child has for it" },
	{ " open create ", 'r',
	  "there is no read cache; the page cache is one, "
	  "with -D" },
	{ " open create unpause ", '2',
	  "a second copy is a replica: see --role and --peer" },
	{ " open create ", 's',
	  "what happens without room on the other copy is said by "
	  "--on-peer-loss" },
	{ " open create ", 'C',
	  "a log of changes is part of a replica's metadata: see --meta" },
	{ " unpause ", 'c',
	  "a log of changes is part of a replica's metadata: see --meta" },
	{ " open ", 'E', "no driver encrypts; encrypt the device below it" },
	{ " create allocate ", 'd',
	  "no device is made; clients find the disk at the address that is "
	  "printed" },
};

const char *
verb_instead_of(const struct verb *verb, int letter)
{
	char word[32];
	size_t i;

	(void)snprintf(word, sizeof(word), " %s ", verb->name);
	for (i = 0; i < sizeof(blktap_letters) / sizeof(blktap_letters[0]); i++)
		if (blktap_letters[i].letter == letter &&
		    strstr(blktap_letters[i].verbs, word))
			return blktap_letters[i].instead;
	return NULL;
}
