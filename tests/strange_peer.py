#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A peer that is none, or lies; written after docs/protocol.md.

strange_peer.py PORT HOW   listens on loopback, and answers whoever calls

  garbage   with bytes of another protocol
  silence   with nothing
  newer     that it speaks the next version only
  sectors   as a copy of the caller with other sectors
  disk      as a replica of another disk
  liar      as a new, empty secondary, which then acknowledges what it never got
"""
import hashlib
import hmac
import os
import socket
import struct
import sys

HEADER = 64
HELLO, AUTH, BEGIN, BEGUN, ACK = 1, 2, 4, 5, 9
FIXED = 216  # bytes of a hello before the history
NO_HISTORY = bytes(48)


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def exactly(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def hear(connection, wanted):
    while True:
        header = exactly(connection, HEADER)
        payload = exactly(connection, struct.unpack_from("<I", header, 40)[0])
        if struct.unpack_from("<H", header, 4)[0] == wanted:
            return payload


def say(connection, kind, payload, session=0):
    header = bytearray(HEADER)
    struct.pack_into("<4sHHQ", header, 0, b"TDR1", kind, 0, session)
    struct.pack_into("<II", header, 40, len(payload),
                     crc32c(payload) if payload else 0)
    struct.pack_into("<I", header, 60, crc32c(header[:60]))
    connection.sendall(header + payload)


def our_hello(theirs, how):
    """What we say is what we heard, but for what is strange about it."""
    hello = bytearray(theirs)
    if how == "newer":
        version = struct.unpack_from("<H", hello, 2)[0]
        struct.pack_into("<HH", hello, 0, version + 1, version + 1)
        return hello
    struct.pack_into("<H", hello, 14, 2)  # a secondary
    hello[40:56] = os.urandom(16)  # the replica's id
    hello[120:152] = os.urandom(32)  # the nonce
    struct.pack_into("<QQ", hello, 72, 1, 0)  # incarnations
    if how == "sectors":
        struct.pack_into("<I", hello, 20, 4096)
    elif how == "disk":
        hello[24:40] = os.urandom(16)
    else:
        struct.pack_into("<I", hello, 16, 0)  # flags
        hello[24:40] = bytes(16)
        struct.pack_into("<Q", hello, 112, 0)  # the epoch
        hello = hello[:FIXED] + NO_HISTORY
    return hello


def speak(connection, how):
    theirs = hear(connection, HELLO)
    ours = our_hello(theirs, how)
    say(connection, HELLO, bytes(ours))
    proof = b"L" + bytes(32) + bytes(ours) + theirs
    say(connection, AUTH, hmac.new(b"", proof, hashlib.sha256).digest())
    if how != "liar":
        connection.recv(65536)
        return
    begin = hear(connection, BEGIN)
    session = struct.unpack_from("<Q", begin)[0]
    say(connection, BEGUN, b"")
    say(connection, ACK, struct.pack("<QHHI", 1000, 2, 0, 0), session)
    connection.recv(65536)


def main():
    port, how = int(sys.argv[1]), sys.argv[2]
    server = socket.create_server(("127.0.0.1", port))
    held = []
    while True:
        connection, _ = server.accept()
        try:
            if how == "garbage":
                connection.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n" * 8)
                connection.recv(4096)
            elif how != "silence":
                speak(connection, how)
        except (OSError, EOFError):
            pass
        held.append(connection)  # and says nothing more


if __name__ == "__main__":
    main()
