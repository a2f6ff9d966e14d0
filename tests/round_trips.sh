#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What stock clients write through the daemon they read back, one by one and
# several at once, and it is in the file when the daemon has ended.
# over: san io
. "$(dirname "$0")/lib.sh"

need nbdcopy qemu-img qemu-io fio cmp

SIZE=96M
random_file "$work/original" $SIZE
truncate -s $SIZE "$work/disk"
start_tapdisk disk "aio:$work/disk"

qio() { # COMMAND...
    local commands=() command
    for command; do
        commands+=(-c "$command")
    done
    qemu-io -f raw "${commands[@]}" "$uri" >"$work/qemu-io.out" 2>&1 || {
        cat "$work/qemu-io.out"
        fail "qemu-io: $*"
    }
    # a read whose pattern differs does not change qemu-io's status
    ! grep -i 'fail' "$work/qemu-io.out" || fail "qemu-io: $*"
}

fio_verify() { # NAME FIO-OPTION...
    fio --name="$1" --ioengine=nbd --uri="$uri" --verify=crc32c \
        --verify_fatal=1 --do_verify=1 --verify_state_save=0 --output="$work/fio-$1.out" \
        "${@:2}" || {
        cat "$work/fio-$1.out"
        fail "fio $1"
    }
}

echo "nbdcopy"
nbdcopy --flush "$work/original" "$uri"
nbdcopy "$uri" "$work/copy"
cmp "$work/original" "$work/copy"

echo "nbdcopy, one connection, one request"
nbdcopy --connections=1 --requests=1 "$uri" "$work/copy"
cmp "$work/original" "$work/copy"

echo "qemu-img"
random_file "$work/original" $SIZE
qemu-img convert -n -f raw -O raw "$work/original" "$uri"
qemu-img compare -q -f raw -F raw "$work/original" "$uri"

echo "qemu-io"
qio 'write -P 0xa5 1M 64k' 'read -P 0xa5 1M 64k' \
    'write -f -P 0x5a 1048064 1024' 'read -P 0x5a 1048064 1024' \
    'read -P 0xa5 1049088 64000' \
    'write -z 4M 1M' 'read -P 0 4M 1M' \
    'write -z -u 8M 1M' 'read -P 0 8M 1M' \
    'write -P 0x77 16M 32M' 'read -P 0x77 16M 32M' \
    'discard 16M 1M' 'flush' 'read -P 0x77 17M 31M'

echo "fio: random blocks of all sizes"
fio_verify blocks --rw=randwrite --bsrange=4k-256k --iodepth=16 --size=64M

echo "several at once, each on a part of its own"
fio_verify first --rw=randrw --bs=4k --iodepth=32 --size=16M &
jobs=($!)
fio_verify second --rw=write --bs=1M --iodepth=4 --offset=32M --size=32M &
jobs+=($!)
(for pattern in 1 2 3 4 5 6 7 8; do
    qemu-io -f raw -c "write -P $pattern 20M 4M" -c "flush" \
        -c "read -P $pattern 20M 4M" "$uri"
done) >"$work/several.out" 2>&1 &
jobs+=($!)
nbdcopy "$uri" null: &
jobs+=($!)
pids+=("${jobs[@]}")
for job in "${jobs[@]}"; do
    wait "$job" || fail "one of several clients at once"
done
! grep -i fail "$work/several.out" || fail "qemu-io beside the others"

echo "in the file, after the end of the daemon"
nbdcopy "$uri" "$work/copy"
stop_tapdisk
cmp "$work/disk" "$work/copy"
