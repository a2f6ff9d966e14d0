#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The verbs about changes: a checkpoint is made on both hosts, each tells what
# changed since it, exactly or too widely; bad names and questions get a
# sentence; two hosts that wrote alone are told what each would lose, and one is
# given up.
#
# over: san
# time limit: 240
. "$(dirname "$0")/lib.sh"

need python3 qemu-io cmp
export PATH=$BUILD:$PATH TAPDISK_RUN_DIR=$run_dir

port_a=$(free_port) port_b=$(free_port)
R=65536

start() { # NAME ROLE
    local own=$port_a peer=$port_b
    [ "$1" = a ] || own=$port_b peer=$port_a
    start_tapdisk "$1" \
        "remus:role=$2,listen=tcp://127.0.0.1:$own,peer=tcp://127.0.0.1:$peer,ping-ms=50,dead-ms=1000,grace-ms=200,connect-ms=50,retry-ms=200|aio:$work/$1.img"
    if [ "$1" = a ]; then pid_a=$pid; else pid_b=$pid; fi
}

write() { # NAME OFFSET LENGTH
    qemu-io -f raw -c "write -P $((RANDOM % 250 + 1)) $2 $3" -c flush \
        "$(uri_of "$1")" >/dev/null
}

answers() { # NAME CHECKPOINT LINE...: exactly this
    local name=$1 checkpoint=$2
    shift 2
    tap-ctl changed -n "$name" --since "$checkpoint" >"$work/answer"
    printf '%s\n' "$@" | diff - "$work/answer" || fail "$name: not what changed"
}

truncate -s 64M "$work/a.img" "$work/b.img"
start b secondary
start a primary
wait_until replica_is a '["in_sync"]' true
write a 0 1M

# Made on both, asked of either.
tap-ctl checkpoint -n a create monday
answers a monday "0 B changed since monday, exact"
write a 2M 4k
write a $((3 * 1024 * 1024 - 512)) 1k # of two regions
write a 40M 256k
expected=("$((2 << 20)) $R" "$(((3 << 20) - R)) $((2 * R))" "$((40 << 20)) $((4 * R))"
    "448 KiB changed since monday, exact")
answers a monday "${expected[@]}"
answers b monday "${expected[@]}"
tap-ctl changed -n a --since monday --raw >"$work/answer"
printf '%s\n' "${expected[@]:0:3}" | diff - "$work/answer" || fail "--raw"
tap-ctl driver -n a remus "checkpoint list" >"$work/list"
tap-ctl changed -n b --since monday --json | python3 -c '
import json, sys
answer = json.load(sys.stdin)
monday = json.load(open(sys.argv[1]))["checkpoints"][0]
assert all(answer[key] == monday[key] for key in ("timeline", "epoch"))
assert answer["exact"] is True and answer["checkpoint"] == "monday"
assert answer["runs"][0] == [2 << 20, 65536], answer["runs"]
assert answer["size"] == 64 << 20 and "next" not in answer' "$work/list"
tap-ctl checkpoint -n a create tuesday
answers a tuesday "0 B changed since tuesday, exact"
tap-ctl checkpoint -n b list >"$work/list"
[ "$(grep -cE '^(monday|tuesday) .*, confirmed$' "$work/list")" = 2 ] ||
    fail "$(cat "$work/list")"

# Bad names and questions.
expect_failure 'there is a checkpoint monday already' \
    tap-ctl checkpoint -n a create monday
expect_failure 'letters, digits' tap-ctl checkpoint -n a create ''
expect_failure 'letters, digits' tap-ctl checkpoint -n a create 'last night'
expect_failure 'letters, digits' tap-ctl checkpoint -n a create a/b
expect_failure '63 bytes at most' tap-ctl checkpoint -n a create \
    "$(printf 'x%.0s' {1..64})"
expect_failure 'not as long' tap-ctl checkpoint -n a create \
    "$(printf 'x%.0s' {1..600})"
expect_failure 'on the primary' tap-ctl checkpoint -n b create wednesday
expect_failure 'no checkpoint friday' tap-ctl changed -n a --since friday
expect_failure 'no checkpoint friday' tap-ctl checkpoint -n a delete friday
expect_failure 'say which checkpoint' tap-ctl checkpoint -n a create
expect_failure 'create, list or delete' tap-ctl checkpoint -n a make x
expect_failure 'since NAME' tap-ctl changed -n a
expect_failure 'have not diverged' tap-ctl resolve -n a --discard local
expect_failure 'local or --discard peer' tap-ctl resolve -n a --discard both
tap-ctl checkpoint -n a delete tuesday
gone() { ! tap-ctl checkpoint -n "$1" list | grep -q tuesday; }
wait_until gone a
wait_until gone b

# A crash: too much is named, and it is said.
kill_tapdisk "$pid_a"
wait_until replica_is b '["link"]["state"]' connecting
tap-ctl promote -n b --alone
tap-ctl changed -n b --since monday >"$work/answer"
grep -qx "$((40 << 20)) $((4 * R))" "$work/answer" || fail "$(cat "$work/answer")"
write b 50M 64k
tap-ctl checkpoint -n b create aside
write b 51M 64k
tap-ctl changed -n b --since aside --raw >"$work/answer"
grep -qx "$((51 << 20)) $R" "$work/answer" || fail "$(cat "$work/answer")"

# Both go on alone, and meet: neither is overwritten, and status tells.
start a primary
tap-ctl promote -n a --alone
tap-ctl changed -n a --since monday >"$work/answer" # a crashed
grep -q 'over-approximated: it names too much' "$work/answer" ||
    fail "$(cat "$work/answer")"
grep -q "^$((40 << 20)) " "$work/answer" || fail "$(cat "$work/answer")"
tap-ctl checkpoint -n a create alone
# Not on this host's history.
expect_failure 'no checkpoint aside' tap-ctl changed -n a --since aside
write a 60M 128k
forked() { replica_is "$1" '["diverged"]' true && ! replica_is "$1" \
    '["fork"]["peer"]' null; }
start_b_again() {
    stop_tapdisk "$pid_b"
    start b secondary
}
start_b_again
wait_until forked a
qemu-io -r -f raw -c 'read 60M 128k' "$(uri_of a)" >/dev/null
tap-ctl status -n a >"$work/status"
grep -q 'fork  *after timeline [0-9a-f]*, epoch [0-9]*: this host would lose' \
    "$work/status" || fail "$(cat "$work/status")"

# The side that is named is given up, and its checkpoint with it.
tap-ctl resolve -n b --discard local
wait_until replica_is a '["in_sync"]' true
# The timeline that was given up, and what was named on it, is gone from both.
for host in a b; do
    expect_failure 'no checkpoint aside' tap-ctl changed -n $host --since aside
    tap-ctl changed -n $host --since alone --raw >"$work/answer"
    grep -qx "$((60 << 20)) $((2 * R))" "$work/answer" || fail "$(cat "$work/answer")"
    tap-ctl changed -n $host --since monday --raw >"$work/answer"
    grep -q "^$((40 << 20)) " "$work/answer" || fail "$(cat "$work/answer")"
done
stop_tapdisk "$pid_a"
stop_tapdisk "$pid_b"
cmp "$work/a.img" "$work/b.img"
start b secondary
tap-ctl checkpoint -n b list | grep -q '^alone ' || fail "not taken over"
stop_tapdisk

# A disk without a peer, tracked alone.
truncate -s 64M "$work/solo.img"
start_tapdisk solo --track "aio:$work/solo.img"
write solo 0 4k # which waits until the disk is open
tap-ctl checkpoint -n solo create monday
write solo 8M 4k
answers solo monday "$((8 << 20)) $R" "64 KiB changed since monday, exact"
tap-ctl status -n solo | grep -q '^  tracks' || fail "$(tap-ctl status -n solo)"
expect_failure 'no peer that it could' \
    tap-ctl resolve -n solo --discard local
stop_tapdisk
start_tapdisk plain "aio:$work/solo.img"
expect_failure 'are not tracked; open it with --track' \
    tap-ctl checkpoint -n plain list
stop_tapdisk
