#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The aio driver on block devices, with sectors of 512 and of 4096 bytes: their
# sector size reaches the clients, what is written is on the device, a discard
# frees its space.  Needs root and loop devices.
# over: io
. "$(dirname "$0")/lib.sh"

need losetup nbdcopy nbdinfo nbdsh qemu-io cmp
[ "$(id -u)" -eq 0 ] || skip "not root: cannot set up a loop device"

blocks_of() { # FILE: the space it takes, in KiB
    du -k "$1" | cut -f 1
}

on_device() { # SECTOR
    local file=$work/backing$1 before after
    random_file "$work/original" 32M
    truncate -s 32M "$file"
    device=$(losetup --find --show --sector-size "$1" "$file" \
        2>"$work/losetup") || skip "no loop device: $(cat "$work/losetup")"
    at_end losetup --detach "$device"

    start_tapdisk "block$1" "aio:$device"
    [ "$(nbdinfo --size "$uri")" -eq $((32 << 20)) ] || fail "its size"
    nbdcopy --flush "$work/original" "$uri"
    nbdcopy "$uri" "$work/copy"
    cmp "$work/original" "$work/copy"
    cmp "$work/original" "$device"

    before=$(blocks_of "$file")
    qemu-io -f raw -c 'discard 8M 16M' -c flush "$uri" >"$work/qemu-io"
    qemu-io -f raw -c 'write -z 1M 1M' -c 'read -P 0 1M 1M' "$uri" \
        >>"$work/qemu-io"
    ! grep -i fail "$work/qemu-io" || fail "discard or zeroes"
    sync "$file"
    after=$(blocks_of "$file")
    [ $((before - after)) -ge $((15 << 10)) ] ||
        fail "a discard of 16 MiB left $after of $before KiB"

    nbdinfo --json "$uri" >"$work/info"
    grep -Eq "\"block_minimum\": *$1\b|\"block_size_minimum\": *$1\b" \
        "$work/info" || {
        cat "$work/info"
        fail "the minimum block size is not $1"
    }
    stop_tapdisk
}

on_device 512
on_device 4096

# A request that is not aligned to the device's sectors has no effect.
start_tapdisk block "aio:$device"
expect_failure 'Invalid argument' nbdsh -u "$uri" \
    -c 'h.set_strict_mode(0); h.pwrite(b"x" * 512, 512)'
stop_tapdisk
cmp -n $((1 << 20)) "$work/original" "$device"
