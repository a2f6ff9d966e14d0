# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# shellcheck disable=SC2034 # variables for the story
#
# two_hosts.sh - what the stories of a pair share: two hosts, a and b, that are
# processes on loopback.  A story of a pair sources it in place of lib.sh and
# has from here what lib.sh has, and
#
#   new_disks SIZE       a's image of zeros, b's of random bytes: what is zero
#                        has to be made zero
#   host NAME ROLE [OPTION...]
#                        start NAME's tapdisk as an operator would; sets
#                        $pid_NAME.  The image is ${image[NAME]}, which a story
#                        may put filters before
#   stop_host, kill_host NAME
#   told NAME MEMBER TEXT    TEXT, an expression, stands in that member
#   in_sync NAME             and it is told so on both hosts
#   fault NAME INSTRUCTION   to the filter in NAME's stack
#   held NAME COUNT          so many requests hang in that filter
#   holds NAME               one does, or more
#   pending NAME COUNT       so many requests of guests are not answered

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need python3
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "python3-libnbd is missing"
export PATH=$BUILD:$PATH TAPDISK_RUN_DIR=$run_dir

declare -A port=([a]=$(free_port) [b]=$(free_port))
declare -A other=([a]=b [b]=a)
declare -A image=([a]="aio:$work/a.img" [b]="aio:$work/b.img")
declare -A address=() # where NAME calls its peer, if not at its port
quick=(--ping 50ms --dead 2s --grace 2s)
pid_a='' pid_b=''

new_disks() { # SIZE
    rm -f "$work"/[ab].img "$work"/[ab].img.meta
    truncate -s "$1" "$work/a.img"
    random_file "$work/b.img" "$1"
}

host() { # NAME ROLE [OPTION...]
    local name=$1 role=$2
    local peer=${address[$name]:-127.0.0.1:${port[${other[$name]}]}}
    shift 2
    start_tapdisk "$name" --role "$role" \
        --listen "tcp://127.0.0.1:${port[$name]}" \
        --peer "tcp://$peer" --meta "$work/$name.img.meta" "${quick[@]}" "$@" \
        "${image[$name]}"
    printf -v "pid_$name" %s "$pid"
}

stop_host() { # NAME
    local which=pid_$1
    stop_tapdisk "${!which}"
}

kill_host() { # NAME
    local which=pid_$1
    kill_tapdisk "${!which}"
}

told() { # NAME MEMBER TEXT
    [[ $(replica_status "$1" "$2") =~ $3 ]]
}

in_sync() { # NAME
    replica_is "$1" '["in_sync"]' true &&
        replica_is "${other[$1]}" '["in_sync"]' true
}

fault() { # NAME INSTRUCTION
    tap-ctl driver -n "$1" fault "$2" >/dev/null
}

held() { # NAME COUNT
    [ "$(hung "$1")" -eq "$2" ]
}

hung() { # NAME
    tap-ctl driver -n "$1" fault list |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["hung"])'
}

holds() { # NAME
    [ "$(hung "$1")" -gt 0 ]
}

pending() { # NAME COUNT
    [ "$(tap-ctl stats -n "$1" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["reqs_outstanding"])')" \
        -eq "$2" ]
}
