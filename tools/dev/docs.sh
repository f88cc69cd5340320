# SPDX-License-Identifier: Apache-2.0
#
# ./dev docs

docs_help()
{
    cat <<'END'
./dev docs: writes the reference and man pages again, from what they are about
usage: ./dev docs [--check]

The tables in src/base/tables (errors, settings, wire frames, states, metrics), the public headers in
include/manta, the help texts in src/cli and the Python package are the source of the pages in docs/reference and
docs/man and of docs/ray-serve-names.md; never edit those by hand.

  --check   changes nothing; exit status 1 when a page is not what they say
END
}

docs_main()
{
    local options=()
    while [ $# -gt 0 ]; do
        case "$1" in
            --check) options+=(--check) ;;
            *) refuse_option docs "$1" ;;
        esac
        shift
    done
    need build
    local status=0
    "$python" tools/generate_reference.py "${options[@]}" || status=1
    "$python" tools/generate_api_reference.py "${options[@]}" || status=1
    python_environment_ready || return 1
    PYTHONDONTWRITEBYTECODE=1 "$python_environment/bin/python" tools/generate_python_reference.py "${options[@]}" || status=1
    return "$status"
}
