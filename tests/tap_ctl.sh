#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# tap-ctl: each verb and each of its options does what it says, to the disk
# that is meant, and what cannot be done is refused with one sentence and an
# exit status that tells the kind of failure.
# over: san
. "$(dirname "$0")/lib.sh"

need nbdinfo qemu-io python3 cmp

export TAPDISK_RUN_DIR=$run_dir

tap_ctl() {
    timeout 30 "$BUILD/tap-ctl" "$@"
}

# run STATUS COMMAND...: its output is in $out, its sentence in $err.
run() {
    local want=$1 status=0
    shift
    tap_ctl "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
    out=$(cat "$work/out") err=$(cat "$work/err")
    [ "$status" -eq "$want" ] ||
        fail "tap-ctl $*: status $status, not $want: $out$err"
}

# prints TEXT COMMAND...: exactly this; shows PATTERN COMMAND...: of the shell.
prints() {
    run 0 "${@:2}"
    [ "$out" = "$1" ] || fail "tap-ctl ${*:2}: $out"
}

shows() {
    run 0 "${@:2}"
    # shellcheck disable=SC2053 # a pattern
    [[ $out == $1 ]] || fail "tap-ctl ${*:2}: $out"
}

lines() { # COUNT COMMAND...
    run 0 "${@:2}"
    [ "$(wc -l <"$work/out")" -eq "$1" ] || fail "tap-ctl ${*:2}: $out"
}

# has PATH/OF/KEYS VALUE COMMAND...: in its JSON
has() {
    run 0 "${@:3}"
    [ "$(field "$1")" = "$2" ] || fail "tap-ctl ${*:3}: $1 is not $2: $out"
}

# refused STATUS TEXT COMMAND...: one sentence, from the verb.
refused() {
    local text=$2
    run "$1" "${@:3}"
    [ -z "$out" ] || fail "tap-ctl ${*:3}: said on standard output: $out"
    [ "$(wc -l <"$work/err")" -eq 1 ] || fail "not one sentence: $err"
    [[ $err == "tap-ctl $3: "* || $err == "tapdisk: "* ]] || fail "which verb says: $err"
    grep -Eq -- "$text" "$work/err" || fail "\"$text\" is not in: $err"
}

field() { # PATH/OF/KEYS: of the JSON in $out
    python3 -c '
import json, sys
value = json.loads(sys.argv[1])
for key in sys.argv[2].split("/"):
    value = value[int(key) if key.isdigit() else key]
print(json.dumps(value) if not isinstance(value, str) else value)' \
        "$out" "$1"
}

end_daemons() {
    local socket
    for socket in "$run_dir"/ctl*; do
        [ -e "$socket" ] || continue
        kill "${socket##*/ctl}" 2>/dev/null || true
    done
}
at_end end_daemons

disk=$work/disk.img
truncate -s 8M "$disk"
truncate -s 16M "$work/two.img"

echo "- allocate, free: the lowest number that is free"
prints 0 allocate
prints 1 allocate
prints '{"minor": 2}' allocate --json
run 0 free -m 1
prints 1 allocate
refused 3 'minor 7 is not allocated' free -m 7
refused 2 'must be a number from 0 to 16383' free -m 16384
refused 2 'say which minor' free
run 0 list
[ "$(sort <<<"$out" | xargs)" = "minor=0 minor=1 minor=2" ] || fail "$out"
run 0 free --minor 2 && run 0 free -m 1

echo "- spawn, attach, open, close, detach: the steps of a toolstack"
run 0 spawn
pid=$out
shows "pid=$pid"$'\n'"minor=0" list
run 0 attach -p "$pid" -m 0
prints "pid=$pid minor=0 state=0x2" list
refused 1 'minor 0 is attached to a daemon already' free -m 0
refused 1 'is attached to minor 0 already' attach -p "$pid" -m 1
refused 2 'which tapdisk and minor' attach -p "$pid"
run 0 open -p "$pid" -m 0 -a "aio:$disk"
[ "$out" = "nbd+unix:///tapdisk$pid?socket=$run_dir/nbd$pid.0" ] || fail "$out"
uri=$out
[ "$(nbdinfo --size "$uri")" = 8388608 ] || fail "not served"
[ -S "$run_dir/nbd$pid.0" ] || fail "not where toolstacks look"
run 0 list
[ "$out" = "pid=$pid minor=0 state=0 args=aio:$disk" ] || fail "$out"
refused 1 "is open already, with aio:$disk; close it" open -m 0 -a ram:1M
refused 1 'close it before it is detached' detach -m 0
run 0 close -p "$pid" -m 0
refused 1 'is not open' close -p "$pid" -m 0
run 0 open -p "$pid" -a ram:1M -R -t 5
qemu-io -r -f raw -c 'read 0 4k' "$uri" >"$work/qemu"
! grep -q failed "$work/qemu" || fail "cannot be read"
nbdinfo --json "$uri" | grep -q '"is_read_only": true' || fail "-R"
run 0 close -m 0
run 0 detach -p "$pid" -m 0
wait_until ended "$pid"
run 0 free -m 0
[ -z "$(ls "$run_dir")" ] || fail "left behind: $(ls "$run_dir")"

echo "- create, destroy: all or nothing"
run 0 create -n one -a "aio:$disk" --nbd "unix:$work/one.sock" \
    --nbd-export export --log "file:$work/one.log" --log-level debug
[ "$out" = "nbd+unix:///export?socket=$work/one.sock" ] || fail "$out"
one=$out
refused 1 "is being served already" create -n one -a ram:1M
refused 1 "$disk is in use" create -n two -a "aio:$disk"
refused 1 'nowhere: there is no such file' create -a aio:/nowhere
refused 2 'say which image' create -n two
run 2 create -a ram:1M --io nonsense-a --busy-poll soon
[[ $err == *"not a number"* ]] || fail "$err"
lines 1 list
run 0 create -n two -a "fault:|aio:$work/two.img" --json
[ "$(field name)" = two ] || fail "$out"
[ "$(field minor)" = 1 ] || fail "$out"
two=$(field pid)

echo "- a disk is meant by name, by pid, by minor, by both"
for which in "-n two" "-p $two" "-m 1" "-p $two -m 1" "--name two --minor 1"; do
    # shellcheck disable=SC2086 # options
    run 0 status $which --json
    [ "$(field name)" = two ] || fail "$which is not two: $out"
done
refused 3 'there is no disk named three' status -n three
refused 3 'no tapdisk is attached to minor 9' status -m 9
refused 3 'there is no tapdisk with process id 1;' status -p 1
refused 3 "tapdisk $two serves another disk" status -p "$two" -m 0
refused 2 'say which disk' pause
refused 2 'must be a number' pause -p many

echo "- list -t, -f, --json"
lines 2 list -t aio
shows "*args=fault:|aio:$work/two.img" list -t fault
prints "" list -t vhd
lines 1 list -f "$disk"
shows "*args=fault:|aio:$work/two.img" list -f "$work/two.img"
lines 1 list -t aio -f "$work/two.img"
prints "" list -t fault -f "$work/two.img"
prints "" list -f "$disk.no"
has 1/image "fault:|aio:$work/two.img" list --json

echo "- status: in words and in JSON, of one and of all"
run 0 status -n two
grep -qx 'two serves 16 MiB, read-write, to 0 clients' "$work/out" ||
    fail "$out"
run 0 status
[ "$(grep -c '^[a-z]* serves' "$work/out")" -eq 2 ] || fail "$out"
has 0/name one status --json
has 1/name two status --json
refused 2 'needs a terminal' status --watch

echo "- events, as they happen, and stats"
tap_ctl events -n two >"$work/events" &
events=$!
pids+=("$events")
size=20
until [ -s "$work/events" ]; do # it may have missed the first
    run 0 resize -n two -s $((size += 1))M
    [ $size -lt 1000 ] || fail "no event of a resize"
done
has size $((size << 20)) status -n two --json
refused 1 'cannot shrink' resize -n two -s 1M
refused 1 'no multiple of' resize -n two -s 99999999
refused 2 '12 apples is no size' resize -n two -s '12 apples'
run 0 driver -n two fault 'add op=write,error=ENOSPC,count=2'
uri="nbd+unix:///two?socket=$run_dir/nbd$two.1"
qemu-io -f raw -c 'write 64k 4k' "$uri" >"$work/qemu" 2>&1 || true
grep -q 'No space left on device' "$work/qemu" || fail "$(cat "$work/qemu")"
run 0 driver -n two fault list
[ "$(field rules/0/hits)" -ge 1 ] || fail "$out"
run 0 driver -n two fault clear
refused 1 'no image of type|vhd' driver -n two vhd clear
refused 1 'nonsense' driver -n two fault nonsense
refused 2 'TYPE INSTRUCTION is missing' driver -n two fault
refused 2 'is one word too many' driver -n two fault clear now
qemu-io -f raw -c 'write 0 64k' -c 'read 0 128k' -c flush "$uri" >"$work/qemu"
run 0 stats -n two
[ "$(field secs)" = "[256, 128]" ] || fail "sectors: $(field secs)"
[ "$(field stats/write/count)" -ge 1 ] || fail "$out"
for key in p50 p99 p99.9; do
    [[ $(field "stats/write/latency_us/$key") == [0-9]* ]] || fail "$key"
done
[ "$(field reqs_outstanding)" = 0 ] || fail "$out"
run 0 status -n two
grep -Eq 'failures +[12], the last at .*: write of 4096 bytes at offset 65536: ENOSPC' \
    "$work/out" || fail "$out"

echo "- pause and unpause, with another image; clients only wait"
copy=$work/copy.img
qemu-io -f raw -c 'write -P 7 0 1M' "$one" >"$work/qemu"
tap_ctl events -n one >"$work/events.one" &
pids+=("$!")
for _ in {1..200}; do # it may miss the first
    run 0 pause -n one
    run 0 unpause -n one
    [ ! -s "$work/events.one" ] || break
done
run 0 pause -n one
shows "one is paused; 0 requests wait for unpause"$'\n'"*" status -n one
shows "* state=0x2a *" list -n one
refused 1 'only a running disk can be paused' pause -n one
refused 1 'only a running one can be resized' resize -n one -s 9M
cp "$disk" "$copy"
qemu-io -f raw -c 'read -P 7 0 64k' -c 'write -P 8 0 64k' "$one" \
    >"$work/qemu" 2>&1 &
client=$!
pids+=("$client")
waiting() {
    run 0 status -n one --json
    [ "$(field waiting)" = 1 ]
}
wait_until waiting
truncate -s 4M "$work/small.img"
refused 1 'small|smaller' unpause -n one -a "aio:$work/small.img"
refused 1 'nowhere: there is no such file' unpause -n one -a aio:/nowhere
run 0 unpause -n one -a "aio:$copy"
wait "$client" || fail "$(cat "$work/qemu")"
! grep -qi 'fail' "$work/qemu" || fail "$(cat "$work/qemu")"
refused 1 'is running, not paused' unpause -n one
run 0 pause -n one -t 5 && run 0 unpause -n one
shows "*args=aio:$copy" list -n one
cmp -n 65536 "$copy" <(head -c 65536 /dev/zero | tr '\0' '\10') ||
    fail "written elsewhere"
cmp -n 65536 "$disk" <(head -c 65536 /dev/zero | tr '\0' '\7') ||
    fail "the first image was changed"

echo "- -t: the answer comes in time, what was begun goes on"
run 0 driver -n two fault 'add op=write,hang,count=1'
qemu-io -f raw -c 'write 0 4k' "$uri" >"$work/qemu" 2>&1 &
client=$!
pids+=("$client")
hung() {
    run 0 driver -n two fault list
    [ "$(field hung)" = 1 ]
}
wait_until hung
refused 1 'two is not yet paused: 1 request.* it goes on' pause -n two -t 1
shows "* state=0x10 *" list -n two
refused 1 'two is pausing; only a running' pause -n two
refused 1 '1 client of two would lose the disk' close -n two
run 0 driver -n two fault release
paused() {
    run 0 list -n two
    [[ $out == *" state=0x2a "* ]]
}
wait_until paused
run 0 unpause -n two
wait "$client" || fail "$(cat "$work/qemu")"

echo "- close asks before clients lose the disk; -f does not"
python3 -c '
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
print("connected", flush=True)
sys.stdin.readline()' "$uri" >"$work/client" < <(wait_until test -e "$work/end") &
client=$!
pids+=("$client")
wait_until grep -qs connected "$work/client"
refused 1 '1 client of two would lose the disk; disconnect' close -n two
refused 1 '1 client of two would lose the disk' destroy -n two
run 0 close -n two --force -t 20
touch "$work/end"
wait "$client" || true
run 0 open -n two -a ram:1M

echo "- what blktap's verbs take: -D works, the rest is told what does"
run 0 close -m 1
run 0 open -m 1 -a "aio:$work/two.img" -D -t 5
grep -q '"way": "direct"' <(tap_ctl stats -n two) && fail "-D: with O_DIRECT"
for words in "open -m 1 -a ram:1M -e 3" "create -a ram:1M -r" \
    "open -m 1 -a ram:1M -2 x" "create -a ram:1M -s" "create -a ram:1M -C x" \
    "unpause -m 1 -c x" "unpause -m 1 -2 null" "open -m 1 -a ram:1M -E" \
    "create -a ram:1M -d xvda"; do
    # shellcheck disable=SC2086 # words
    refused 2 ' -[a-zA-Z0-9]: .*; "tap-ctl .* --help" shows how' $words
done
refused 2 'unknown option -E' close -m 1 -E
lines 2 list

echo "- --debug, before the verb as in blktap or behind it"
tap_ctl --debug log-level -n two info 2>"$work/debug"
grep -Eq "^tapdisk $two -> .*\"command\": *\"log-level\"" "$work/debug" ||
    fail "not what was said: $(cat "$work/debug")"
grep -Eq "^tapdisk $two <- .*\"result\"" "$work/debug" ||
    fail "not what was heard: $(cat "$work/debug")"
shows "pid=*" list --debug

echo "- log-level, check, major"
run 0 log-level -n one error
refused 1 'log level loud is unknown: use error' log-level -n one loud
refused 2 'is missing' log-level -n one
prints ok check
if grep -q ' nbd$' /proc/devices; then
    shows "[1-9]*" major
else
    refused 1 'modprobe nbd' major
fi

echo "- destroy ends all of it, and events with it"
run 0 destroy -p "$two" -m 1
wait "$events" || fail "events: status $?"
run 0 destroy -n one
[ -z "$(ls "$run_dir")" ] || fail "left behind: $(ls "$run_dir")"
python3 - "$work" <<'PYTHON'
import json, sys
def of(name):
    events = [json.loads(line) for line in open(sys.argv[1] + "/" + name)]
    assert all(e["version"] == 1 and e["time"] > 1e9 for e in events)
    return events
two = of("events")
names = [e["event"] for e in two]
for name in ("resized", "io-error", "paused", "unpaused", "closed", "opened"):
    assert name in names, (name, names)
failure = next(e for e in two if e["event"] == "io-error")
assert (failure["errno"], failure["offset"], failure["length"]) == (
    "ENOSPC", 65536, 4096), failure
assert names[-1] == "closed", names
one = [e["event"] for e in of("events.one")]
if one[0] == "unpaused": # of a pause that it missed
    one.pop(0)
assert one[:2] == ["paused", "unpaused"] and one[-1] == "closed", one
PYTHON

echo "- what is no command line gets a sentence, too"
for words in "" "nonsense" "list --nonsense" "list -p" "free extra"; do
    # shellcheck disable=SC2086 # words
    run 2 $words
    [ "$(wc -l <"$work/err")" -eq 1 ] || fail "not one sentence: $err"
    [[ $err == *"--help\" "* ]] || fail "does not say what to do: $err"
done
shows "Usage:*" --help
prints "" list
prints "" list --run-dir /nowhere

echo "- on a terminal: list is a table, status --watch a live view"
run 0 create -n seen -a "ram:1M"
python3 - "$BUILD/tap-ctl" <<'PYTHON'
import os, pty, select, signal, subprocess, sys, time

def screen(words, until, stop=None):
    master, slave = pty.openpty()
    with subprocess.Popen([sys.argv[1]] + words, stdin=slave, stdout=slave,
                          stderr=slave, start_new_session=True) as tool:
        os.close(slave)
        text = b""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if not select.select([master], [], [], 0.1)[0]:
                continue
            try:
                more = os.read(master, 4096)
            except OSError:
                break
            text += more
            if stop and until(text):
                tool.send_signal(stop)
                stop = None
        tool.kill()
        assert tool.wait() == 0, (tool.returncode, text)
        assert until(text), text
        return text.decode()

text = screen(["list"], lambda text: b"seen" in text)
assert text.split()[:3] == ["NAME", "PID", "MINOR"], text
text = screen(["status", "--watch", "-i", "1", "-n", "seen"],
              lambda text: text.count(b"seen") >= 2, signal.SIGINT)
assert "WRITES/s" in text and text.endswith("\x1b[?25h\x1b[?1049l"), text
PYTHON
run 0 destroy -n seen
