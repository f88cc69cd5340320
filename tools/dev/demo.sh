# SPDX-License-Identifier: Apache-2.0
#
# ./dev demo

demo_help()
{
    cat <<'END'
./dev demo: builds, starts the example application, sends it real requests and shows the answers
usage: ./dev demo [NAME] [options of the demo]

NAME is a demo in examples/: `demo` (the default) or the name of a folder there that has a `demo` of its
own.  A demo starts its server on a free loopback port, shows every request with its answer and how long
it took, and ends everything that it started.
END
}

demo_main()
{
    local script=examples/demo
    if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
        script=examples/$1/demo
        shift
    fi
    local candidate found=''
    for candidate in "$script" "$script.sh" "$script.py"; do
        if [ -x "$candidate" ] && [ ! -d "$candidate" ]; then
            found=$candidate
            break
        fi
    done
    [ -n "$found" ] || die "there is no executable $script"
    need build
    compile_build release || exit 1
    MANTA_BUILD=$PWD/build/release exec "$found" "$@"
}
