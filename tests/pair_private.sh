#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Who listens on the wire between two hosts that share a key learns nothing of
# the disk; without the key he reads it, which shows that this test can see.
#
# over: san
# time limit: 120
. "$(dirname "$0")/lib.sh"

need openssl socat nbdcopy python3
export PATH=$BUILD:$PATH TAPDISK_RUN_DIR=$run_dir
times=ping-ms=50,dead-ms=1500,grace-ms=1000,connect-ms=50,retry-ms=100
port_b=$(free_port) port_tap=$(free_port) nobody=$(free_port)
pattern=known-plaintext-of-the-guest

start() { # NAME ROLE OPTIONS
    start_tapdisk "$1" "remus:role=$2,$3,$times|aio:$work/$1.img"
}

# What passes is kept: everything that either side sent.
socat -r "$work/there" -R "$work/back" \
    "TCP-LISTEN:$port_tap,fork,reuseaddr,bind=127.0.0.1" \
    "TCP:127.0.0.1:$port_b" 2>/dev/null &
pids+=("$!")

# replicate [OPTION]: a write of the guest, through the tap, in sync after it
replicate() {
    rm -f "$work"/*.img "$work"/*.meta
    : >"$work/there"
    : >"$work/back"
    truncate -s 4M "$work/a.img" "$work/b.img"
    start b secondary "listen=tcp://127.0.0.1:$port_b,peer=tcp://127.0.0.1:$nobody${1:+,$1}"
    pid_b=$pid
    start a primary "listen=tcp://127.0.0.1:0,peer=tcp://localhost:$port_tap${1:+,$1}"
    pid_a=$pid
    wait_until replica_is a '["in_sync"]' true
    nbdcopy --flush "$work/source" "$(uri_of a)"
    replica_status a '["link"]["private"]' >"$work/private"
    stop_tapdisk "$pid_a"
    stop_tapdisk "$pid_b"
    cmp "$work/b.img" "$work/source"
    [ "$(cat "$work/there" "$work/back" | wc -c)" -gt $((1 << 20)) ] ||
        fail "the tap saw nothing"
}

openssl rand -hex 32 >"$work/key"
chmod 600 "$work/key"
for _ in {1..40000}; do echo "$pattern"; done >"$work/source"
truncate -s 4M "$work/source"

replicate ""
grep -q "$pattern" "$work/there" || fail "the tap does not see what passes"
[ "$(cat "$work/private")" = false ]

replicate "key=$work/key"
if grep -Eq "$pattern|TDR1" "$work/there" "$work/back"; then
    fail "the tap read what passed"
fi
[ "$(cat "$work/private")" = true ] || fail "the status does not say so"
