#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What is wrong gets one sentence, the guest gets the right errno, and what was
# written stays: images that cannot be served, addresses that are taken, a disk
# that is full, fails or hangs, garbage on the sockets, and clients that vanish,
# dawdle, or are too many.
# over: san
. "$(dirname "$0")/lib.sh"

need nbdcopy nbdinfo python3 cmp

tap_ctl() {
    timeout 30 "$BUILD/tap-ctl" "$@" --run-dir "$run_dir"
}

# refused TEXT TAPDISK-OPTION...: with status 1 and one sentence, beside what
# the log tells of the course.
refused() {
    local status=0
    timeout 20 "$BUILD/tapdisk" --run-dir "$run_dir" "${@:2}" \
        >"$work/failure" 2>&1 </dev/null || status=$?
    if [ "$status" -ne 1 ] ||
        ! grep -Eq -- "tapdisk: .*$1" "$work/failure" ||
        [ "$(grep -cvE "^20[^ ]+ info " "$work/failure")" -ne 1 ]; then
        cat "$work/failure"
        fail "status $status, or not the one sentence \"$1\": ${*:2}"
    fi
}

# What the clients below share.
cat >"$work/client.py" <<'PYTHON'
import errno, nbd, os, socket, struct, sys, time

MAGIC, OPTION, GO = b"NBDMAGIC", b"IHAVEOPT", 7
work = os.environ["work"]

def good(name):
    h = nbd.NBD()
    h.connect_uri("nbd+unix:///?socket=%s/%s.sock" % (work, name))
    return h

def raw(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(path)
    return s

def exactly(s, length):
    data = b""
    while len(data) < length:
        part = s.recv(length - len(data))
        assert part, "the server hung up"
        data += part
    return data

def in_transmission(name):
    s = raw("%s/%s.sock" % (work, name))
    assert exactly(s, 18).startswith(MAGIC)
    s.sendall(struct.pack(">I", 3) + OPTION +
              struct.pack(">IIIH", GO, 6, 0, 0))
    while True:
        option, kind, length = struct.unpack(">8xIII", exactly(s, 20))
        exactly(s, length)
        if kind == 1:
            return s
        assert kind == 3, kind

def command(kind, offset, length, cookie=1):
    return struct.pack(">IHHQQI", 0x25609513, 0, kind, cookie, offset, length)

def hears_the_end(s):
    try:
        while s.recv(1 << 16):
            pass
    except ConnectionError:
        pass

def fails(number, function, *words):
    try:
        function(*words)
    except nbd.Error as error:
        assert error.errnum == number, error
        return
    sys.exit("it did not fail")
PYTHON
client() { # the program is on stdin; it has its arguments in sys.argv
    timeout 60 env work="$work" PYTHONPATH="$work" python3 -c \
        'from client import *; exec(compile(sys.stdin.read(), "client", "exec"))' "$@"
}

# logged NAME TEXT: the log says it, with the disk's name.
logged() {
    grep -Eq "^20[^ ]+ (warning|error) $1 .*$2" "$work/$1.log" ||
        fail "the log of $1 does not say \"$2\""
}

in_flight() { # NAME COUNT
    tap_ctl status --json -n "$1" | grep -q "^  \"in_flight\": $2,"
}

disk=$work/disk
random_file "$disk" 8M
cp "$disk" "$work/original"

echo "- images that cannot be served"
: >"$work/empty"
head -c 511 /dev/urandom >"$work/short"
head -c 5121 /dev/urandom >"$work/ragged"
cp "$work/ragged" "$work/ragged.was"
refused "there is no driver 'vhdx'" "vhdx:$disk"
refused "there is no driver 'nonsense'" "nonsense:|aio:$disk"
refused "names no image: write type:path" "$disk"
refused "\"op=wriet\" is no word|wriet" "fault:op=wriet,hang|aio:$disk"
refused 'the options are' "lossy:tear=2|aio:$disk"
refused 'needs an image below it' fault:hang
refused 'there is no such file' "aio:$work/nowhere"
refused 'it is a directory: name a file in it' "aio:$work"
refused 'it is empty: give it the size of the disk' "aio:$work/empty"
refused 'it is shorter than one sector' "aio:$work/short"
refused 'does not end with a sector' "aio:$work/ragged"
cmp "$work/ragged" "$work/ragged.was"
[ ! -e "$work/nowhere" ] || fail "made what was missing"

echo "- an image without the right to write: served read-only, else refused"
as_nobody=()
if [ "$(id -u)" -eq 0 ]; then # whom nothing is forbidden
    as_nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
    mkdir -m 700 "$work/nobody"
    chown 65534:65534 "$work/nobody"
    chmod 711 "$work"
fi
"${as_nobody[@]}" test -x "$BUILD/tapdisk" || as_nobody=()
chmod 444 "$disk"
if [ ${#as_nobody[@]} -gt 0 ] || [ "$(id -u)" -ne 0 ]; then
    nobody_dir=$run_dir
    [ ${#as_nobody[@]} -eq 0 ] || nobody_dir=$work/nobody
    expect_failure 'opened for writing.*: serve it read-only' \
        timeout 20 "${as_nobody[@]}" "$BUILD/tapdisk" \
        --run-dir "$nobody_dir" "aio:$disk"
fi
start_tapdisk reader --read-only "aio:$disk"
client <<'PYTHON'
h = good("reader")
h.set_strict_mode(0)
fails(errno.EPERM, h.pwrite, bytes(512), 0)
PYTHON
stop_tapdisk
chmod 644 "$disk"

echo "- addresses that are taken, or are none"
start_tapdisk first --nbd tcp:127.0.0.1:0 ram:1M
port=$(tcp_port "$pid")
refused "tcp:127.0.0.1:$port: the port is in use: choose another" \
    --nbd "tcp:127.0.0.1:$port" "aio:$disk"
refused '70000 is not a port' --nbd tcp:127.0.0.1:70000 "aio:$disk"
refused 'is not an address: write unix:PATH or tcp:' --nbd nonsense "aio:$disk"
refused 'cannot listen on /nowhere/socket' --nbd unix:/nowhere/socket ram:1M
[ "$(nbdinfo --size "nbd://127.0.0.1:$port")" -eq 1048576 ] ||
    fail "the first is not served"
stop_tapdisk
cmp "$disk" "$work/original"

echo "- a full disk: ENOSPC; what was written stays, and there may be room again"
mkdir "$work/small"
if mount -t tmpfs -o size=4M tmpfs "$work/small" 2>/dev/null; then
    at_end umount "$work/small"
    make_room=(mount -o 'remount,size=32M' "$work/small")
    image=aio:$work/small/disk
else # as one who may not mount
    image="fault:op=write,from=4M,error=ENOSPC|aio:$work/small/disk"
    make_room=(tap_ctl driver -n full fault clear)
fi
truncate -s 8M "$work/small/disk"
start_tapdisk full "$image"
client <<'PYTHON'
h = good("full")
data = open(work + "/original", "rb").read()
h.pwrite(data[:1 << 20], 0)
h.flush()
failed = None
for offset in range(1 << 20, 8 << 20, 1 << 18):
    try:
        h.pwrite(data[offset:offset + (1 << 18)], offset)
    except nbd.Error as error:
        assert error.errnum == errno.ENOSPC, error
        failed = offset
        break
assert failed, "the disk was never full"
assert h.pread(failed, 0) == data[:failed], "what was written is lost"
h.flush()
open(work + "/failed", "w").write(str(failed))
PYTHON
logged full 'No space left on device'
logged full "offset $(cat "$work/failed")"
"${make_room[@]}" >"$work/out"
client <<'PYTHON'
h = good("full")
data = open(work + "/original", "rb").read()
failed = int(open(work + "/failed").read())
for offset in range(failed, 8 << 20, 1 << 18):
    h.pwrite(data[offset:offset + (1 << 18)], offset)
h.flush()
assert h.pread(8 << 20, 0) == data
PYTHON
stop_tapdisk
cmp "$work/small/disk" "$work/original"

echo "- a disk that fails, and one that hangs: EIO in time, and others go on"
start_tapdisk sick --request-timeout 1 \
    "fault:op=read,from=1M,to=2M,error=EIO,count=2;op=write,from=3M,to=4M,hang,count=1|aio:$disk"
client <<'PYTHON'
h, other = good("sick"), good("sick")
data = open(work + "/original", "rb").read()
fails(errno.EIO, h.pread, 4096, 1 << 20)
fails(errno.EIO, h.pread, 4096, (1 << 20) + 8192)
assert h.pread(4096, 1 << 20) == data[1 << 20:(1 << 20) + 4096]
begin = time.monotonic()
cookie = h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"1" * 4096)), 3 << 20)
answered, reads = False, 0
while not answered:
    assert other.pread(4096, 4 << 20) == data[4 << 20:(4 << 20) + 4096]
    reads += 1
    h.poll(1)
    try:
        answered = h.aio_command_completed(cookie)
        assert not answered, "a write that hangs was completed"
    except nbd.Error as error:
        assert error.errnum == errno.EIO, error
        answered = True
assert time.monotonic() - begin > 0.9, "it was not given its time"
assert reads > 5, "another client's read had to wait: %d reads" % reads
PYTHON
logged sick 'Input/output error'
logged sick "offset 1048576"
logged sick "offset 3145728"
in_flight sick 1 || fail "the hung request let go of its buffer"
tap_ctl driver -n sick fault release >"$work/out"
wait_until in_flight sick 0
client <<'PYTHON'
h = good("sick")
h.pwrite(b"2" * 4096, 3 << 20)
h.flush()
assert h.pread(4096, 3 << 20) == b"2" * 4096
data = open(work + "/original", "rb").read()
h.pwrite(data[3 << 20:(3 << 20) + 4096], 3 << 20)
assert h.pread(8 << 20, 0) == data
PYTHON
stop_tapdisk
cmp "$disk" "$work/original"

echo "- garbage on the NBD socket and the control socket"
start_tapdisk rubbish --nbd tcp:127.0.0.1:0 "aio:$disk"
port=$(tcp_port "$pid")
client "$port" "$run_dir/ctl$pid" <<'PYTHON'
import json, random
port, control = int(sys.argv[1]), sys.argv[2]
random.seed(1)
noise = random.randbytes(1 << 20)
h = good("rubbish")
flags = struct.pack(">I", 3)

def both():
    yield raw(work + "/rubbish.sock")
    yield socket.create_connection(("127.0.0.1", port), 20)

# first, as the log takes no more than 16 drops a minute
for words in (noise, command(1, 0, 1 << 31) + noise):
    s = in_transmission("rubbish")
    try:
        s.sendall(words)
    except ConnectionError:
        pass
    hears_the_end(s)
    h.pread(512, 0)
for words in (noise, bytes(1 << 20), b"\xff" * 65536,
              b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
              b"\x16\x03\x01\x02\x00\x01\x00" + noise[:512],
              flags + noise, flags + OPTION + b"\xff" * 64,
              flags + OPTION + struct.pack(">II", GO, 1 << 31)):
    for s in both():
        try:
            s.sendall(words)
        except ConnectionError:
            pass
        hears_the_end(s)
    h.pread(512, 0)

def said(words):
    s = raw(control)
    try:
        s.sendall(words)
        s.shutdown(socket.SHUT_WR)
        answers = b"".join(iter(lambda: s.recv(1 << 16), b""))
    except ConnectionError:
        return []
    return [json.loads(line) for line in answers.decode().splitlines()]

for words in (b"nonsense\n", b"\xff\xfe\n", b"[]\n", b"7\n", b"{}\n",
              b'{"command": 7}\n', b'{"command": "nonsense"}\n',
              b'{"command": "status", "arguments": 7}\n',
              b'{"command": "status", "surplus": 7}\n',
              b'{"version": 99, "command": "status"}\n',
              b"[" * 60000 + b"\n"):
    answers = said(words)
    assert len(answers) == 1, (words[:64], answers)
    message = answers[0]["error"]["message"]
    assert message and "\n" not in message, answers
    assert answers[0]["error"]["errno"], answers
for words in (b"x" * (1 << 20), b'{"command": "sta', bytes(4096)):
    for answer in said(words):
        assert "error" in answer, answer
assert h.pread(8 << 20, 0) == open(work + "/original", "rb").read()
PYTHON
logged rubbish 'dropped: it does not speak NBD'
logged rubbish 'dropped: unknown client flags'
logged rubbish 'dropped: a command without its magic'
tap_ctl status -n rubbish >"$work/out"
stop_tapdisk
cmp "$disk" "$work/original"

echo "- clients that vanish in the middle of a request"
start_tapdisk vanish "fault:op=write,from=4M,to=5M,hang,count=1|aio:$disk"
client <<'PYTHON'
data = open(work + "/original", "rb").read()
for part in (1, 4096, 300000, (1 << 20) - 1):
    s = in_transmission("vanish")
    s.sendall(command(1, 1 << 20, 1 << 20) + b"\xee" * part)
    s.close()
s = in_transmission("vanish")
s.sendall(command(1, 2 << 20, 1 << 20)[:20])
s.close()
s = in_transmission("vanish")
s.sendall(b"".join(command(0, i << 20, 1 << 20, i) for i in range(8)))
s.recv(100)
s.close()
s = in_transmission("vanish")
s.sendall(command(1, 4 << 20, 4096) + b"\xee" * 4096)
s.close()
h = good("vanish")
assert h.pread(4 << 20, 0) == data[:4 << 20], "half of a write was written"
PYTHON
wait_until in_flight vanish 1
tap_ctl driver -n vanish fault release >"$work/out"
wait_until in_flight vanish 0
client <<'PYTHON'
h = good("vanish")
data = open(work + "/original", "rb").read()
assert h.pread(4096, 4 << 20) == b"\xee" * 4096, "a whole write is lost"
h.pwrite(data[4 << 20:(4 << 20) + 4096], 4 << 20)
assert h.pread(8 << 20, 0) == data
PYTHON
stop_tapdisk
cmp "$disk" "$work/original"

echo "- clients that dawdle, and too many of them: turned away, in bounded memory"
start_tapdisk crowd "aio:$disk"
client "$pid" <<'PYTHON'
path, pid = work + "/crowd.sock", sys.argv[1]

def memory():
    with open("/proc/%s/status" % pid) as status:
        return next(int(line.split()[1]) for line in status
                    if line.startswith("VmRSS"))

h = good("crowd")
h.pread(1 << 20, 0)
begin = time.monotonic()
half = OPTION + struct.pack(">II", GO, 600) + b"x" * 300
dawdling = []
for i in range(15):
    s = raw(path)
    s.sendall([b"", struct.pack(">I", 3), struct.pack(">I", 3) + half][i % 3])
    exactly(s, 18)
    dawdling.append(s)
before = memory()
for i in range(500):
    s = raw(path)
    assert s.recv(18) == b"", "one client too many was let in"
    s.close()
    h.pread(4096, 0)
grown = memory() - before
assert grown < 8 << 10, "500 clients that were turned away: %d KiB" % grown
# The last dawdler says a byte at a time, which is no progress to speak of.
dribbling, reads = dawdling[1], 0
while True:
    h.pread(4096, 0)
    reads += 1
    try:
        dribbling.sendall(OPTION[:1])
    except ConnectionError:
        break
    time.sleep(0.1)
    assert time.monotonic() - begin < 60, "nobody ends the dawdlers"
for s in dawdling:
    hears_the_end(s)
assert time.monotonic() - begin > 9, "they were not given their time"
assert reads > 5, "the others wait for the dawdlers: %d reads" % reads
assert good("crowd").pread(512, 0) == h.pread(512, 0)
PYTHON
logged crowd 'turned away: too many are connected'
logged crowd 'dropped: handshake not finished in 10 s'
stop_tapdisk
cmp "$disk" "$work/original"
