#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# tap-ctl verify: equal replicas are found equal while a guest writes to them;
# bytes that changed behind our back are named to the region, repaired when that
# was asked for, and not before; what cannot be read is told apart.
#
# over: san
# time limit: 180
. "$(dirname "$0")/lib.sh"

need python3 cmp
export PATH=$BUILD:$PATH TAPDISK_RUN_DIR=$run_dir

port_a=$(free_port) port_b=$(free_port)
SIZE=24M
REGION=65536

start() { # NAME ROLE PORT PEER-PORT FILTER
    start_tapdisk "$1" \
        "remus:role=$2,listen=tcp://127.0.0.1:$3,peer=tcp://127.0.0.1:$4,connect-ms=50,retry-ms=200|$5aio:$work/$1.img"
}

found() { # COMMAND...: its output and status, in $work/out and $status
    status=0
    "$@" >"$work/out" 2>&1 </dev/null || status=$?
}

spoil() { # OFFSET LENGTH [NAME]: of b's image, behind everybody's back
    head -c "$2" /dev/urandom |
        dd of="$work/${3:-b}.img" bs=1 seek="$1" conv=notrunc status=none
}

acked() { # COUNT
    [ -s "$work/acks" ] && [ "$(wc -l <"$work/acks")" -ge "$1" ]
}

random_file "$work/a.img" $SIZE
truncate -s $SIZE "$work/b.img"
start b secondary "$port_b" "$port_a" 'fault:|'
start a primary "$port_a" "$port_b" 'fault:|'
expect_failure 'ask it to' tap-ctl verify -n b
wait_until replica_is a '["in_sync"]' true

# Equal, and nothing is changed by asking.
found tap-ctl verify -n a
[ "$status" -eq 0 ] || fail "$(cat "$work/out")"
grep -qx 'the two replicas are equal' "$work/out" || fail "$(cat "$work/out")"
cmp "$work/a.img" "$work/b.img"
tap-ctl status -n a | grep -q 'verify  *done, 100 %, no difference' ||
    fail "$(tap-ctl status -n a)"

# A guest that writes all the while is no difference: the two images are never
# at the same point, since now this host's and now the other one is slower.
seq 0 15 >"$work/blocks"
"$TOP/tests/ack_log.py" write "$(uri_of a)" "$work/acks" "$work/blocks" &
writer=$!
pids+=("$writer")
for round in 1 2 3 4 5 6; do
    slow=$([ $((round % 2)) -eq 1 ] && echo a || echo b)
    tap-ctl driver -n "$slow" fault "add op=write,delay=5ms" >/dev/null
    wait_until acked $((round * 20))
    found tap-ctl verify -n a
    [ "$status" -eq 0 ] || fail "round $round: $(cat "$work/out")"
    tap-ctl driver -n "$slow" fault clear >/dev/null
done
kill "$writer"
wait "$writer" 2>/dev/null || true

# One byte, a range over two regions, and the last sector.
before=$(replica_status a '["resync_bytes"]')
spoil $((5 * REGION + 1000)) 1
spoil $((40 * REGION - 512)) 1024
spoil $(((24 << 20) - 512)) 512
found tap-ctl verify -n a
[ "$status" -eq 1 ] || fail "ended with $status: $(cat "$work/out")"
cat >"$work/expected" <<EXPECTED
different: $REGION bytes at offset $((5 * REGION))
different: $((2 * REGION)) bytes at offset $((39 * REGION))
different: $REGION bytes at offset $(((24 << 20) - REGION))
tap-ctl verify: 256 KiB differ between the two replicas: find out which is \
right; "--repair-from local" copies this host's
EXPECTED
diff "$work/expected" "$work/out" || fail "not what differs"
[ "$(replica_status a '["resync_bytes"]')" = "$before" ] ||
    fail "it was repaired unasked"
[ "$(replica_status a '["verify"]["different_bytes"]')" = $((4 * REGION)) ]

# Repaired, from the side that was said; no more than that.
found tap-ctl verify -n a --repair-from local
[ "$status" -eq 0 ] || fail "$(cat "$work/out")"
grep -q 'repaired: 256 KiB' "$work/out" || fail "$(cat "$work/out")"
cmp "$work/a.img" "$work/b.img"
[ $(($(replica_status a '["resync_bytes"]') - before)) -eq $((4 * REGION)) ] ||
    fail "more was copied than differed"
found tap-ctl verify -n a
[ "$status" -eq 0 ] || fail "$(cat "$work/out")"
expect_failure 'hand the disk over' tap-ctl verify -n a --repair-from peer

# What cannot be read is no difference, and costs nobody its membership.
tap-ctl driver -n b fault "add op=read,error=EIO,from=1M,to=1088K" >/dev/null
tap-ctl driver -n a fault "add op=read,error=EIO,from=2M,to=2052K" >/dev/null
found tap-ctl verify -n a
[ "$status" -eq 1 ] || fail "ended with $status: $(cat "$work/out")"
grep -qx 'unreadable at the peer: 65536 bytes at offset 1048576: EIO' \
    "$work/out" || fail "$(cat "$work/out")"
grep -qx 'unreadable here: 65536 bytes at offset 2097152: EIO' "$work/out" ||
    fail "$(cat "$work/out")"
replica_is a '["in_sync"]' true
tap-ctl driver -n a fault clear >/dev/null
tap-ctl driver -n b fault clear >/dev/null

# Stopped: a slow one is under way until then.
tap-ctl driver -n b fault "add op=read,hang" >/dev/null
found tap-ctl verify -n a -t 1
[ "$status" -eq 4 ] || fail "ended with $status: $(cat "$work/out")"
expect_failure 'under way already' tap-ctl verify -n a
tap-ctl verify -n a --stop
[ "$(replica_status a '["verify"]["state"]')" = stopped ]
expect_failure 'no verification is under way' tap-ctl verify -n a --stop
tap-ctl driver -n b fault clear >/dev/null
tap-ctl driver -n b fault release >/dev/null

# The wrong bytes are the primary's: the disk is handed over, as the sentence
# above says, and the right ones are copied from there.
cp "$work/a.img" "$work/right"
spoil $((7 * REGION)) 100 a
tap-ctl demote -n a
wait_until replica_is b '["state"]' paired
found tap-ctl verify -n b --repair-from local
[ "$status" -eq 0 ] || fail "$(cat "$work/out")"
grep -q 'repaired: 64 KiB' "$work/out" || fail "$(cat "$work/out")"
cmp "$work/a.img" "$work/right"
cmp "$work/b.img" "$work/right"
