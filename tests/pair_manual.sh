#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Every command of docs/pair.md, in its order, on two hosts that are directories
# of this one; each prints what stands below it ("..." is anything).  In the end
# both images are what a guest wrote, and equal.
#
# over: san
# time limit: 400
. "$(dirname "$0")/lib.sh"

need openssl python3 nbdcopy
export PATH=$BUILD:$PATH
declare -A port=([hosta:7788]=$(free_port) [hostb:7788]=$(free_port)
    [hostb:7799]=$(free_port))
number=0

for host in hosta hostb; do
    mkdir -p "$work/$host"/{srv,run} "$work/$host/etc/tapdisk"
    chmod 700 "$work/$host/run"
done

pid_of() { # HOST
    tap-ctl list --run-dir "$work/$1/run" -n vm1 2>/dev/null |
        sed -n 's/^pid=\([0-9]*\) .*/\1/p'
}

end_hosts() {
    local host which
    for host in hosta hostb; do
        which=$(pid_of "$host") || true
        [ -z "$which" ] || kill -KILL "$which"
    done
}
at_end end_hosts

has_lost_peer() { # HOST
    local run_dir=$work/$1/run
    [ "$(replica_status vm1 '["link"]["state"]')" != up ]
}

# What only happens to a host.
happens() { # HOST EVENT
    local which
    case $2 in
    dies)
        which=$(pid_of "$1")
        kill -KILL "$which"
        wait_until ended "$which"
        # The page does not race with the end of the connection.
        if [ "$1" = hosta ]; then
            wait_until has_lost_peer hostb
        else
            wait_until has_lost_peer hosta
        fi
        ;;
    "is empty") rm -f "$work/$1"/srv/* "$work/$1"/etc/tapdisk/* ;;
    *) fail "$1 $2: what is that?" ;;
    esac
}

# The command with the paths of that host, and ports that are free.
here() { # HOST COMMAND
    local command=$2 name
    for name in "${!port[@]}"; do
        command=${command//tcp:\/\/$name/tcp://127.0.0.1:${port[$name]}}
    done
    command=${command//scp -p/cp -p}
    command=${command//hostb:\//$work/hostb/}
    sed -E "s#(^|[ :])/(srv|run|etc)/#\1$work/$1/\2/#g" <<<"$command"
}

write() { # HOST: its guest does
    random_file "$work/written" 4M
    nbdcopy --flush "$work/written" \
        "nbd+unix:///vm1?socket=$work/$1/run/vm1.sock"
}

check() { # what the last command printed, against what the page says
    [ -n "$command" ] || return 0
    python3 - "$work/wanted" "$work/printed" <<'PYTHON' || {
import re, sys
wanted, printed = (open(path).read() for path in sys.argv[1:])
pattern = "".join(
    "(?:.*\n)*" if line == "..." else
    ".*".join(map(re.escape, line.split("..."))) + "\n"
    for line in wanted.splitlines())
sys.exit(not re.fullmatch(pattern, printed))
PYTHON
        cat "$work/printed"
        fail "line $number: $command: should have printed $(cat "$work/wanted")"
    }
    command=
}

command=''
while IFS= read -r line; do
    number=$((number + 1))
    case $line in
    '```')
        check
        ;;
    host[ab]'$ '*)
        check
        command=${line#*\$ }
        echo "$line"
        TAPDISK_RUN_DIR=$work/${line%%\$*}/run \
            bash -c "$(here "${line%%\$*}" "$command")" \
            >"$work/printed" 2>"$work/said" </dev/null || {
            cat "$work/printed" "$work/said"
            fail "line $number: $command"
        }
        : >"$work/wanted"
        [[ $line != *'in sync with its peer'* ]] || write "${line%%\$*}"
        ;;
    host[ab]'! '*)
        check
        happens "${line%%!*}" "${line#*! }"
        ;;
    *)
        [ -z "$command" ] || echo "$line" >>"$work/wanted"
        ;;
    esac
done <"$TOP/docs/pair.md"
cmp -n $((4 << 20)) "$work/written" "$work/hosta/srv/vm1.img"
cmp "$work/hosta/srv/vm1.img" "$work/hostb/srv/vm1.img"
