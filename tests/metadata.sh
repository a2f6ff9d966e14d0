#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# tap-ctl metadata: what a replica's file holds is told off line, as text and as
# JSON; what is torn, foreign, newer or cut off is named, with the exit status
# that the manual promises; nothing is changed by looking.
#
# over: san
. "$(dirname "$0")/lib.sh"

need python3
port_a=$(free_port) port_b=$(free_port)
meta=$work/a.img.meta

status_of() { # COMMAND...: its exit status
    local status=0
    "$@" >"$work/out" 2>&1 </dev/null || status=$?
    echo "$status"
}

exits() { # STATUS COMMAND...
    local wanted=$1 got
    shift
    got=$(status_of "$@")
    [ "$got" = "$wanted" ] || fail "$* ended with $got: $(cat "$work/out")"
}

report() { # MEMBER: of the dump, in Python
    "$BUILD/tap-ctl" metadata dump --json "$meta" | python3 -c '
import json, sys
report = json.load(sys.stdin)
print(eval("report" + sys.argv[1]))' "$1"
}

name=remus:role=primary,listen=tcp://127.0.0.1:$port_a,peer=tcp://127.0.0.1:$port_b
truncate -s 16M "$work/a.img"
for _ in 1 2; do # a generation of the state each
    start_tapdisk a "$name|aio:$work/a.img"
    wait_until replica_is a '["change"]' ''
    stop_tapdisk
done
start_tapdisk a "$name|aio:$work/a.img"
wait_until replica_is a '["change"]' ''

# While a daemon has it open nobody else looks.
exits 1 "$BUILD/tap-ctl" metadata dump "$meta"
grep -q 'in use by another process' "$work/out" || fail "$(cat "$work/out")"
disk_id=$(replica_status a '["disk_id"]')
epoch=$(replica_status a '["epoch"]')
stop_tapdisk

# Whole: what the daemon said is what the file says.
cp "$meta" "$work/saved"
exits 0 "$BUILD/tap-ctl" metadata check "$meta"
grep -q 'whole' "$work/out" || fail "$(cat "$work/out")"
exits 0 "$BUILD/tap-ctl" metadata dump "$meta"
grep -q "disk  *$disk_id, 16 MiB" "$work/out" || fail "$(cat "$work/out")"
[ "$(report '["verdict"]')" = whole ]
[ "$(report '["state"]["disk_id"]')" = "$disk_id" ]
[ "$(report '["state"]["epoch"]')" = "$epoch" ]
[ "$(report '["state"]["size"]')" = $((16 << 20)) ]
[ "$(report '["state"]["role"]')" = primary ]
[ "$(report '["problems"]')" = "[]" ]
cmp "$meta" "$work/saved"

# The copy that counts torn: the older one does, and that is no problem.
older=$(report '["generation"] - 1')
at=$(($(report '["generation"]') % 2 * 65536 + 4096))
head -c 512 /dev/urandom | dd of="$meta" bs=1 seek=$at conv=notrunc status=none
exits 0 "$BUILD/tap-ctl" metadata check "$meta"
grep -q 'note .*is torn, as a crash' "$work/out" || fail "$(cat "$work/out")"
[ "$(report '["generation"]')" = "$older" ]

damaged() { # VERDICT TEXT: it is told by dump, check and tapdisk alike
    exits 1 "$BUILD/tap-ctl" metadata dump "$meta"
    grep -q ": $1\$" "$work/out" || fail "$(cat "$work/out")"
    exits 1 "$BUILD/tap-ctl" metadata check "$meta"
    grep -q "$2" "$work/out" || fail "$(cat "$work/out")"
    [ "$(report '["verdict"]')" = "$1" ] || fail "not $1"
    expect_failure "$2" "$BUILD/tapdisk" --run-dir "$run_dir" \
        "$name|aio:$work/a.img"
}

# Both torn.
cp "$work/saved" "$meta"
printf garbage | dd of="$meta" bs=1 seek=100 conv=notrunc status=none
printf garbage | dd of="$meta" bs=1 seek=65700 conv=notrunc status=none
damaged torn 'checksum is wrong'

# Another program's file, and one that is only a beginning.
random_file "$meta" 160K
damaged foreign "not a replica's metadata"
head -c 100000 "$work/saved" >"$meta"
damaged truncated 'truncated'
cp "$work/saved" "$meta"
truncate -s -1 "$meta" # as the map's last page has it
damaged truncated 'they end within the map of changes, so they were cut off'

# A newer format: version 2, its head's checksum right.
cp "$work/saved" "$meta"
python3 - "$meta" <<'PYTHON'
import struct, sys

def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff

with open(sys.argv[1], "r+b") as file:
    for at in 0, 65536:
        file.seek(at)
        head = bytearray(file.read(60))
        head[8:12] = struct.pack("<I", 2)
        file.seek(at)
        file.write(head + struct.pack("<I", crc32c(head)))
PYTHON
damaged newer 'version 2'

# Nothing there; a word that is none; one that is missing.
exits 3 "$BUILD/tap-ctl" metadata check "$work/nothing"
exits 2 "$BUILD/tap-ctl" metadata mend "$meta"
exits 2 "$BUILD/tap-ctl" metadata check
