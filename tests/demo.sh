#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The demo, `make demo`: a file system with thousands of this machine's files
# goes through the daemon and comes back unharmed.  It teaches on the way.
# time limit: 120
. "$(dirname "$0")/lib.sh"

FILES=6000            # at most; at least 5,000 must be found
FILE_MAX=128k         # of one file
BYTES_MAX=$((140 << 20)) # of all
SIZE=200M             # of the disk

need mke2fs e2fsck debugfs nbdcopy nbdinfo cmp

number=0
step() {
    number=$((number + 1))
    printf '\n%d. %s\n' $number "$(fmt -w 76 <<<"$*")"
}

run() { # show a command as a person would type it, and run it
    printf '   $ %s\n' "${*//$TOP\//}"
    "$@" 2>&1 | sed 's/^/   /'
}

cd "$work"

step "We need a disk with something real on it.  Here is an ext4 file system" \
    "of $SIZE with files of this machine, in an ordinary file: original.img."
find -H /usr/share /usr/include /usr/lib -xdev -type f -readable ! -name $'*\n*' \
    -size +0 -size -$FILE_MAX -printf '%s %p\n' 2>/dev/null | sort -k 2 |
    awk -v files=$FILES -v bytes=$BYTES_MAX \
        'n < files && sum + $1 <= bytes { n++; sum += $1
            print substr($0, length($1) + 2) }' >list
found=$(wc -l <list)
[ "$found" -ge 5000 ] || fail "only $found files of this machine fit"
mkdir tree
tar -cf - --no-recursion -T list 2>/dev/null | tar -xf - -C tree
run mke2fs -q -t ext4 -d tree original.img $SIZE
rm -rf tree
echo "   ($found files)"

step "A daemon serves one disk.  This one is called demo; its data lie in" \
    "disk.img, which is empty so far; clients reach it by NBD, the network" \
    "block device protocol, on a Unix socket."
truncate -s $SIZE disk.img
echo "   \$ tapdisk --name demo --nbd unix:demo.sock aio:disk.img &"
start_tapdisk demo aio:disk.img

step "Any NBD client can use it.  nbdinfo asks what the disk offers:"
run nbdinfo "$uri"

step "Copy the file system in, through the daemon:"
run nbdcopy --flush original.img "$uri"

step "Read it back, through the daemon, and compare.  Silence is equality:"
run nbdcopy "$uri" copy.img
run cmp original.img copy.img

step "Ask the daemon to stop.  It finishes what is under way, flushes, and" \
    "ends with status 0."
echo "   \$ kill $pid"
stop_tapdisk

step "What is on the disk now is the file system, and it is whole:"
run e2fsck -fn disk.img
run cmp original.img disk.img
head -n 1 list | {
    read -r file
    debugfs -R "cat $file" disk.img 2>/dev/null | cmp - "$file"
    echo "   ($file in it is the same as on this machine)"
}

echo
echo "demo: OK"
