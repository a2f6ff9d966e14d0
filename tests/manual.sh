#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The manual pages are true: each verb and option stands in the page and in
# --help, and each example of the pages, run as it is printed, prints what is
# printed below it ("..." stands for anything).
# over: san
. "$(dirname "$0")/lib.sh"

need mandoc nbdinfo nbdcopy psktool qemu-io python3 openssl

PATH=$BUILD:$PATH
export TAPDISK_RUN_DIR=$run_dir/tapdisk

# --- options ---

page_of() { # PROGRAM: its source, without comments
    grep -v '^\.\\"' "$TOP/docs/$1.8"
}

same() { # WHAT IN-HELP IN-MANUAL: lists of words
    diff <(tr ' ' '\n' <<<"$2" | sort -u) <(tr ' ' '\n' <<<"$3" | sort -u) \
        >"$work/diff" || {
        cat "$work/diff"
        fail "$1: --help (<) and the manual (>) differ"
    }
}

section() { # NAME...: of a page on stdin
    awk -v name="$*" '/^\.Sh / { on = ($0 == ".Sh " name) } on'
}

# Lines "-x --name ARGUMENT", what is missing left out, in a help text.
help_options() {
    sed -nE 's/^ +((-[a-zA-Z]), )?(--[a-z-]+).*/\2 \3/p' | sed 's/^ //'
}

# The same of a manual's ".It Fl x , Fl -name".
manual_options() {
    sed -nE 's/^\.It Fl (([a-zA-Z]) , Fl )?(-[a-z-]+).*/\2 \3/p' |
        sed -E 's/^ ?-/--/; s/^([a-zA-Z]) /-\1 -/'
}

tapdisk --help >"$work/help"
same "options of tapdisk" "$(help_options <"$work/help")" \
    "$(page_of tapdisk | manual_options)"
same "types of tapdisk" \
    "$(sed -nE '/^Types:/,/^$/s/^ +([a-z]+): .*/\1/p' "$work/help")" \
    "$(page_of tapdisk | section DESCRIPTION |
        sed -nE 's/^\.It Cm ([a-z]+) :.*/\1/p')"

tap-ctl --help >"$work/help"
verbs=$(sed -nE '/^Verbs:/,/^$/s/^  ([a-z-]+) .*/\1/p' "$work/help")
same "verbs of tap-ctl" "$verbs" "$(page_of tap-ctl | section VERBS |
    sed -nE 's/^\.It (Xo )?Cm ([a-z-]+)$/\2/p')"
for verb in $verbs; do
    tap-ctl "$verb" --help >"$work/help.$verb"
    same "letters of tap-ctl $verb" "$(sed '/passed on:/,$d' \
        "$work/help.$verb" | help_options |
        sed -nE '/^-h /d; s/^(-[a-zA-Z]) .*/\1/p')" \
        "$(page_of tap-ctl | section VERBS |
            awk -v verb="$verb" '/^\.It / { on = $NF == verb }
                /^\.Xc/ { on = 0 } on' |
            sed -nE 's/^\.(Op )?Fl ([a-zA-Z]).*/-\2/p')"
done
same "options of tap-ctl" "$(sed -s '/passed on:/,$d' "$work"/help.* |
    help_options | tr ' ' '=')" \
    "$(page_of tap-ctl | manual_options | tr ' ' '=')"
for verb in create spawn; do
    same "options that tap-ctl $verb passes on" \
        "$(sed '1,/passed on:/d' "$work/help.$verb" | help_options)" \
        "$(page_of tap-ctl | section OPTIONS |
            sed -nE 's/^\.Fl (-[a-z-]+) [,.]$/-\1/p')"
done

same "options that tap-ctl open passes on" \
    "$(sed '1,/passed on:/d' "$work/help.open" | help_options)" \
    "$(page_of tap-ctl | section OPTIONS |
        sed -nE '/^\.Ar pair-options/,$s/^\.Fl (-[a-z-]+) [,.]$/-\1/p')"

# --- examples ---

# The text of the examples, as a reader sees it.
examples() { # PROGRAM
    page_of "$1" | section EXAMPLES |
        awk '/^\.Bd -literal/ { on = 1; next } /^\.Ed/ { on = 0 } on' |
        sed -e 's/\\e/\\/g' -e 's/\\-/-/g' -e 's/\\&//g' \
            -e "s|/run/|$run_dir/|g" -e "s|/srv/|$work/srv/|g" \
            -e "s|:10809|:$port|g" \
            -e "s|:7788|:$port|g" -e "s|:7789|:$other_port|g"
}

free_port() {
    python3 -c 'import socket
s = socket.socket()
s.bind(("localhost", 0))
print(s.getsockname()[1])'
}

end_daemons() {
    local socket
    for socket in "$TAPDISK_RUN_DIR"/ctl*; do
        [ -e "$socket" ] || continue
        kill "${socket##*/ctl}" 2>/dev/null || true
    done
}

# Runs $command, whose output must match $expected.
run_command() {
    local output pattern status=0 name
    [ -n "$command" ] || return 0
    echo "\$ $command"
    if [[ $command == *'&' ]]; then
        eval "$command"
        pids+=($!)
        name=${command##*--name }
        wait_until tap-ctl status -n "${name%% *}" >"$work/out" 2>&1
        : >"$work/out"
    else
        # in this shell: later commands want its variables
        eval "$command" >"$work/out" 2>&1 </dev/null || status=$?
    fi
    output=$(cat "$work/out")
    echo "$output"
    [ "$status" -eq 0 ] || fail "exit status $status"
    pattern=$(sed 's/[][*?\\]/\\&/g; s/\.\.\./*/g' <<<"$expected")
    # shellcheck disable=SC2053 # a pattern
    [[ $output == $pattern ]] || fail "the manual says: $expected"
    commands=$((commands + 1))
}

run_examples() { # PROGRAM
    local line command='' expected='' continued='' commands=0
    mkdir -p "$work/srv"
    random_file "$work/srv/debian.img" 1M
    port=$(free_port) other_port=$(free_port)
    examples "$1" >"$work/examples"
    while IFS= read -r line <&3; do
        if [ -n "$continued" ]; then
            command+=$line
        elif [[ $line == '$ '* ]]; then
            run_command
            command=${line#\$ } expected=''
        else
            expected+=${expected:+$'\n'}$line
            continue
        fi
        continued=
        [[ $command != *\\ ]] || { continued=1 && command=${command%\\}; }
    done 3<"$work/examples"
    run_command
    [ "$commands" -ge 10 ] || fail "$1: only $commands commands were run"
    [ -z "$(tap-ctl list)" ] || fail "$1: the examples left a disk behind"
    echo "$1: $commands commands did as the manual says"
    rm -rf "$work/srv" "$TAPDISK_RUN_DIR"
}

at_end end_daemons
run_examples tapdisk
run_examples tap-ctl
