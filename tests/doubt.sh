#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A write that one host did and the other never got, on a timeline that both
# share: no stamp tells of it, only that it was never proven (M0, A6).  When the
# one that did it becomes the copy, it is undone there: both read equal (A5).
#
# time limit: 120
. "$(dirname "$0")/lib.sh"

need python3 cmp
export PATH=$BUILD:$PATH TAPDISK_RUN_DIR=$run_dir

times=ping-ms=50,dead-ms=500,grace-ms=300,connect-ms=50,retry-ms=200
port_a=$(free_port) port_b=$(free_port)

start() { # NAME ROLE
    local port=$port_a peer=$port_b
    [ "$1" = a ] || port=$port_b peer=$port_a
    start_tapdisk "$1" \
        "remus:role=$2,on-peer-loss=freeze,listen=tcp://127.0.0.1:$port,peer=tcp://127.0.0.1:$peer,$times|aio:$work/$1.img"
    [ "$1" = a ] || pid_b=$pid
}

is_written() { # what the writer wrote is in a's image
    [ "$(dd if="$work/a.img" bs=4096 skip=1024 count=1 status=none |
        tr -d 'w' | wc -c)" = 0 ]
}

truncate -s 64M "$work/a.img" "$work/b.img"
start b secondary
start a primary
wait_until replica_is a '["in_sync"]' true

# The copy has gone through b's log of intents, which a crash would name.
stop_tapdisk "$pid_b"
wait_until replica_is a '["state"]' solo
start b secondary
wait_until replica_is a '["in_sync"]' true

kill -STOP "$pid_b"
python3 - "$(uri_of a)" >"$work/writer.out" 2>&1 <<'PY' &
import sys
import nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pwrite(b"w" * 4096, 4 << 20)
print("acknowledged")
PY
writer=$!
pids+=("$writer")
wait_until is_written
kill_tapdisk "$pid_b"
wait_until replica_is a '["state"]' lost
tap-ctl driver -n a remus demote >/dev/null
wait_until replica_is a '["state"]' secondary
wait "$writer" || true
grep -q acknowledged "$work/writer.out" && fail "it was acknowledged"

start b secondary
tap-ctl driver -n b remus promote >/dev/null
wait_until replica_is b '["in_sync"]' true
is_written && fail "what the guest never heard of came back"
cmp "$work/a.img" "$work/b.img"
