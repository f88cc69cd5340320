# SPDX-License-Identifier: Apache-2.0
#
# Build directories.  Four of them, all below build/, all made by Meson from the same tree:
#
#   release    optimised, with debug information and with every assertion on: what users get
#   sanitize   AddressSanitizer and UndefinedBehaviorSanitizer; the first finding ends the program
#   thread     ThreadSanitizer
#   fuzz       clang with libFuzzer
#
# A directory is configured once, and again when its options, the set of meson.build files (the top file
# includes a folder when it exists) or the presence of Python's headers changed, which ninja alone would not notice.

jobs=${MANTA_JOBS:-$(nproc)}

# options_of NAME: Meson's options of a build directory, one a line.
options_of()
{
    printf '%s\n' -Dbuildtype=debugoptimized -Db_colorout=auto
    case "$1" in
        # The Python extension where Python's headers are (python3-dev, ./dev test installs it).
        release) printf '%s\n' -Dpython=auto ;;
        sanitize)
            printf '%s\n' -Dpython=auto -Db_sanitize=address,undefined -Db_lundef=false \
                -Dc_args=-fno-sanitize-recover=all -Dcpp_args=-fno-sanitize-recover=all
            ;;
        thread)
            printf '%s\n' -Db_sanitize=thread -Db_lundef=false
            ;;
        fuzz)
            # Everything is compiled with coverage; only the targets are linked with the fuzzer.
            printf '%s\n' -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false \
                '-Dc_args=-fno-sanitize-recover=all -fsanitize=fuzzer-no-link' \
                '-Dcpp_args=-fno-sanitize-recover=all -fsanitize=fuzzer-no-link'
            ;;
    esac
}

# Whether Python's headers are there: what -Dpython=auto found is not looked for again by itself.
python_headers()
{
    "$python" -c 'import os, sysconfig; print("Python.h:", os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
}

# configure_build NAME: build/NAME is configured and up to date with the tree when this returns 0.
configure_build()
{
    local directory=build/$1 wanted status=0
    wanted=$(options_of "$1"; python_headers; find . -path ./build -prune -o -name 'meson*.*' -print | sort)
    if [ -f "$directory/build.ninja" ] && [ "$wanted" = "$(cat "$directory/dev-stamp" 2>/dev/null)" ]; then
        return 0
    fi
    local again=()
    if [ -f "$directory/meson-private/coredata.dat" ]; then
        again=(--wipe)
    fi
    local options
    mapfile -t options < <(options_of "$1")
    local compiler=()
    [ "$1" != fuzz ] || compiler=(CC=clang CXX=clang++)
    quietly "build/configure-$1.log" env "${compiler[@]}" meson setup "${again[@]}" "$directory" "${options[@]}" ||
        status=$?
    [ "$status" -ne 0 ] || printf '%s\n' "$wanted" >"$directory/dev-stamp"
    return "$status"
}

# compile_build NAME [TARGETS]: configures and compiles; one line says what came of it.
compile_build()
{
    local started=$SECONDS
    configure_build "$1" || return 1
    quietly "build/compile-$1.log" ninja -C "build/$1" -j "$jobs" "${@:2}" || return 1
    local warnings
    warnings=$(grep -c 'warning:' "build/compile-$1.log" || true)
    say "build $1: done in $((SECONDS - started)) s$([ "$warnings" -eq 0 ] || printf ', %s warnings (build/compile-%s.log)' "$warnings" "$1")"
}
