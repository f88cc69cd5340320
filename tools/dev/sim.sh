# SPDX-License-Identifier: Apache-2.0
#
# ./dev sim

sim_help()
{
    cat <<'END'
./dev sim: runs the simulated world: all roles in one thread, with seeded faults
usage: ./dev sim [--sanitize] [options of the world]

The world runs the real roles on a simulated clock, kernel, disk and engine; a seed decides every fault, so
a seed that fails once fails always.  Without options: the seeds of tests/sim/seeds.txt, and 1,000 more.
Options are the world's own and go through unchanged, among them

  --seed N        this one seed, narrated
  --seeds N       this many seeds; --from M: the first of them; --jobs J: so many side by side
  --defects       mistakes made on purpose: each must be caught; --defect NAME: one of them, narrated
  --list-faults, --list-invariants, --list-defects
                  what may happen, what must be true, what may be broken

  --sanitize      the world of build/sanitize instead of build/release (must come first)

All options: build/release/tests/sim/world --help.  How to read a story, and how to add a fault or a defect:
tests/sim/README.md.  A seed that showed something belongs into tests/sim/seeds.txt; `./dev test` runs those.
END
}

sim_main()
{
    local name=release program=world argument
    if [ "${1:-}" = --sanitize ]; then
        name=sanitize
        shift
    fi
    for argument in "$@"; do
        case "$argument" in
            --defect | --defect=* | --defects) program=world_with_defects ;;
        esac
    done
    [ $# -gt 0 ] || set -- --file tests/sim/seeds.txt --seeds 1000
    need build
    compile_build "$name" "tests/sim/$program" || exit 1
    local world=build/$name/tests/sim/$program
    [ -x "$world" ] || die "there is no $world"
    exec "$world" "$@"
}
