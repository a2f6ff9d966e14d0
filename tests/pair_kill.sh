#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Either host, or both, killed at random moments, over images that lose what
# was not flushed; a guest writes all the time and remembers what was
# acknowledged (A1, A9), first at level written, then at level durable.  The operator promotes the secondary if it lets him,
# and else starts the primary again.  ROUNDS and SEED say how often, and again.
#
# over: san
# time limit: 900
. "$(dirname "$0")/two_hosts.sh"

case $BUILD in
*/address-undefined) rounds=15 ;;
*) rounds=50 ;;
esac
rounds=${ROUNDS:-$rounds}
seed=${SEED:-$RANDOM}
RANDOM=$seed
echo "seed $seed"
quick=(--ping 50ms --dead 5s --grace 300ms)
image[a]="lossy:tear=0.3,seed=$seed|${image[a]}"
image[b]="lossy:tear=0.3,seed=$seed|${image[b]}"

mkfifo "$work/orders" "$work/answers"
"$TOP/tests/kill_guest.py" "$seed" <"$work/orders" >"$work/answers" &
pids+=("$!")
exec {orders}>"$work/orders" {answers}<"$work/answers"

guest() { # COMMAND...: and its answer
    local answer
    echo "$*" >&$orders
    read -rt "$WAIT_S" answer <&$answers || fail "the guest is silent: $*"
    [[ $answer == ok* ]] || fail "$answer (seed $seed, round $round, $story)"
}

below() { # N: a random number
    echo $((RANDOM % $1))
}

serves() { # NAME
    [[ $(replica_status "$1" '["state"]') =~ ^(solo|resync|paired)$ ]]
}

# A primary that went on alone is better than its copy until they have met.
has_met() { # NAME
    [[ $(replica_status "$1" '["state"]') =~ ^(target|synced)$ ]]
}

promote() { # NAME: false if this copy is not to be trusted
    if tap-ctl promote -n "$1" >"$work/promote" 2>&1; then
        return 0
    fi
    grep -Eq 'not consistent|is empty' "$work/promote" ||
        fail "$(cat "$work/promote")"
    return 1
}

primary=a secondary=b
declare -A count=([failover]=0 [refused]=0 [both]=0 [secondary]=0)

# begin LEVEL: a new pair.  At level durable nothing that was acknowledged is
# lost, whoever loses power; else what no flush has covered may be.
begin() {
    level=$1
    crash=crash
    [ "$level" != durable ] || crash=strict
    new_disks 32M
    story=start
    host b secondary --ack "$level"
    host a primary --ack "$level"
    primary=a secondary=b
    guest attach "$(uri_of a)" new
}

end() {
    wait_until in_sync "$primary"
    guest end
    stop_host "$primary"
    stop_host "$secondary"
    cmp "$work/a.img" "$work/b.img"
}

round=0
begin written
for ((round = 1; round <= rounds; round++)); do
    if [ $round -eq $((rounds * 3 / 5)) ]; then
        end
        begin durable
    fi
    wait_until has_met "$secondary"
    # at once, in the midst of a copy, or in sync
    case $(below 3) in
    0) ;;
    1) guest run $(($(below 300) + 1)) ;;
    2)
        wait_until in_sync "$primary"
        guest run $(($(below 300) + 1))
        ;;
    esac
    case $(below 5) in
    0 | 1)
        story="secondary $secondary"
        kill_host "$secondary"
        guest run $(($(below 200) + 1))
        host "$secondary" secondary --ack "$level"
        count[secondary]=$((count[secondary] + 1))
        ;;
    2 | 3)
        story="primary $primary"
        kill_host "$primary"
        guest lost
        if promote "$secondary"; then
            story+=", $secondary promoted"
            guest attach "$(uri_of "$secondary")" strict
            host "$primary" secondary --ack "$level"
            primary=$secondary secondary=${other[$secondary]}
            count[failover]=$((count[failover] + 1))
        else
            story+=", $secondary not in sync"
            host "$primary" primary --ack "$level"
            wait_until serves "$primary"
            guest attach "$(uri_of "$primary")" $crash
            count[refused]=$((count[refused] + 1))
        fi
        ;;
    4)
        story="both, $primary primary"
        kill_host "$primary"
        kill_host "$secondary"
        guest lost
        host "$secondary" secondary --ack "$level"
        host "$primary" primary --ack "$level"
        wait_until serves "$primary"
        guest attach "$(uri_of "$primary")" $crash
        count[both]=$((count[both] + 1))
        ;;
    esac
    echo "$round: $level: $story"
done
end
for story in "${!count[@]}"; do
    echo "$story: ${count[$story]}"
    [ "$rounds" -lt 50 ] || [ "${count[$story]}" -gt 0 ] ||
        fail "in $rounds rounds there was no $story"
done
