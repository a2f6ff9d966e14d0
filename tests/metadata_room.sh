#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Where metadata cannot be kept, the disk is not served, and a sentence says
# why: a file system that is full when they are made, or that may not be written
# to; one that has become full is no matter, for their room is taken at the
# start; metadata of a disk of another size.
#
# over: san
if [ -z "${TAPDISK_OWN_MOUNTS:-}" ]; then
    unshare -rm true 2>/dev/null ||
        { echo "no mount namespace can be made here"; exit 77; }
    TAPDISK_OWN_MOUNTS=1 exec unshare -rm "$0"
fi
. "$(dirname "$0")/lib.sh"

need qemu-io

port_a=$(free_port) port_b=$(free_port)
small=$work/small # the file system
mkdir "$small"
mount -t tmpfs -o size=1M none "$small"
at_end umount "$small"
truncate -s 16M "$work/a.img"

fill() { # all but the given KiB
    local free
    free=$(df --output=avail -k "$small" | tail -n 1)
    head -c $(((free - $1) * 1024)) /dev/zero >"$small/filler"
}

replica() { # ROLE META
    echo "remus:role=$1,listen=tcp://127.0.0.1:$port_a,peer=tcp://127.0.0.1:$port_b,meta=$2|aio:$work/a.img"
}

# refused TEXT OPTION...
refused() {
    expect_failure "$1" timeout 20 "$BUILD/tapdisk" --run-dir "$run_dir" "${@:2}"
}

# Full at the start: nothing is left there that looks like metadata.
fill 64
refused 'a.meta: there is no room for .* KiB of metadata .No space left on device' "$(replica primary "$small/a.meta")"
refused 'a.meta: there is no room for .* KiB of metadata .No space left on device' "$(replica secondary "$small/a.meta")"
refused 'c.meta: there is no room for .* KiB of metadata' \
    "log:meta=$small/c.meta|aio:$work/a.img"
rm "$small/filler"

# Full later.
start_tapdisk a "$(replica primary "$small/a.meta")"
fill 0
qemu-io -f raw -c 'write -P 5 0 16M' -c flush "$(uri_of a)" >"$work/out" 2>&1 ||
    fail "$(cat "$work/out")"
stop_tapdisk
rm "$small/filler"

# May not be written to.
mount -o remount,ro "$small"
refused 'a.meta.*Read-only file system' "$(replica primary "$small/a.meta")"
refused 'b.meta.*Read-only file system' "$(replica primary "$small/b.meta")"
refused 'c.meta.*Read-only file system' "log:meta=$small/c.meta|aio:$work/a.img"
mount -o remount,rw "$small"

# Of another size: an image that is too small is none of the disk.
truncate -s 8M "$work/a.img"
refused 'the disk has 16777216 bytes and the image 8388608' \
    "$(replica primary "$small/a.meta")"
truncate -s 16M "$work/a.img"
start_tapdisk a "$(replica primary "$small/a.meta")"
stop_tapdisk
