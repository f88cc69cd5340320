# SPDX-License-Identifier: Apache-2.0
#
# ./dev demo

demo_help()
{
    cat <<'END'
./dev demo: builds, starts services in C and in Python, sends them real requests and shows the answers
usage: ./dev demo [NAME] [options of the demo]

NAME is the name of a folder in examples/ that has a `demo` of its own: xgboost, or python/filetypes.  Without
it, one after the other.  A demo starts its server on a free loopback port, shows requests with their answers
and how long they took, and ends everything that it started.  The one in Python needs a package from PyPI,
which is installed into build/examples-environment.
END
}

demo_main()
{
    local names=(xgboost python/filetypes) name
    if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
        names=("${1#examples/}")
        [ -x "examples/${names[0]}/demo" ] || die "there is no executable examples/${names[0]}/demo"
        shift
    fi
    need build python
    compile_build release || exit 1
    export MANTA_BUILD=$PWD/build/release
    for name in "${names[@]}"; do
        case "$name" in
            python/*) examples_environment_ready "${name#python/}" || exit 1 ;;
        esac
        "examples/$name/demo" "$@" || exit
        # Options are the first one's.
        set --
    done
}
