#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The driver fault, ordered about with tap-ctl while a disk runs and a guest
# writes and verifies beside: by operation, range, n-th and probability; errors,
# delays, hangs and corruption reach the clients they are meant for, and nobody
# else.  A discard held for 10 s delays no other client's read.
# over: san io
. "$(dirname "$0")/lib.sh"

need python3
python3 -c 'import nbd' 2>/dev/null || skip "python3-libnbd is missing"

truncate -s 16M "$work/disk"
start_tapdisk disk "fault:|aio:$work/disk"
# shellcheck disable=SC2154 # lib.sh sets it
python3 - "$BUILD/tap-ctl" "$run_dir" "$uri" <<'END'
import errno, json, os, subprocess, sys, time
import nbd

tap_ctl, run_dir, uri = sys.argv[1:]
K, M = 1 << 10, 1 << 20


def fault(instruction):
    answer = subprocess.run(
        [tap_ctl, "driver", "--run-dir", run_dir, "-n", "disk", "fault",
         instruction], check=True, capture_output=True, timeout=30).stdout
    return json.loads(answer)


def client():
    handle = nbd.NBD()
    handle.connect_uri(uri)
    return handle


def fails(call, *arguments):
    """The errno that it fails with; 0."""
    try:
        call(*arguments)
    except nbd.Error as error:
        return error.errnum
    return 0


def want(what, got, wanted):
    if got != wanted:
        sys.exit("%s: %r, not %r" % (what, got, wanted))


# --- a guest that must not notice anything ---

def guest(stop):
    """Writes and verifies its half, until `stop` is readable."""
    handle, rounds = client(), 0
    os.set_blocking(stop, False)
    while True:
        rounds += 1
        data = os.urandom(256 * K)
        offset = 8 * M + rounds % 32 * 256 * K
        handle.pwrite(data, offset)
        if bytes(handle.pread(len(data), offset)) != data:
            os._exit(1)
        try:
            if os.read(stop, 1) == b"":
                os._exit(0 if rounds > 10 else 2)
        except BlockingIOError:
            pass


stop, hold = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(hold)
    try:
        guest(stop)
    finally:
        os._exit(3)
os.close(stop)

a, b = client(), client()
for i in range(8):
    a.pwrite(bytes([i + 1]) * M, i * M)

print("by operation")
fault("add op=flush,error=EIO")
want("flush", fails(a.flush), errno.EIO)
want("write", fails(a.pwrite, bytes(K), 0), 0)
want("read", fails(a.pread, K, 0), 0)
fault("clear")
want("flush, cleared", fails(a.flush), 0)

print("by range, for every client")
fault("add op=write,from=1M,to=2M,error=ENOSPC")
for handle in (a, b):
    for offset, error in ((M - 4 * K, 0), (M - 2 * K, errno.ENOSPC),
                          (M, errno.ENOSPC), (2 * M - K, errno.ENOSPC),
                          (2 * M, 0)):
        want("write at %d" % offset, fails(handle.pwrite, bytes(4 * K),
                                           offset), error)
    want("read", fails(handle.pread, 4 * K, M), 0)
want("what had failed", bytes(a.pread(8 * K, 2 * M - 8 * K)),
     bytes([2]) * 8 * K)
fault("clear")
want("write, cleared", fails(a.pwrite, bytes([2]) * 4 * K, M), 0)

print("from the n-th, so many times")
fault("add op=read,from=4M,to=5M,nth=3,count=2,error=EIO")
want("reads", [fails(a.pread, K, 4 * M) for i in range(6)],
     [0, 0, errno.EIO, errno.EIO, 0, 0])
rule = fault("list")["rules"][0]
want("list", (rule["rule"], rule["matched"], rule["hits"]),
     ("op=read,from=4M,to=5M,nth=3,count=2,error=EIO", 6, 2))
fault("clear")
want("list, cleared", fault("list"), {"rules": [], "hung": 0, "delayed": 0})


def draw(seed):
    fault("add op=read,from=4M,to=5M,probability=0.3,seed=%d,error=EIO" % seed)
    drawn = [fails(a.pread, K, 4 * M) != 0 for i in range(300)]
    fault("clear")
    return drawn


print("by probability: a seed repeats it")
first = draw(7)
want("the same seed", draw(7), first)
want("another seed", draw(8) == first, False)
want("how many of 300 at 0.3", 60 < sum(first) < 120, True)

print("rules in their order; all of them or none")
fault("add op=read,from=4M,to=4608K,error=ENOSPC;op=read,from=4M,to=5M,"
      "error=EIO")
want("both match", fails(a.pread, K, 4 * M), errno.ENOSPC)
want("the second", fails(a.pread, K, 5 * M - K), errno.EIO)
refused = subprocess.run(
    [tap_ctl, "driver", "--run-dir", run_dir, "-n", "disk", "fault",
     "add error=EIO;error=EBAD_LUCK"], capture_output=True, timeout=30)
want("status of a bad rule", refused.returncode, 1)
want("its sentence", b"\"error=EBAD_LUCK\" is no word" in refused.stderr, True)
want("rules", len(fault("list")["rules"]), 2)
fault("clear")

print("corruption")
fault("add op=read,from=5M,to=5121K,corrupt")
data = bytes(a.pread(4 * K, 5 * M))
want("bytes that differ", sum(x != 6 for x in data), 1)
fault("clear")
want("once cleared", bytes(a.pread(4 * K, 5 * M)), bytes([6]) * 4 * K)


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            sys.exit("nothing happened in 30 s")
        a.poll(10)


print("what hangs goes on when it is released, not when the rule is gone")
fault("add op=write,from=6M,to=7M,hang")
cookie = a.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"h" * 4096)), 6 * M)
wait_for(lambda: fault("list")["hung"] == 1)
want("another's read of it", bytes(b.pread(4 * K, 6 * M)), bytes([7]) * 4 * K)
fault("clear")
want("hung", fault("list")["hung"], 1)
want("is done", bool(a.aio_command_completed(cookie)), False)
want("released", fault("release"), {"released": 1})
wait_for(lambda: a.aio_command_completed(cookie))
want("is there", bytes(b.pread(4 * K, 6 * M)), b"h" * 4096)

print("a discard held for 10 s delays no other client's read")
fault("add op=discard,delay=10s")
begun = time.monotonic()
cookie = a.aio_trim(M, 7 * M)
wait_for(lambda: fault("list")["delayed"] == 1)
slowest = reads = 0
done = False
while reads < 500 and not done:
    before = time.monotonic()
    b.pread(4 * K, reads * 4 * K % (7 * M))
    slowest = max(slowest, time.monotonic() - before)
    reads += 1
    a.poll(0)
    done = bool(a.aio_command_completed(cookie))
print("%d reads beside it, the slowest %.1f ms" % (reads, slowest * 1e3))
want("enough reads", reads > 50, True)
want("slower than 5 s", slowest > 5, False)
wait_for(lambda: done or a.aio_command_completed(cookie))
want("10 s have passed", time.monotonic() - begun >= 10, True)

os.close(hold)
want("the guest beside", os.waitpid(pid, 0)[1], 0)
a.shutdown()
b.shutdown()
END
stop_tapdisk
