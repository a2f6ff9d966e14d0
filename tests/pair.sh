#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Two hosts, one disk: what is acknowledged is on both, a broken connection
# costs no copy, a dead primary loses nothing (A1, A5), who is out of date is
# refused with a sentence (A9), and the old primary becomes a copy again.
#
# over: san io
# time limit: 180
. "$(dirname "$0")/lib.sh"

need socat nbdcopy python3 pkill
export PATH=$BUILD:$PATH TAPDISK_RUN_DIR=$run_dir

times=ping-ms=50,dead-ms=1500,grace-ms=3000,connect-ms=50,retry-ms=200
port_a=$(free_port) port_b=$(free_port) port_proxy=$(free_port)

start() { # NAME ROLE PORT PEER-PORT
    start_tapdisk "$1" \
        "remus:role=$2,listen=tcp://127.0.0.1:$3,peer=tcp://127.0.0.1:$4,$times|aio:$work/$1.img"
}

proxy() {
    socat "TCP-LISTEN:$port_proxy,fork,reuseaddr,bind=127.0.0.1" \
        "TCP:127.0.0.1:$port_b" 2>/dev/null &
    proxy_pid=$!
    pids+=("$proxy_pid")
}

cut_connection() {
    pkill -P "$proxy_pid" socat
}

acked() { # COUNT: so many writes at least
    [ -s "$work/acks" ] && [ "$(wc -l <"$work/acks")" -ge "$1" ]
}

truncate -s 16M "$work/a.img"
random_file "$work/b.img" 16M # what is zero has to be made zero
random_file "$work/source" 4M
truncate -s 12M "$work/source" # what lies behind is never written to

# A write that is acknowledged is on both.
start b secondary "$port_b" "$port_a"
pid_b=$pid
expect_failure 'replied with error' nbdinfo "$(uri_of b)"
proxy
start a primary "$port_a" "$port_proxy"
pid_a=$pid
nbdcopy --flush "$work/source" "$(uri_of a)"
wait_until replica_is a '["in_sync"]' true
cmp -n $((12 << 20)) "$work/a.img" "$work/source"
cmp "$work/a.img" "$work/b.img"

# A flap within the grace time: no copy, every write once.
copied=$(replica_status a '["resync_bytes"] + image["resync_zeroed_bytes"]')
"$TOP/tests/ack_log.py" write "$(uri_of a)" "$work/acks" &
writer=$!
pids+=("$writer")
for flap in 1 2 3; do
    wait_until acked $((flap * 50))
    cut_connection
    wait_until replica_is a '["link"]["reconnects"]' $flap
done
# Silent for the dead time, and back within the grace time that begins then.
pkill -STOP -P "$proxy_pid" socat
wait_until replica_is a '["link"]["reconnects"]' 4
pkill -KILL -P "$proxy_pid" -r T socat
[ "$(replica_status a '["resync_bytes"] + image["resync_zeroed_bytes"]')" = \
    "$copied" ] || fail "a flap cost a copy"
wait_until replica_is a '["in_sync"]' true

# The primary dies while it is written to.
wait_until acked 300
kill_tapdisk "$pid_a"
wait "$writer" 2>/dev/null || true
wait_until replica_is b '["link"]["state"]' broken
tap-ctl driver -n b remus promote
wait_until replica_is b '["state"]' solo
"$TOP/tests/ack_log.py" check "$(uri_of b)" "$work/acks"

# The old one starts as if nothing had happened: it serves nobody.
start a primary "$port_a" "$port_b"
wait_until replica_is a '["state"]' waiting
expect_failure 'replied with error' nbdinfo "$(uri_of a)"
sleep 0.3
replica_is a '["state"]' waiting || fail "an old primary went on"
stop_tapdisk "$pid"

# As a secondary it becomes a copy.
start a secondary "$port_a" "$port_b"
pid_a=$pid
wait_until replica_is b '["in_sync"]' true
wait_until replica_is a '["state"]' synced
"$TOP/tests/ack_log.py" check "$(uri_of b)" "$work/acks"

# A clean hand-over, and back to work on the other host.
tap-ctl driver -n b remus demote
wait_until replica_is a '["state"]' paired
wait_until replica_is b '["state"]' synced
"$TOP/tests/ack_log.py" check "$(uri_of a)" "$work/acks"
nbdcopy --flush "$work/source" "$(uri_of a)"
cmp "$work/a.img" "$work/b.img"

# Both stop cleanly.  The primary does not go on alone by that: started again,
# it waits for the one that may be in sync.
stop_tapdisk "$pid_a"
stop_tapdisk "$pid_b"
start a primary "$port_a" "$port_b"
pid_a=$pid
replica_is a '["state"]' waiting || fail "it did not wait for its peer"
start b secondary "$port_b" "$port_proxy"
pid_b=$pid
wait_until replica_is a '["in_sync"]' true
cmp "$work/a.img" "$work/b.img"

# A secondary that left while the primary went on is out of date, and says so.
stop_tapdisk "$pid_b"
wait_until replica_is a '["state"]' solo
stop_tapdisk "$pid_a"
start b secondary "$port_b" "$port_proxy"
expect_failure 'out of date' tap-ctl driver -n b remus promote
