# SPDX-License-Identifier: Apache-2.0
#
# ./dev docs

docs_help()
{
    cat <<'END'
./dev docs: writes the reference pages again, from the fact tables
usage: ./dev docs [--check]

The tables in src/base/tables (errors, settings, wire frames, states, metrics) are the source of the pages
in docs/reference; never edit those by hand.

  --check   changes nothing; exit status 1 when a page is not what the tables say
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
    exec "$python" tools/generate_reference.py "${options[@]}"
}
