# SPDX-License-Identifier: Apache-2.0
#
# ./dev test: the stages, their order, and what their results add up to.  One stage with Meson is
# tools/dev/run_stage.py; this file decides which stages there are.

test_help()
{
    cat <<'END'
./dev test: builds and runs every test
usage: ./dev test [--quick] [--only TEXT] [--stage STAGE]... [--verbose]

Stages, in this order; a stage that fails does not stop the next:

  release    unit tests, transcripts, house checks, fuzz corpora and seeds of the simulated world, as built for users
  sanitize   the same under AddressSanitizer and UndefinedBehaviorSanitizer
  thread     the tests of the suite 'thread' under ThreadSanitizer
  python     pytest on tests/python and tests/conform/python, in an environment of its own (build/python-environment)
  native     the Python extension with the interpreter's debug allocators, and under AddressSanitizer
             and UndefinedBehaviorSanitizer: those of tests/system that are about values, tasks and batches
  system     pytest on tests/system: real processes, real sockets; last, so that its summary closes the output

  --quick         under a minute: the stage release without the suites sim, fuzz and slow, and the system
                  tests that are marked quick
  --only TEXT     only tests whose name or suite contains TEXT (for pytest: -k TEXT)
  --stage STAGE   only this stage; may be given more than once
  --verbose       names every test, not only those that failed

One line a stage with its counts; a failed test is shown with the end of its output and the command that
runs it again.  Full logs: build/<stage>/meson-logs/testlog.txt.  Exit status 0 when everything passed.
The system tests find the build they test in MANTA_BUILD (an absolute path).
END
}

test_main()
{
    local stage stages=() quick='' only='' verbose=''
    while [ $# -gt 0 ]; do
        case "$1" in
            --quick) quick=1 ;;
            --only) only=$(value_of "$@") || exit 1; shift ;;
            --stage) stage=$(value_of "$@") || exit 1; stages+=("$stage"); shift ;;
            --verbose) verbose=1 ;;
            *) refuse_option test "$1" ;;
        esac
        shift
    done
    if [ "${#stages[@]}" -eq 0 ]; then
        stages=(release sanitize thread python native system)
        [ -z "$quick" ] || stages=(release system)
    fi

    need build test python
    mkdir -p build
    : >build/test-counts
    local failed=0
    for stage in "${stages[@]}"; do
        case "$stage" in
            release | sanitize | thread) run_meson_stage "$stage" || failed=1 ;;
            python | native | system) ;;
            *) die "there is no stage '$stage'; ./dev test --help lists them" ;;
        esac
    done
    [ ! -s build/test-counts ] && [ "$failed" -eq 0 ] || print_total "$failed"
    case " ${stages[*]} " in
        *' python '*) run_python_stage || failed=1 ;;
    esac
    case " ${stages[*]} " in
        *' native '*) run_native_stage || failed=1 ;;
    esac
    case " ${stages[*]} " in
        *' system '*) run_system_stage || failed=1 ;;
    esac
    return "$failed"
}

# compile_once NAME: compiles unless this run did; what did not compile then is not tried again, nor is
# any other build when the release did not compile: it is the same source.
declare -A compiled=()
compile_once()
{
    if [ -z "${compiled[$1]:-}" ]; then
        if [ "${compiled[release]:-0}" -ne 0 ]; then
            say "$1: not run, the release did not compile"
            compiled[$1]=1
        else
            compiled[$1]=0
            compile_stage "$1" || compiled[$1]=1
        fi
    fi
    return "${compiled[$1]}"
}

# The thread stage has few tests and compiles only those; the others compile everything.
compile_stage()
{
    local targets=()
    if [ "$1" = thread ]; then
        configure_build thread || return 1
        mapfile -t targets < <("$python" tools/dev/run_stage.py thread --suite thread --print-targets)
        [ "${#targets[@]}" -gt 0 ] || return 0
    fi
    compile_build "$1" "${targets[@]}"
}

# Builds and runs the Meson tests of one build directory.
run_meson_stage()
{
    local options=()
    compile_once "$1" || return 1
    [ -z "$quick" ] || options+=(--no-suite sim --no-suite fuzz --no-suite slow)
    [ -z "$only" ] || options+=(--only "$only")
    [ -z "$verbose" ] || options+=(--verbose)
    [ "$1" != thread ] || options+=(--suite thread)
    sanitizer_environment "$1" "$python" tools/dev/run_stage.py "$1" --jobs "$jobs" \
        --counts build/test-counts "${options[@]}"
}

# sanitizer_environment STAGE COMMAND...
# gcc 12's sanitizers place their shadow memory at fixed addresses and meet the stack when the kernel
# randomises more than 28 bits (vm.mmap_rnd_bits); without randomisation they always fit.
# https://gcc.gnu.org/bugzilla/show_bug.cgi?id=114413
sanitizer_environment()
{
    local stage=$1 fixed=()
    shift
    if [ "$stage" != release ] && setarch -R true 2>/dev/null; then
        fixed=(setarch -R)
    fi
    ASAN_OPTIONS="strict_string_checks=1:detect_stack_use_after_return=1:${ASAN_OPTIONS:-}" \
        UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS:-}" \
        LSAN_OPTIONS="suppressions=$PWD/tools/dev/leaks.supp:print_suppressions=0:${LSAN_OPTIONS:-}" \
        TSAN_OPTIONS="suppressions=$PWD/tools/dev/races.supp:halt_on_error=1:second_deadlock_stack=1:${TSAN_OPTIONS:-}" \
        "${fixed[@]}" "$@"
}

print_total()
{
    local passed failures
    passed=$(awk '{ sum += $1 } END { print sum + 0 }' build/test-counts)
    failures=$(awk '{ sum += $2 } END { print sum + 0 }' build/test-counts)
    # A build that broke counts as one failure: no test could tell.
    [ "$1" -eq 0 ] || [ "$failures" -gt 0 ] || failures=1
    say "total: $passed passed, $failures failed"
}

run_python_stage()
{
    local options=(--tb=short) status=0
    python_environment_ready || return 1
    [ -z "$only" ] || options+=(-k "$only")
    [ -z "$verbose" ] || options+=(-v)
    PYTHONPATH=$PWD/python PYTHONDONTWRITEBYTECODE=1 timeout --foreground -k 10 1200 \
        "$python_environment/bin/python" -m pytest -q -p no:cacheprovider --no-header "${options[@]}" \
        tests/python tests/conform/python || status=$?
    [ "$status" -ne 5 ] || status=0
    return "$status"
}

# The extension twice: as users have it, in an interpreter that checks its allocations and who holds its
# lock; and built with the sanitizers, in one whose objects come from malloc, which they watch.
run_native_stage()
{
    local status=0
    python_environment_ready || return 1
    compile_once release || return 1
    native_tests release PYTHONMALLOC=debug PYTHONDEVMODE=1 || status=1
    compile_once sanitize || return 1
    # Leaks are looked for by the system tests: an interpreter keeps much when it ends.
    ASAN_OPTIONS=detect_leaks=0 native_tests sanitize PYTHONMALLOC=malloc \
        "LD_PRELOAD=$(gcc -print-file-name=libasan.so)" || status=1
    return "$status"
}

# native_tests BUILD NAME=VALUE...
native_tests()
{
    local build=$1 options=(--tb=short -q) status=0
    shift
    [ -z "$only" ] || options+=(-k "$only")
    [ -n "$only" ] || options+=(-k "not flat and not blocks") # memory and time of sanitizers are their own
    [ -z "$verbose" ] || options+=(-v)
    say "native: the build $build with $*"
    MANTA_BUILD="$PWD/build/$build" PYTHONDONTWRITEBYTECODE=1 sanitizer_environment "$build" env "$@" timeout --foreground -k 10 600 \
        "$python" -m pytest -p no:cacheprovider --no-header "${options[@]}" tests/system/test_python_values.py \
        tests/system/test_python_tasks.py tests/system/test_python_batching.py || status=$?
    [ "$status" -ne 5 ] || status=0
    return "$status"
}

run_system_stage()
{
    local options=(--tb=short -o 'markers=quick: part of ./dev test --quick') status=0
    if [ ! -d tests/system ] || [ -z "$(find tests/system -name 'test_*.py' -print -quit)" ]; then
        return 0
    fi
    if [ -z "$quick" ]; then
        python_environment_ready || say "the system tests of Python are skipped"
        examples_environment_ready || say "the tests of the examples in Python are skipped"
        # Some system has no such package: its tests say so, too.
        (need browser) || say "the tests with a browser are skipped"
    fi
    compile_once release || return 1
    [ -z "$quick" ] || options+=(-m quick)
    [ -z "$only" ] || options+=(-k "$only")
    [ -z "$verbose" ] || options+=(-v)
    MANTA_BUILD=$PWD/build/release PYTHONDONTWRITEBYTECODE=1 timeout --foreground -k 10 2400 \
        "$python" -m pytest -p no:cacheprovider --no-header "${options[@]}" tests/system || status=$?
    # 5: no test was chosen, which --only and --quick may well cause.
    [ "$status" -ne 5 ] || status=0
    return "$status"
}
