# SPDX-License-Identifier: Apache-2.0
#
# ./dev sim

sim_help()
{
    cat <<'END'
./dev sim: runs the simulated world: all roles in one thread, with seeded faults
usage: ./dev sim [--sanitize] [options of the world]

The world runs the minds on a simulated clock, network, disk and engine; a seed decides every fault, so a
seed that fails once fails always.  Options are the world's own and go through unchanged, among them

  --seeds N    this many seeds
  --seed N     this one seed, narrated

  --sanitize   the world of build/sanitize instead of build/release (must come first)

A seed that showed something belongs into tests/sim/seeds.txt; `./dev test` runs those.
END
}

sim_main()
{
    local name=release
    if [ "${1:-}" = --sanitize ]; then
        name=sanitize
        shift
    fi
    need build
    compile_build "$name" || exit 1
    local world=build/$name/tests/sim/world
    [ -x "$world" ] || die "there is no $world"
    exec "$world" "$@"
}
