# SPDX-License-Identifier: BSD-3-Clause
"""What the benches share: servers of a disk, and a guest that measures them.

The guest is fio's nbd engine; what it is told stands in a Workload.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time

MIB = 1 << 20
TICK = os.sysconf("SC_CLK_TCK")


class Peer:
    """What serves a disk.

    `commands(place)` gives the command lines to start, in this order; `place`
    has .file (the disk's file), .copy (that of a mirror's second copy), .port
    (a free one), .socket (where the guest connects), .directory (for anything
    else), and .build.  A command is ready when something listens on the socket
    named with it; the peer is when `settle(place)` has returned.  CPU time is
    counted over all commands.
    """

    def __init__(self, name, group, program, commands, settle=None):
        self.name = name
        self.group = group
        self.program = program
        self.commands = commands
        self.settle = settle


def until(question, what):
    end = time.monotonic() + 60
    while not question():
        if time.monotonic() > end:
            raise RuntimeError("gave up waiting: " + what)
        time.sleep(0.05)


class Workload:
    def __init__(self, name, rw, block, depth):
        self.name = name
        self.options = ["--rw=" + rw, "--bs=%d" % block,
                        "--iodepth=%d" % depth]
        self.side = "write" if "write" in rw else "read"
        self.in_mib = block >= MIB


class Place:
    def __init__(self, root, number, build):
        self.build = build
        self.directory = os.path.join(root, "peer%d" % number)
        os.mkdir(self.directory, 0o700)
        self.file = os.path.join(self.directory, "disk")
        self.copy = os.path.join(self.directory, "copy")
        self.socket = os.path.join(self.directory, "nbd")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]


def make_disk(path, size, sparse=False):
    with open(path, "wb") as disk:
        if sparse:
            disk.truncate(size)
            return
        for _ in range(size // MIB):
            disk.write(os.urandom(4096) * (MIB // 4096))


class Server:
    """A peer that runs."""

    def __init__(self, peer, place, size, sparse=False):
        self.peer = peer
        self.place = place
        self.processes = []
        make_disk(place.file, size, sparse)
        if peer.group == "mirror":
            shutil.copyfile(place.file, place.copy)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self):
        peer, place = self.peer, self.place
        for command, path in peer.commands(place):
            print("  " + " ".join(command))
            log = open(os.path.join(place.directory, "log"), "ab")
            self.processes.append(subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True))
            log.close()
            self.wait_for(path)
        if peer.settle:
            peer.settle(place)

    def wait_for(self, path):
        end = time.monotonic() + 30
        while not listens(path):
            if self.processes[-1].poll() is not None or \
                    time.monotonic() > end:
                with open(os.path.join(self.place.directory, "log")) as log:
                    sys.stdout.write(log.read())
                raise RuntimeError("%s did not start" % self.peer.name)
            time.sleep(0.02)

    def cpu_s(self):
        """Seconds of CPU, user and system, of all threads so far."""
        ticks = 0
        for process in self.processes:
            with open("/proc/%d/stat" % process.pid) as stat:
                fields = stat.read().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def listens(path):
    with open("/proc/net/unix") as table:
        for line in table:
            fields = line.split()
            if fields[-1] == path and fields[3] == "00010000":
                return True
    return False


def fio_command(workload, path, size, seconds):
    return ["fio", "--name=bench", "--ioengine=nbd",
            "--uri=nbd+unix:///?socket=" + path] + workload.options + [
                "--size=%d" % size, "--time_based",
                "--runtime=%dms" % round(seconds * 1000), "--norandommap",
                "--output-format=json"]


def measure(server, workload, size, seconds):
    """IOPS (or MiB/s) as the guest sees it, and CPU us per I/O."""
    before = server.cpu_s()
    run = subprocess.run(
        fio_command(workload, server.place.socket, size, seconds),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, check=False,
        start_new_session=True) # an interrupt is ours
    cpu_s = server.cpu_s() - before
    if run.returncode != 0:
        raise RuntimeError("fio on %s: %s%s" % (
            server.peer.name, run.stdout, run.stderr))
    # fio may say something before its JSON
    job = json.loads(run.stdout[run.stdout.index("{\n"):])["jobs"][0]
    side = job[workload.side]
    rate = side["bw_bytes"] / MIB if workload.in_mib else side["iops"]
    return rate, cpu_s * 1e6 / max(1, side["total_ios"])


def median_of_ratios(mine, other):
    return statistics.median(m / o for m, o in zip(mine, other) if o)


def spread(values):
    """Half of the range that the middle half of the rounds covers, in %."""
    if len(values) < 4:
        low, high = min(values), max(values)
    else:
        low, _, high = statistics.quantiles(values, n=4)
    return 50 * (high - low) / statistics.median(values)
