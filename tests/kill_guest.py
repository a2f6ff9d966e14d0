#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A guest that remembers, for stories in which hosts are killed.

It writes at random, some writes with FUA, some flushes between, several at a
time, and remembers of each block what was acknowledged and what a flush has
covered since.  Commands come on standard input, one a line; each is answered
by a line on standard output.

  attach URI new      a disk that it has not seen; go on writing
  attach URI strict   every block holds what was acknowledged last, or what was
                      on its way when the connection was lost
  attach URI crash    each sector holds that, or what was there before and no
                      flush has covered: whoever serves now had lost power.
                      Then go on writing
  run COUNT           wait until so many more are acknowledged
  lost                wait until the connection is lost
  end                 complete what is on its way, flush, and end

An answer begins with "ok", or with "wrong" and the first lie that was found.
"""
import os
import random
import select
import struct
import sys

import nbd

BLOCK, SECTOR = 4096, 512
SECTORS = BLOCK // SECTOR
BLOCKS = 1024
SPAN = 7  # only each so many-th block of the disk is written to
DEPTH = 8


class Block:
    def __init__(self, data):
        self.sectors = versions(data)  # what reads
        self.older = []  # (version, when it was written over), not flushed
        self.maybe = None  # on its way
        self.maybe_done = 0  # the event of its end

    def allowed(self, index, crash):
        allowed = {self.sectors[index]}
        if self.maybe is not None:
            allowed.add(self.maybe)
        if crash:
            allowed.update(old[index] for old, _ in self.older)
        return allowed


def versions(data):
    """What each sector holds: the number in it, if it is one of ours."""
    found = []
    for at in range(0, BLOCK, SECTOR):
        sector = bytes(data[at:at + SECTOR])
        number = sector[:8]
        found.append(struct.unpack("<Q", number)[0]
                     if sector == number * (SECTOR // 8) else sector)
    return found


class Guest:
    def __init__(self):
        self.blocks = {}
        self.handle = None
        self.event = 0
        self.number = 0
        self.acked = 0
        self.under_way = {}  # block: number
        self.flushing = False
        self.quiet = True
        self.failures = []

    # --- requests ---

    def on_written(self, at, number, fua, error):
        block = self.blocks[at]
        if error:
            self.failures.append(error)
            return 1  # it stays a maybe
        del self.under_way[at]
        self.event += 1
        self.acked += 1
        block.older.append((block.sectors, self.event))
        block.sectors = [number] * SECTORS
        block.maybe = None
        if fua:
            block.older = []
        return 1

    def on_flushed(self, mark, error):
        self.flushing = False
        if error:
            self.failures.append(error)
            return 1
        self.acked += 1
        for block in self.blocks.values():
            block.older = [(old, event) for old, event in block.older
                           if event > mark]
        return 1

    def write(self):
        at = random.randrange(BLOCKS)
        if at in self.under_way:
            return
        self.number += 1
        fua = random.random() < 0.1
        number = self.number
        buffer = nbd.Buffer.from_bytearray(
            bytearray(struct.pack("<Q", number) * (BLOCK // 8)))
        self.under_way[at] = number
        self.blocks[at].maybe = number
        self.handle.aio_pwrite(
            buffer, at * SPAN * BLOCK, flags=nbd.CMD_FLAG_FUA if fua else 0,
            completion=lambda error: self.on_written(at, number, fua,
                                                     error.value))

    def flush(self):
        if self.flushing:
            return
        self.flushing = True
        mark = self.event
        self.handle.aio_flush(
            completion=lambda error: self.on_flushed(mark, error.value))

    # --- turns ---

    def is_lost(self):
        return self.handle is None

    def turn(self):
        """Something happens, or 10 ms pass."""
        if self.handle is None:
            return
        try:
            while not self.quiet and len(self.under_way) < DEPTH:
                if random.random() < 0.02:
                    self.flush()
                self.write()
            self.handle.poll(10)
        except nbd.Error:
            self.handle = None
        if self.handle is not None and (self.handle.aio_is_dead() or
                                        self.handle.aio_is_closed()):
            self.handle = None
        if self.handle is None:
            self.under_way = {}
            self.flushing = False
            self.failures = []  # what else should they have got

    # --- commands ---

    def check(self, crash):
        for at in range(BLOCKS):
            data = self.handle.pread(BLOCK, at * SPAN * BLOCK)
            if at not in self.blocks:
                self.blocks[at] = Block(data)
                continue
            block, found = self.blocks[at], versions(data)
            for index in range(SECTORS):
                if found[index] not in block.allowed(index, crash):
                    return "wrong: block %d, sector %d holds %.60r, not %s" % (
                        at, index, found[index],
                        " or ".join("%.60r" % value for value in
                                    block.allowed(index, crash)))
            self.event += 1
            if crash:
                block.older = []
            elif found != block.sectors:
                block.older.append((block.sectors, self.event))
            block.sectors = found
            block.maybe = None
        return "ok"

    def attach(self, uri, how):
        self.handle = nbd.NBD()
        self.handle.connect_uri(uri)
        if how == "new":
            self.blocks = {}
        answer = self.check(how == "crash")
        self.quiet = answer != "ok"
        return answer

    def run(self, count):
        until = self.acked + int(count)
        while self.acked < until:
            if self.failures:
                return "wrong: a request failed with errno %d" % (
                    self.failures[0])
            if self.is_lost():
                return "wrong: the connection is lost"
            self.turn()
        return "ok"

    def lost(self):
        while not self.is_lost():
            self.turn()
        return "ok"

    def end(self):
        self.quiet = True
        while self.under_way or self.flushing:
            self.turn()
            if self.is_lost():
                return "wrong: the connection is lost"
        self.handle.flush()
        self.handle.shutdown()
        self.handle = None
        return "ok, %d writes and flushes acknowledged" % self.acked


def main():
    guest = Guest()
    random.seed(int(sys.argv[1]))
    pending = b""
    os.set_blocking(0, False)
    while True:
        if select.select([0], [], [], 0.05 if guest.is_lost() else 0)[0]:
            more = os.read(0, 4096)
            if not more:
                return
            pending += more
        while b"\n" in pending:
            line, pending = pending.split(b"\n", 1)
            words = line.decode().split()
            print(getattr(guest, words[0])(*words[1:]), flush=True)
        guest.turn()


if __name__ == "__main__":
    main()
