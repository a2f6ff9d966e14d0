#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The rules of replication, in Promela, searched completely by spin within the
# bounds named here; and each rule left out once, which the search must find.
# docs/model.md says what the models hold and how their steps map to the code.
#
#   tests/model.sh                  all; DEEP=1: only some, and further
#   tests/model.sh MODEL [BOUND...] one search, and the trace of what it finds:
#                                   tests/model.sh pair NO_M0 WRITES=1
#
# time limit: 1800
. "$(dirname "$0")/lib.sh"

# model, bounds; a line that names a NO_ must be found broken
searches=(
    "pair"
    "pair CRASHES=2 WRITES=1"
    "pair TIMELINES=3 WRITES=1"
    "pair RECEIVED"
    "pair DISCARDS WRITES=1"
    "pair ERRORS=1 WRITES=1"
    "pair STOPS=1 WRITES=1"
    "pair CUTS=2 WRITES=1 CRASHES=0" "pair CUTS=1 WRITES=1"
    "pair HONEST BREAKS=0 STOPS=1 TIMELINES=3"
    "pair LYING TIMELINES=3 WRITES=1"
    "arbiter BREAKS=1"
    "meeting" "meeting CRASHES=2"
    "meeting ROLLBACKS=1 CRASHES=2 ORDERS=0"
    "group"
    # W1 to W4
    "pair NO_W1" "pair NO_W3" "pair NO_W4" "pair NO_FREEZE"
    "pair NO_DISCARD_AS_ZERO DISCARDS WRITES=1"
    # M0 to M6
    "pair NO_M0" "pair NO_M4" "pair NO_TIMELINE"
    "pair NO_M1_MEMBER TIMELINES=3 WRITES=1" "pair NO_M1_NOTE"
    "pair NO_M1_DRAIN CRASHES=2 WRITES=1"
    "pair NO_M2_ACTIVE" "pair NO_M2_STAMPS CUTS=1 WRITES=1"
    "pair NO_M2_SUSPECT" "pair NO_M2_ACKNOWLEDGED"
    "pair NO_EARLY_HISTORY" "pair NO_REVISION"
    "pair NO_M5_CONSISTENT" "pair NO_M5_APPLIED RECEIVED WRITES=1"
    "pair NO_M5_OUTDATED HONEST BREAKS=0 STOPS=1 WRITES=1 TIMELINES=3"
    "pair NO_M6_MAYBE STOPS=1 WRITES=1"
    # C1, C2, F1, F2, A9
    "pair NO_C1" "pair NO_C2" "pair NO_F1 ERRORS=1 WRITES=1"
    "pair NO_F1_KEPT ERRORS=1 WRITES=1" "pair NO_F2 ERRORS=1 WRITES=1"
    "pair NO_A9 ERRORS=1 WRITES=1"
    # E1
    "pair NO_E1_FORK CUTS=1 WRITES=1" "pair NO_E1_MEMBER CUTS=1 WRITES=1"
    # H2 to H10
    "pair NO_SMALLER_EPOCH CUTS=1 WRITES=1" "pair NO_TARGET_SUSPECT"
    "pair NO_TARGET_STAMPS LYING TIMELINES=3" "pair NO_H2_MEMBER"
    "pair NO_H6_MARK" "pair NO_H7" "pair NO_H10"
    "pair NO_ZERO_SKIP DISCARDS"
    # M8, H0
    "arbiter NO_REVISION BREAKS=1" "arbiter NO_VOID BREAKS=1"
    "arbiter NO_LISTED BREAKS=1" "arbiter NO_READ_BEFORE BREAKS=1"
    "meeting NO_H0_CLOSE" "meeting NO_H0_SERVING"
    "meeting NO_STOOD ROLLBACKS=1 CRASHES=2 BREAKS=0 ORDERS=0"
    "meeting NO_OLD_AUTHOR ROLLBACKS=1 CRASHES=2 BREAKS=0 ORDERS=0"
    # E3, E4
    "group NO_ALL_PREPARED" "group NO_MEMORY" "group NO_WAIT"
    "group NO_RECORD" "group NO_ROLL_FORWARD" "group NO_DECIDED"
)
[ -z "${DEEP:-}" ] || searches=(
    "pair CRASHES=2" "pair TIMELINES=3 BREAKS=2" "pair DISCARDS"
    "pair ERRORS=1" "pair STOPS=1" "pair CUTS=2" "pair LYING TIMELINES=3"
    "pair WRITES=3" "arbiter"
    "meeting BREAKS=2 CRASHES=2" "group EPOCHS=5 CRASHES=4"
)

need spin gcc tcc

# search DIRECTORY MODEL BOUND...: builds and runs it there, into out.
search() {
    local dir=$1 model=$2 compiler="gcc -O1"
    shift 2
    [[ " $* " != *" NO_"* ]] || compiler=tcc # its end is near
    mkdir -p "$dir"
    cp "$TOP/tests/model/$model.pml" "$dir"
    (
        cd "$dir"
        spin -a "${@/#/-D}" "$model.pml" >spin.log
        $compiler -w -DSAFETY -DNOREDUCE -DNOFAIR -DMEMLIM=3000 \
            -o pan pan.c
        ./pan -m1000000 -w22 >out 2>&1
    ) || { cat "$dir/spin.log" && fail "$model $*: the search did not run"; }
}

is_complete() { # DIRECTORY
    grep -q 'errors: 0$' "$1/out" &&
        ! grep -Eiq 'max search depth too small|not completed|out of memory' \
            "$1/out"
}

states() { # DIRECTORY
    sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$1/out"
}

if [ $# -gt 0 ]; then
    model=$1
    shift
    search "$work/one" "$model" "$@"
    cat "$work/one/out"
    cd "$work/one"
    [ ! -e "$model.pml.trail" ] ||
        spin -t "${@/#/-D}" "$model.pml" 2>&1 | grep -v '^spin: Warn'
    exit 0
fi

for line in "${searches[@]}"; do
    # shellcheck disable=SC2086 # a model and its bounds
    set -- $line
    search "$work/search" "$@"
    printf '%-56s %9s states: ' "$line" "$(states "$work/search")"
    if [[ $line != *NO_* ]]; then
        is_complete "$work/search" || {
            cat "$work/search/out"
            fail "$line: a rule does not hold, or the search was cut off"
        }
        echo "complete, all holds"
    else
        grep -q 'pan:1: assertion violated' "$work/search/out" || {
            cat "$work/search/out"
            fail "$line: the model does not see that this rule is missing"
        }
        echo "found broken"
    fi
    rm -rf "$work/search"
done
