# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# Completion for tap-ctl and tapdisk in bash.  Verbs, options and what belongs
# behind them are read from the programs' help, disks from what runs, so that
# nothing here can be out of date.

# _tapdisk_offer WORDS: those that begin as the word does.  Outside quotes bash
# breaks words at ':' and '=', so what stands before those is taken off again.
_tapdisk_offer() {
    local i
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$_word")
    for i in "${!COMPREPLY[@]}"; do
        COMPREPLY[i]=${COMPREPLY[i]#"$_before"}
    done
}

_tapdisk_offer_more() { # WORDS: there is more to come behind each
    compopt -o nospace 2>/dev/null
    _tapdisk_offer "$1"
}

_tapdisk_offer_files() { # also behind TYPE: and FILTER:|TYPE:
    local path=${_word##*[:=|]} words
    compopt -o filenames 2>/dev/null
    words=${_word%"$path"}
    mapfile -t COMPREPLY < <(compgen -f -P "${words#"$_before"}" -- "$path")
}

_tapdisk_offer_image() {
    local filters=${_word%"${_word##*|}"}
    if [[ ${_word##*|} == *:* ]]; then
        _tapdisk_offer_files
    else
        _tapdisk_offer_more "$(tapdisk --help 2>/dev/null | sed -n \
            "/^Types:/,/^\$/s/^  \\([^ ]*:\\) .*/${filters//\//\\/}\\1/p")"
    fi
}

_tapdisk_offer_disks() { # KEY: their names, pids or minors
    _tapdisk_offer "$(tap-ctl list --json "${_run_dir[@]}" 2>/dev/null |
        sed -n "s/^ *\"$1\": \"*\\([^\",]*\\).*/\\1/p" | grep -v null)"
}

# _tapdisk_offer_by_help HELP LAST: the options, or what belongs behind the
# option LAST.  Fails if LAST takes nothing.
_tapdisk_offer_by_help() {
    local argument=
    [[ $2 != -* ]] || argument=$(sed -nE -e "s/^ +(-[a-zA-Z], )?$2 ([^ ]+).*/\\2/p" \
        -e "s/^ +$2, --[a-z-]+ ([^ ]+).*/\\1/p" <<<"$1" | head -n 1)
    case $argument in
    NAME) [ "$2" = --nbd-export ] || _tapdisk_offer_disks name ;;
    PID) _tapdisk_offer_disks pid ;;
    MINOR) _tapdisk_offer_disks minor ;;
    TYPE) _tapdisk_offer "$(tapdisk --help 2>/dev/null |
        sed -n '/^Types:/,/^$/s/^  \([^ ]*\): .*/\1/p')" ;;
    TYPE:PATH) _tapdisk_offer_image ;;
    ADDRESS) if [[ $_word == unix:* ]]; then
        _tapdisk_offer_files
    else
        _tapdisk_offer_more "unix: tcp:"
    fi ;;
    URL) _tapdisk_offer_more "rdma:// tcp://" ;;
    local) _tapdisk_offer "local" ;;
    DIR | PATH | FILE) _tapdisk_offer_files ;;
    *\|file:PATH) if [[ $_word == file:* ]]; then
        _tapdisk_offer_files
    else
        _tapdisk_offer "stderr syslog file:"
    fi ;;
    *\|*) _tapdisk_offer "${argument//|/ }" ;;
    LEVEL) _tapdisk_offer "error warning info debug" ;;
    GROUP) mapfile -t COMPREPLY < <(compgen -g -- "$_word") ;;
    "")
        [[ $_word == -* ]] || return 1
        _tapdisk_offer "$(sed -nE \
            's/^ {2,6}(-[a-zA-Z], )?(--[a-z-]+).*/\2/p' <<<"$1")"
        ;;
    esac
}

# Sets $_words, which are broken at blanks only; $_word, up to the cursor, of
# which bash would not replace $_before; $_last, the one before it; $_run_dir.
_tapdisk_read_line() {
    local i
    read -ra _words <<<"${COMP_LINE:0:COMP_POINT}"
    _word=
    [[ ${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] ||
        { _word=${_words[-1]} && unset '_words[-1]'; }
    _before=${_word%"${_word##*[:=]}"}
    [[ $_word != [\'\"]* ]] || { _word=${_word:1} && _before=; }
    _last=${_words[-1]}
    _run_dir=()
    for ((i = 1; i + 1 < ${#_words[@]}; i++)); do
        [ "${_words[i]}" != --run-dir ] ||
            _run_dir=(--run-dir "${_words[i + 1]}")
    done
    COMPREPLY=()
}

_tap_ctl() {
    local _word _before _last _words _run_dir help
    _tapdisk_read_line
    if [ ${#_words[@]} -eq 1 ]; then
        _tapdisk_offer "--help $(tap-ctl --help 2>/dev/null |
            sed -n '/^Verbs:/,/^$/s/^  \([a-z-]*\) .*/\1/p')"
        return
    fi
    help=$(tap-ctl "${_words[1]}" --help 2>/dev/null)
    _tapdisk_offer_by_help "$help" "$_last" || case ${_words[1]} in
    log-level) _tapdisk_offer "error warning info debug" ;;
    driver) _tapdisk_offer "fault lossy remus" ;;
    checkpoint) case $_last in
        create | list | delete) ;;
        *) _tapdisk_offer "create list delete" ;;
        esac ;;
    metadata) case $_last in
        dump | check) _tapdisk_offer_files ;;
        metadata) _tapdisk_offer "dump check" ;;
        esac ;;
    esac
}

_tapdisk() {
    local _word _before _last _words _run_dir
    _tapdisk_read_line
    _tapdisk_offer_by_help "$(tapdisk --help 2>/dev/null)" "$_last" ||
        _tapdisk_offer_image
}

complete -F _tap_ctl tap-ctl
complete -F _tapdisk tapdisk
