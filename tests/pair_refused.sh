#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What cannot be a pair is told why, on the host where the operator looks, and
# nothing is overwritten (A9).
#
# over: san
# time limit: 120
. "$(dirname "$0")/lib.sh"

need openssl python3
export PATH=$BUILD:$PATH TAPDISK_RUN_DIR=$run_dir
times=ping-ms=50,dead-ms=1000,grace-ms=1000,connect-ms=50,retry-ms=100
port_a=$(free_port) port_b=$(free_port)

name() { # NAME ROLE PORT PEER-PORT [OPTION]
    echo "remus:role=$2,listen=tcp://127.0.0.1:$3,peer=tcp://127.0.0.1:$4,$times${5:+,$5}|aio:$work/$1.img"
}

told() { # NAME TEXT
    [[ $(replica_status "$1" '["why"]') =~ $2 ]]
}

new_pair() { # SIZE-OF-A SIZE-OF-B
    rm -f "$work"/*.img "$work"/*.meta
    truncate -s "$1" "$work/a.img"
    random_file "$work/b.img" "$2"
    cp "$work/b.img" "$work/before"
}

end_pair() { # nothing of b has changed
    stop_tapdisk "$pid_a"
    stop_tapdisk "$pid_b"
    cmp "$work/b.img" "$work/before"
}

openssl rand -hex 32 >"$work/key"
openssl rand -hex 32 >"$work/other"
chmod 600 "$work/key" "$work/other"

# Options that are wrong end the start, with a sentence.
new_pair 8M 8M
expect_failure 'role=primary or role=secondary' "$BUILD/tapdisk" \
    --run-dir "$run_dir" "remus:peer=tcp://127.0.0.1:1|aio:$work/a.img"
expect_failure 'give both hosts --key' "$BUILD/tapdisk" --run-dir "$run_dir" \
    "remus:role=primary,peer=tcp://192.0.2.1:1|aio:$work/a.img"
chmod 644 "$work/key"
expect_failure 'may be read by others' "$BUILD/tapdisk" --run-dir "$run_dir" \
    "$(name a primary "$port_a" "$port_b" "key=$work/key")"
chmod 600 "$work/key"

# Another key; a key on one side only; the same key.
start_tapdisk b "$(name b secondary "$port_b" "$port_a" "key=$work/key")"
pid_b=$pid
start_tapdisk a "$(name a primary "$port_a" "$port_b" "key=$work/other")"
pid_a=$pid
wait_until grep -q 'has another key' "$work/a.log"
wait_until grep -q 'has another key' "$work/b.log"
wait_until told a 'has another key'
wait_until told b 'has another key'
replica_is a '["state"]' solo
stop_tapdisk "$pid_a"
start_tapdisk a "$(name a primary "$port_a" "$port_b")"
pid_a=$pid
wait_until grep -q 'has a key and the other has none' "$work/a.log"
wait_until grep -q 'has a key and the other has none' "$work/b.log"
cmp "$work/b.img" "$work/before"
stop_tapdisk "$pid_a"

# Garbage, and a client that says nothing, harm nobody.
python3 - "$port_b" <<'END'
import os, socket, sys
for size in (1, 63, 64, 4096, 1 << 20):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    try:
        s.sendall(os.urandom(size))
    except OSError:
        pass
    s.close()
END
start_tapdisk a "$(name a primary "$port_a" "$port_b" "key=$work/key")"
pid_a=$pid
wait_until replica_is a '["in_sync"]' true
cmp "$work/a.img" "$work/b.img"
stop_tapdisk "$pid_a"
stop_tapdisk "$pid_b"

# An image that is too small; two primaries, so two disks.
new_pair 8M 4M
start_tapdisk b "$(name b secondary "$port_b" "$port_a")"
pid_b=$pid
start_tapdisk a "$(name a primary "$port_a" "$port_b")"
pid_a=$pid
wait_until told a 'make it as large as the disk'

# Another reason follows: it is the last that is told.
stop_tapdisk "$pid_b"
start_tapdisk b "$(name b secondary "$port_b" "$port_a" "key=$work/key")"
pid_b=$pid
wait_until told a 'has a key and the other has none'
end_pair
new_pair 8M 8M
start_tapdisk b "$(name b primary "$port_b" "$port_a")"
pid_b=$pid
start_tapdisk a "$(name a primary "$port_a" "$port_b")"
pid_a=$pid
wait_until told a 'replicas of different disks'
end_pair

# Damaged metadata are named, and not guessed at.
start_tapdisk a "$(name a primary "$port_a" "$port_b")"
wait_until replica_is a '["change"]' ''
stop_tapdisk # both copies are written now
printf garbage | dd of="$work/a.img.meta" bs=1 seek=100 conv=notrunc status=none
printf garbage | dd of="$work/a.img.meta" bs=1 seek=65700 conv=notrunc status=none
expect_failure 'checksum is wrong' "$BUILD/tapdisk" \
    --run-dir "$run_dir" "$(name a primary "$port_a" "$port_b")"
