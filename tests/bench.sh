#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The bench measures what is there: a table with a row for each peer and a
# verdict for each aim, mirrors whose copies are equal, and a status that tells
# of missed aims only when asked to.  What the figures are does not matter here.
#
# time limit: 120
. "$(dirname "$0")/lib.sh"

need fio qemu-storage-daemon
export PYTHONPATH=$TOP/tests/bench # for the copies below

bench() {
    "$TOP/tests/bench/bench" --build "$BUILD" --rounds 1 --seconds 0.1 \
        --size 8 --workload "QD1" "$@" >"$work/table" 2>&1
}

in_table() { # PATTERN: of a row
    grep -Eq "$1" "$work/table" || {
        cat "$work/table" >&2
        fail "the table has no \"$1\""
    }
}

bench --peer libaio --peer "pair written" --peer "qemu mirror" \
    --json "$work/figures" ||
    {
        cat "$work/table" >&2
        fail "the bench failed"
    }
in_table '^4 KiB random write QD1 +tapdisk libaio +[1-9][0-9]* IOPS'
in_table '^4 KiB random write QD1 +qemu mirror +[1-9][0-9]* IOPS'
in_table '^4 KiB random write QD1 +pair written .*(>= 1.7 met|< 1.7 MISSED)'
in_table '^4 KiB random read QD1 +tapdisk libaio'
in_table '^aims: [01] met, [01] missed'
python3 -m json.tool "$work/figures" >"$work/pretty"

# An aim that nothing can meet is a failure when asked for, and only then.
sed 's/("pair written", "QD1", 1.7,/("pair written", "QD1", 1e9,/' \
    "$TOP/tests/bench/bench" >"$work/proud"
for check in "" --check; do
    status=0
    python3 "$work/proud" --build "$BUILD" --rounds 1 --seconds 0.1 --size 8 \
        --workload "write QD1" --peer "pair written" --peer "qemu mirror" \
        $check >"$work/table" 2>&1 || status=$?
    in_table '^missed: 4 KiB random write QD1: pair written'
    [ "$status" = "${check:+1}" ] || [ "$check$status" = 0 ] ||
        fail "status $status with '$check'"
done

# What does not mirror is not measured.
sed 's/^\( *\)settle_qemu_mirror),/\1None),/' "$TOP/tests/bench/bench" >"$work/lazy"
expect_failure 'qemu mirror: the copies differ' \
    python3 "$work/lazy" --build "$BUILD" --rounds 1 --seconds 0.1 --size 8 \
    --workload "write QD1" --peer "qemu mirror"

# What tracking costs and saves: each row is there, and judged if it has an aim.
"$TOP/tests/bench/bench_track" --build "$BUILD" --rounds 1 --seconds 0.1 \
    --size 8 --resync 16 >"$work/table" 2>&1 || {
    cat "$work/table" >&2
    fail "the bench of tracking failed"
}
for row in '4 KiB random write QD1' '4 KiB sequential write QD32' resync \
    'named beyond the truth after a kill'; do
    in_table "^$row .*\(aim: [<>]= [0-9.]+.* (met|MISSED)\)$"
done
in_table '^random write QD32 over 1 TiB +[0-9.]+ of [1-9][0-9]* IOPS without'
"$BUILD/tests/bench/map_search" >>"$work/table"
in_table '^changed on 1 TiB, in all +[0-9.]+ ms'
in_table '^changed on 1 TiB, longest slice +[0-9.]+ ms'
in_table '^plain copy of the image +[1-9][0-9]* MiB/s'

# The table of the bench between two guests: which aims are met by such figures.
for key in alone mirrored alone_nbd mirrored_nbd drbd md; do
    printf '%s.qd1.us 500\n%s.qd1.iops 1000\n%s.qd16.iops 2500\n' $key $key $key
done >"$work/figures"
printf 'lat4160 550\nlat64 250\nrate 4000\nmirrored.qd1.us %s\n' 2900 2900 \
    >>"$work/figures"
expect_failure '^aims: 0 met, 3 missed' "$TOP/tests/bench/bench_vm_table" \
    --check "$work/figures"
printf 'mirrored.qd1.us %s\nmirrored.qd16.iops 3100\n' 900 900 900 >>"$work/figures"
"$TOP/tests/bench/bench_vm_table" --check "$work/figures" >"$work/table"
in_table '0.50 <= 1.5 met$'
in_table '0.78 >= 0.65 met$'
in_table '^aims: 3 met, 0 missed'
