#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The daemon as a process: it locks its image against others, sees requests
# through when it is told to stop and says so when it cannot, follows its log,
# leaves no sockets, lets nobody else in, and goes to the background only when
# it serves.
# over: san
. "$(dirname "$0")/lib.sh"

need qemu-io qemu-nbd nbdinfo python3 cmp

tap_ctl() {
    "$BUILD/tap-ctl" "$@" --run-dir "$run_dir"
}

tapdisk() {
    timeout 20 "$BUILD/tapdisk" --run-dir "$run_dir" "$@"
}

# end_tapdisk SIGNAL STATUS [PID]: it ends with this status.
end_tapdisk() {
    local status=0 which=${3:-$pid}
    kill "-$1" "$which"
    wait_until ended "$which"
    wait "$which" || status=$?
    [ "$status" -eq "$2" ] || fail "SIG$1: status $status, not $2"
}

under_way() { # NAME COUNT: so many requests
    tap_ctl status --json -n "$1" | grep -q "^  \"in_flight\": $2,"
}

expect_status() { # STATUS COMMAND...
    local status=0 want=$1
    shift
    "$@" >"$work/out" 2>&1 </dev/null || status=$?
    [ "$status" -eq "$want" ] || {
        cat "$work/out"
        fail "status $status, not $want: $*"
    }
}

one_sentence() { # in $work/failure, beside what the log tells of the course
    [ "$(grep -cvE "^20[^ ]+ info " "$work/failure")" -eq 1 ] || {
        cat "$work/failure"
        fail "not one sentence"
    }
}

disk=$work/disk
random_file "$disk" 8M
cp "$disk" "$work/original"

echo "- an open image is locked, against a second tapdisk and QEMU"
start_tapdisk first "aio:$disk"
expect_failure "$disk is in use by another process .*: stop that first" \
    tapdisk --name second "aio:$disk"
one_sentence
expect_failure "$disk is in use" tapdisk --read-only "aio:$disk"
for opening in "qemu-io -f raw" "qemu-io -r -f raw" \
    "qemu-nbd -f raw -k $work/qemu.sock"; do
    # shellcheck disable=SC2086 # a command and its words
    expect_failure "Is another process using the image \\[$disk\\]" \
        timeout 20 $opening "$disk"
done
expect_failure "a disk named first is being served already" \
    tapdisk --name first ram:1M
one_sentence
[ "$(nbdinfo --size "$uri")" -eq $((8 << 20)) ] || fail "the first went on"
stop_tapdisk
cmp "$disk" "$work/original"

echo "- and we are refused while QEMU has it; readers share"
qemu-nbd -t -f raw -k "$work/qemu.sock" "$disk" >"$work/qemu.log" 2>&1 &
qemu=$!
pids+=("$qemu")
wait_until is_listening "$work/qemu.sock"
expect_failure "$disk is in use by another process" tapdisk "aio:$disk"
one_sentence
kill $qemu
wait $qemu || true
start_tapdisk reader1 --read-only "aio:$disk"
one=$pid
start_tapdisk reader2 --read-only "aio:$disk"
qemu-io -r -f raw -c 'read 0 4k' "$disk" >"$work/out"
expect_failure "is in use" tapdisk "aio:$disk"
stop_tapdisk "$one"
stop_tapdisk

echo "- SIGTERM: what came is completed, flushed and answered"
start_tapdisk drain "fault:op=write,hang|lossy:|aio:$disk"
qemu-io -f raw -c 'write -P 0xa5 64k 64k' "$uri" >"$work/qemu.out" 2>&1 &
client=$!
pids+=("$client")
wait_until under_way drain 1
kill "$pid"
wait_until grep -q 'daemon: stops' "$work/drain.log"
expect_failure 'No such file' nbdinfo "$uri"
tap_ctl driver -n drain fault release >"$work/out"
wait_until ended "$pid"
wait "$pid" || fail "SIGTERM: status $?"
wait $client || { cat "$work/qemu.out"; fail "the client got no answer"; }
grep -q 'wrote 65536/65536' "$work/qemu.out" || fail "not written"
cmp <(head -c 65536 /dev/zero | tr '\0' '\245') \
    <(tail -c +65537 "$disk" | head -c 65536) || fail "not on the disk"
[ -z "$(ls "$run_dir")" ] || fail "left behind: $(ls "$run_dir")"
[ ! -e "$work/drain.sock" ] || fail "the NBD socket was left behind"

# Without the limits that are set here it would be 30 s.
echo "- SIGINT: the same; a client that takes no answers is cut off in time"
start_tapdisk stay --stop-timeout 2 "aio:$disk"
nbdsh -u "$uri" -c 'import sys' \
    -c 'for i in range(32): h.aio_pread(nbd.Buffer(1 << 18), i << 18)' \
    -c 'print("asked", flush=True); sys.stdin.readline()' \
    >"$work/asked" < <(wait_until ended "$pid") &
client=$!
pids+=("$client")
wait_until grep -qs asked "$work/asked"
begin=$SECONDS
end_tapdisk INT 0
[ $((SECONDS - begin)) -lt 25 ] || fail "it took $((SECONDS - begin)) s"
wait $client || true

echo "- a disk that hangs: the limit holds, the status and a sentence tell"
start_tapdisk hung --stop-timeout 1 "fault:op=write,hang|aio:$disk"
qemu-io -f raw -c 'write 0 4k' "$uri" >"$work/qemu.out" 2>&1 &
client=$!
pids+=("$client")
wait_until under_way hung 1
begin=$SECONDS
end_tapdisk TERM 3
[ $((SECONDS - begin)) -lt 25 ] || fail "it took $((SECONDS - begin)) s"
grep -q 'error hung daemon: not stopped within 1 s: 1 request' \
    "$work/hung.log" || fail "no sentence in the log"
[ -z "$(ls "$run_dir")" ] || fail "left behind: $(ls "$run_dir")"
wait $client || true

echo "- SIGHUP: the log is opened anew"
start_tapdisk rotate --log "file:$work/rotated" "aio:$disk"
mv "$work/rotated" "$work/rotated.1"
kill -HUP "$pid"
wait_until grep -qs 'log opened again' "$work/rotated"
tap_ctl resize -n rotate
qemu-io -f raw -c 'read 0 4k' "$uri" >"$work/out"
grep -q 'uses export' "$work/rotated" || fail "the new log is not used"
! grep -q 'uses export' "$work/rotated.1" || fail "the old log is used"
stop_tapdisk

echo "- what a dead process left is removed, and its socket taken over"
start_tapdisk dead "aio:$disk"
dead=$pid
kill_tapdisk
[ -e "$run_dir/ctl$dead" ] || fail "nothing left to be removed"
[ -e "$work/dead.sock" ] || fail "nothing left to be taken over"
expect_status 3 tap_ctl status -n dead
start_tapdisk dead "aio:$disk"
[ ! -e "$run_dir/ctl$dead" ] || fail "ctl$dead is still there"
[ "$(nbdinfo --size "$uri")" -eq $((8 << 20)) ] || fail "not served"
expect_failure "$work/dead.sock: another process listens there" \
    tapdisk --nbd "unix:$work/dead.sock" ram:1M
one_sentence
[ "$(nbdinfo --size "$uri")" -eq $((8 << 20)) ] || fail "the socket was taken"
stop_tapdisk
# Nobody waits for this one, so that it stays as a zombie.
python3 - "$BUILD" "$run_dir" <<'PYTHON'
import os, subprocess, sys, time
build, run_dir = sys.argv[1:]
with subprocess.Popen([build + "/tapdisk", "--run-dir", run_dir, "--name",
                       "zombie", "--log-level", "error", "ram:1M"]) as daemon:
    while not os.path.exists("%s/nbd%d" % (run_dir, daemon.pid)):
        time.sleep(0.01)
    daemon.kill()
    os.waitid(os.P_PID, daemon.pid, os.WEXITED | os.WNOWAIT)
    subprocess.run([build + "/tap-ctl", "check", "--run-dir", run_dir],
                   check=True)
    left = os.listdir(run_dir)
    assert not left, left
PYTHON

echo "- nobody else gets in: modes, the group, a directory open to others"
mode() {
    stat -c %a "$1"
}
own=$work/own
(umask 0 && exec "$BUILD/tapdisk" --daemon --name modes --run-dir "$own" \
    --nbd "unix:$work/modes.sock" --log "file:$work/modes.log" \
    ram:1M >"$work/modes.pid")
read -r pid <"$work/modes.pid"
at_end kill "$pid"
[ "$(mode "$own")" = 700 ] || fail "mode of the run directory"
[ "$(mode "$own/ctl$pid")" = 600 ] || fail "mode of the control socket"
[ "$(mode "$work/modes.sock")" = 600 ] || fail "mode of the NBD socket"
"$BUILD/tap-ctl" destroy -n modes --run-dir "$own"
group=$(id -G | tr ' ' '\n' | tail -n 1)
[ "$(id -u)" -ne 0 ] || group=65534
"$BUILD/tapdisk" --daemon --name modes --run-dir "$own" --group "$group" \
    --nbd "unix:$work/modes.sock" --log "file:$work/modes.log" \
    ram:1M >"$work/modes.pid"
read -r pid <"$work/modes.pid"
at_end kill "$pid"
for path in "$own:750" "$own/ctl$pid:660" "$work/modes.sock:660"; do
    [ "$(stat -c %a.%g "${path%:*}")" = "${path##*:}.$group" ] ||
        fail "$path: $(stat -c %a.%g "${path%:*}")"
done
"$BUILD/tap-ctl" destroy -n modes --run-dir "$own"
chmod 777 "$own"
expect_failure "$own can be written to by others; chmod it to 0700" \
    timeout 20 "$BUILD/tapdisk" --run-dir "$own" ram:1M
one_sentence

echo "- to the background once it serves, or not at all"
expect_status 0 tapdisk --daemon --pid-file "$work/pid" --name back \
    --log "file:$work/back.log" "aio:$disk"
pid=$(cat "$work/out")
at_end kill "$pid"
[ "$(cat "$work/pid")" = "$pid" ] || fail "the pid file"
[ "$(ps -o sid= "$pid" | xargs)" = "$pid" ] || fail "no session of its own"
[ "$(readlink "/proc/$pid/fd/1")" = /dev/null ] || fail "its standard output"
grep -q '"pid": '"$pid" <(tap_ctl status -n back --json) || fail "its status"
kill "$pid"
wait_until ended "$pid"
[ ! -e "$work/pid" ] || fail "the pid file was left behind"
expect_failure "aio:/nowhere: there is no such file" tapdisk --daemon aio:/nowhere
one_sentence
expect_status 1 tapdisk --daemon aio:/nowhere
expect_status 1 tapdisk aio:/nowhere
expect_status 1 tapdisk --pid-file /nowhere/pid ram:1M
expect_status 1 tapdisk --log file:/nowhere/log ram:1M
expect_status 2 tapdisk --daemon --nonsense ram:1M
expect_status 2 tapdisk ram:1M ram:1M
expect_status 0 tapdisk --version
expect_status 0 tapdisk --help
[ -z "$(ls "$run_dir")" ] || fail "left behind: $(ls "$run_dir")"

echo "- the service manager is told of the start and the stop"
python3 - "$work/notify" >"$work/notified" <<'PYTHON' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
for _ in range(2):
    print(s.recv(99).decode(), flush=True)
PYTHON
manager=$!
pids+=("$manager")
wait_until test -S "$work/notify"
NOTIFY_SOCKET=$work/notify start_tapdisk service ram:1M
wait_until grep -q READY=1 "$work/notified"
stop_tapdisk
wait $manager
grep -q STOPPING=1 "$work/notified" || fail "the stop was not told"

echo "- a failure that repeats does not fill the log, and is counted"
start_tapdisk chatty "fault:op=read,error=EIO|ram:1M"
nbdsh -u "$uri" -c '
for i in range(500):
    try:
        h.pread(512, 512 * i)
    except nbd.Error:
        pass'
[ "$(grep -c 'chatty.*Input/output error' "$work/chatty.log")" -le 16 ] ||
    fail "the log has it $(grep -c 'Input/output' "$work/chatty.log") times"
grep -q 'chatty.*offset' "$work/chatty.log" || fail "no offset in the log"
tap_ctl status -n chatty --json | grep -q '"count": 500' || fail "not counted"
stop_tapdisk
