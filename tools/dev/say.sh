# SPDX-License-Identifier: Apache-2.0
#
# Words to the user.  What a command does goes to stdout, one short line a step; what went wrong goes to
# stderr.  Long output of other programs goes to a log file and is shown only when the program failed.

say()
{
    printf '%s\n' "$*"
}

complain()
{
    printf './dev: %s\n' "$*" >&2
}

die()
{
    complain "$@"
    exit 1
}

# quietly LOG COMMAND...: runs the command with its output in LOG; on failure shows the end of LOG.
quietly()
{
    local log=$1 status=0
    shift
    mkdir -p "$(dirname "$log")"
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if [ "$status" -ne 0 ]; then
        complain "failed with status $status: $*"
        tail -n 60 "$log" >&2
        complain "the whole output is in $log"
    fi
    return "$status"
}

# value_of OPTION VALUES...: the value that must follow an option; dies when there is none.
value_of()
{
    [ $# -ge 2 ] && [ -n "$2" ] || die "$1 needs a value"
    printf '%s' "$2"
}

refuse_option()
{
    complain "$1 does not know '$2'; ./dev $1 --help lists its options"
    exit 2
}
