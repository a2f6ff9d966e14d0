#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A resync that minds: with --digest it sends only what differs, though all of
# the disk is asked about; with --resync-latency it holds back while the guest's
# requests take longer than that, says so, and goes on when they do not.
#
# over: san
# time limit: 180
. "$(dirname "$0")/lib.sh"

need python3 cmp qemu-io
export PATH=$BUILD:$PATH TAPDISK_RUN_DIR=$run_dir

port_a=$(free_port) port_b=$(free_port)

start() { # NAME ROLE PORT PEER-PORT IMAGE [OPTION...]
    local name=$1 role=$2 own=$3 peer=$4 image=$5
    shift 5
    start_tapdisk "$name" --role "$role" --listen "tcp://127.0.0.1:$own" \
        --peer "tcp://127.0.0.1:$peer" --ping 50ms --dead 1s --grace 1s "$@" \
        "$image"
}

bytes_of() { # MEMBER
    replica_status a "[\"resync_$1bytes\"]"
}

least_share() {
    replica_is a '["pace"]["share"] <= 1 / 32 / 8' true
}

acked() { # COUNT
    [ -s "$work/acks" ] && [ "$(wc -l <"$work/acks")" -ge "$1" ]
}

# Two images that differ in three regions: the operator had copied the disk.
random_file "$work/a.img" 32M
cp "$work/a.img" "$work/b.img"
for region in 3 200 511; do
    head -c 4096 /dev/urandom | dd of="$work/b.img" bs=65536 seek=$region \
        conv=notrunc status=none
done
truncate -s 40M "$work/a.img" "$work/b.img" # and a hole
start a primary "$port_a" "$port_b" "aio:$work/a.img" --digest
pid_a=$pid
# This the guest wrote here, and somebody brought to the other image, too.
qemu-io -f raw -c 'write -P 7 8M 1M' "$(uri_of a)" >/dev/null
cp "$work/a.img" "$work/c.img"
dd if="$work/c.img" of="$work/b.img" bs=1M skip=8 seek=8 count=1 conv=notrunc \
    status=none
start b secondary "$port_b" "$port_a" "aio:$work/b.img"
pid_b=$pid
wait_until replica_is a '["in_sync"]' true
cmp "$work/a.img" "$work/b.img"
[ "$(bytes_of '')" -le $((3 * 262144)) ] || fail "$(bytes_of '') were copied"
[ $(($(bytes_of '') + $(bytes_of equal_) + $(bytes_of zeroed_))) -eq \
    $((40 << 20)) ] || fail "not all of the disk was looked at"

stop_tapdisk "$pid_b"
stop_tapdisk "$pid_a"
# Equal or not, it has the stamps of this host from now on (M2).
map_of() { # NAME
    tap-ctl metadata dump --json "$work/$1.img.meta" | python3 -c '
import json, sys
map = json.load(sys.stdin)["map"]
print(map["changed_bytes"], map["oldest_epoch"])'
}
[ "$(map_of a)" = "$(map_of b)" ] || fail "a: $(map_of a), b: $(map_of b)"
[ "$(map_of a)" = "$((1 << 20)) 1" ] || fail "a: $(map_of a)"

# A guest whose writes take longer than it granted: the copy goes at its least.
rm "$work"/*.meta
random_file "$work/a.img" 64M
truncate -s 0 "$work/b.img"
truncate -s 64M "$work/b.img"
start a primary "$port_a" "$port_b" "fault:|aio:$work/a.img" \
    --resync-latency 20ms
pid_a=$pid
tap-ctl driver -n a fault "add op=write,delay=60ms" >/dev/null
"$TOP/tests/ack_log.py" write "$(uri_of a)" "$work/acks" &
writer=$!
pids+=("$writer")
start b secondary "$port_b" "$port_a" \
    "fault:op=write,delay=40ms|aio:$work/b.img" # or it is over too soon
wait_until least_share
replica_is a '["in_sync"]' false || fail "it did not hold back at all"
tap-ctl status -n a >"$work/status"
grep -q 'pace .* 20 ms are granted: held back for the guest' "$work/status" ||
    fail "$(cat "$work/status")"
# Of 64 MiB at most one a second is copied now, and each write takes 60 ms.
copied=$(bytes_of '')
acks=$(wc -l <"$work/acks")
wait_until acked $((acks + 30))
[ $(($(bytes_of '') - copied)) -le $((16 << 20)) ] ||
    fail "$(($(bytes_of '') - copied)) bytes were copied in 30 writes"
replica_is a '["in_sync"]' false || fail "it did not hold back"

# The guest is fast again: so is the copy, and what was written is on both.
tap-ctl driver -n a fault clear >/dev/null
tap-ctl driver -n b fault clear >/dev/null
wait_until replica_is a '["in_sync"]' true
kill "$writer"
wait "$writer" 2>/dev/null || true
stop_tapdisk "$pid_a"
cmp "$work/a.img" "$work/b.img"
