# SPDX-License-Identifier: Apache-2.0
#
# ./dev bench

bench_help()
{
    cat <<'END'
./dev bench: measures Manta beside a raw epoll server, nginx and HAProxy
usage: ./dev bench [options]          HTTP, interleaved, ratios against the targets
       ./dev bench start [options]    time to the first answer, memory and idle CPU
       ./dev bench payload [runs]     large bodies between two processes (by reference, copied once, by socket), and
                                     a pipeline of three deployments that passes pictures of 10 MB
       ./dev bench python [options]   Python deployments beside uvicorn and Ray Serve: HTTP, calls through handles, deploys,
                                     starts, memory; each in an environment of its own (bench/python/python_bench.py --help)
       ./dev bench websocket [options]  a websocket echo beside uvicorn with the same Starlette application
       ./dev bench lifecycle [options]  every request of an open-loop load through rollouts, kills and hangs, C and Python;
                                     --with-ray sets Ray Serve beside it, --quick is C alone, under a minute

Everything runs on this machine over loopback, for a bounded time, and is ended afterwards; nginx and
HAProxy run by hand with their own configuration in a temporary directory.

  --only LIST       of raw,nginx,haproxy,manta (default: all that can run)
  --rounds N        interleaved rounds (default 5); medians are reported
  --seconds N       measured seconds of a cell (default 3)
  --connections L   of 1,16,64,256
  --quick           one short round, to see that everything runs; its figures mean little
  --compare FILE    sets an earlier result beside this one
  --out FILE        where the JSON goes (default: bench/results/<time>.json, and a table in .md beside it)

bench/run.py --help and bench/start.py --help have the rest.
END
}

bench_main()
{
    need build bench
    if [ "${1:-}" = python ]; then
        shift
        bench_python "$@"
    fi
    if [ "${1:-}" = websocket ]; then
        shift
        bench_websocket "$@"
    fi
    if [ "${1:-}" = lifecycle ]; then
        python_environment_ready || exit 1
    fi
    compile_build release || exit 1
    if [ "${1:-}" = lifecycle ]; then
        shift
        bench_lifecycle "$@"
    fi
    if [ "${1:-}" = start ]; then
        shift
        exec "$python" bench/start.py "$@"
    fi
    if [ "${1:-}" = payload ]; then
        shift
        build/release/bench/payload/payload_bench "$@" || exit 1
        exec build/release/bench/pipeline/pipeline_bench build/release/bench/pipeline/libstages.so
    fi
    exec "$python" bench/run.py "$@"
}

# What is measured beside Manta has an environment of its own, which stays.
bench_environment_ready()
{
    environment_ready "build/bench-$1" "bench/python/requirements/$1.txt"
}

bench_websocket()
{
    need python
    compile_build release || exit 1
    bench_environment_ready manta || exit 1
    bench_environment_ready uvicorn || exit 1
    PYTHONDONTWRITEBYTECODE=1 exec "$python" bench/websocket/websocket_bench.py "$@"
}

bench_lifecycle()
{
    local argument options=()
    for argument in "$@"; do
        if [ "$argument" = --with-ray ]; then
            bench_environment_ready ray || exit 1
            options+=(--ray build/bench-ray/bin/python)
        else
            options+=("$argument")
        fi
    done
    exec "$python_environment/bin/python" bench/lifecycle/lifecycle.py "${options[@]}"
}

# Manta is measured with the extension that the release build has; a peer that cannot be installed is left out.
bench_python()
{
    local peer
    need python
    compile_build release || exit 1
    bench_environment_ready manta || exit 1
    for peer in uvicorn ray; do
        bench_environment_ready "$peer" || say "without $peer"
    done
    PYTHONDONTWRITEBYTECODE=1 exec "$python" bench/python/python_bench.py "$@"
}
