# SPDX-License-Identifier: Apache-2.0
#
# ./dev fuzz

fuzz_help()
{
    cat <<'END'
./dev fuzz: runs the fuzz targets of tests/fuzz under clang's libFuzzer
usage: ./dev fuzz [TARGET]... [--seconds N] [--list] [-- libFuzzer options]

Without TARGET every target has its turn: http1, wire, ...  A target starts from its corpus in
tests/fuzz/<target>/corpus, which is only read; inputs that reach new code are kept in
build/fuzz/found/<target> and used again next time, inputs that break something in
build/fuzz/broken/<target>-*.

  --seconds N   time for each target (default 60)
  --list        names the targets

A broken input that is understood belongs into the corpus, from where `./dev test` replays it for ever.
END
}

fuzz_main()
{
    local targets=() seconds=60 listing=''
    while [ $# -gt 0 ]; do
        case "$1" in
            --seconds) seconds=$(value_of "$@") || exit 1; shift ;;
            --list) listing=1 ;;
            --) shift; break ;;
            -*) refuse_option fuzz "$1" ;;
            *) targets+=("$1") ;;
        esac
        shift
    done
    case "$seconds" in
        '' | *[!0-9]*) die "--seconds needs a number, not '$seconds'" ;;
    esac
    need build fuzz
    compile_build fuzz fuzz_targets || exit 1
    local all
    mapfile -t all < <(fuzz_targets)
    [ "${#all[@]}" -gt 0 ] || die 'there is no fuzz target in build/fuzz/tests/fuzz'
    if [ -n "$listing" ]; then
        printf '%s\n' "${all[@]}"
        return 0
    fi
    [ "${#targets[@]}" -gt 0 ] || targets=("${all[@]}")
    local target failed=0
    for target in "${targets[@]}"; do
        fuzz_one "$target" "$seconds" "$@" || failed=1
    done
    return "$failed"
}

fuzz_targets()
{
    find build/fuzz/tests/fuzz -type f -executable -name 'fuzz_*' -printf '%f\n' 2>/dev/null | sed 's/^fuzz_//' | sort
}

# fuzz_one TARGET SECONDS [libFuzzer options]
fuzz_one()
{
    local target=$1 seconds=$2 program corpus=() log=build/fuzz/$1.log status=0
    shift 2
    program=$(find build/fuzz/tests/fuzz -type f -executable -name "fuzz_$target" -print -quit)
    [ -n "$program" ] || die "there is no fuzz target '$target'; ./dev fuzz --list names them"
    [ ! -d "tests/fuzz/$target/corpus" ] || corpus=("tests/fuzz/$target/corpus")
    mkdir -p "build/fuzz/found/$target" build/fuzz/broken
    # libFuzzer writes what it finds into the first directory and reads all of them.
    "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/broken/$target-" "$@" "build/fuzz/found/$target" "${corpus[@]}" \
        >"$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        grep -vE '^#[0-9]+' "$log" | tail -n 60 >&2
        complain "$target broke; its input is in build/fuzz/broken, the whole output in $log"
        return 1
    fi
    local runs
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    say "$target: ${runs:-some} runs in $seconds s, nothing broke, $(find "build/fuzz/found/$target" -type f | wc -l) inputs found so far"
}
