# SPDX-License-Identifier: Apache-2.0
#
# ./dev build

build_help()
{
    cat <<'END'
./dev build: compiles everything into build/release
usage: ./dev build [--sanitize] [--thread] [--all]

Without an option: build/release, optimised (-O2 -g) with assertions on.  The command line is then
build/release/src/cli/manta.

  --sanitize   build/sanitize instead: AddressSanitizer and UndefinedBehaviorSanitizer
  --thread     build/thread instead: ThreadSanitizer
  --all        all three

A directory is configured only when it is new or its options changed, so a second run compiles what
changed and nothing else.  `ninja -C build/release` does the same afterwards.
END
}

build_main()
{
    local wanted=() name
    while [ $# -gt 0 ]; do
        case "$1" in
            --sanitize) wanted+=(sanitize) ;;
            --thread) wanted+=(thread) ;;
            --all) wanted+=(release sanitize thread) ;;
            *) refuse_option build "$1" ;;
        esac
        shift
    done
    [ "${#wanted[@]}" -gt 0 ] || wanted=(release)
    need build
    for name in "${wanted[@]}"; do
        compile_build "$name" || exit 1
    done
}
