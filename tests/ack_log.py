#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A client that keeps account of what was acknowledged.

ack_log.py write URI LOG [BLOCKS]
                           writes blocks at random, each with its number in it,
                           until the server goes away or SIGTERM comes; a line
                           "block number"
                           in LOG for each write that was acknowledged.  The
                           file BLOCKS lists the blocks (4096 bytes) to write
ack_log.py check URI LOG   each block holds the last acknowledged number, or a
                           later one that was under way at the end: when the
                           writer died with its host LOG does not say which
"""
import random
import signal
import struct
import sys

import nbd

BLOCK = 4096
BLOCKS = range(1024)


def connect(uri):
    handle = nbd.NBD()
    handle.connect_uri(uri)
    return handle


def write(uri, path, list_path=None):
    handle = connect(uri)
    blocks = BLOCKS
    if list_path:
        with open(list_path, encoding="ascii") as text:
            blocks = [int(word) for word in text.read().split()]
    told_to_stop = []
    signal.signal(signal.SIGTERM, lambda *_: told_to_stop.append(True))
    with open(path, "w", buffering=1, encoding="ascii") as log:
        number = 0
        while not told_to_stop:
            number += 1
            block = random.choice(blocks)
            data = struct.pack("<Q", number) * (BLOCK // 8)
            try:
                handle.pwrite(data, block * BLOCK)
            except nbd.Error:
                log.write(f"{block} {-number}\n")
                break
            log.write(f"{block} {number}\n")


def check(uri, path):
    last, pending = {}, {}
    with open(path, encoding="ascii") as log:
        for line in log:
            block, number = map(int, line.split())
            if number > 0:
                last[block] = number
            else:
                pending[block] = -number
    handle = connect(uri)
    wrong = 0
    under_way = max(last.values(), default=0) + 1
    for block, number in last.items():
        data = handle.pread(BLOCK, block * BLOCK)
        allowed = [number, pending.get(block, under_way)]
        if data not in [struct.pack("<Q", n) * (BLOCK // 8) for n in allowed]:
            found = struct.unpack_from("<Q", data)[0]
            print(f"block {block}: {found} instead of {number}")
            wrong += 1
    print(f"{len(last)} blocks checked, {wrong} wrong")
    sys.exit(1 if wrong or not last else 0)


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](*sys.argv[2:])

