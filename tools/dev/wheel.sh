# SPDX-License-Identifier: Apache-2.0
#
# ./dev wheel

wheel_help()
{
    cat <<'END'
./dev wheel: makes wheels of the Python package that run on other machines
usage: ./dev wheel [--out DIR] [PYTHON...]

PYTHON is an interpreter of CPython 3.10 or newer (default: the system's); each gets a wheel of its own.  The
libraries that Manta is linked with are put inside, with their licences, and the wheel's tag says which C library
is old enough.  Needs PyPI: the build takes place in an environment of its own, as `pip install .` does.

  --out DIR   where the wheels go (default: build/wheels)
END
}

wheel_main()
{
    local out=build/wheels options=()
    while [ $# -gt 0 ]; do
        case "$1" in
            --out) out=$(value_of "$@") || exit 1; shift ;;
            -*) refuse_option wheel "$1" ;;
            *) options+=(--python "$1") ;;
        esac
        shift
    done
    [ "${#options[@]}" -gt 0 ] || options=(--python "$python")
    need build python
    wheel_environment_ready || exit 1
    exec "$wheel_environment/bin/python" tools/make_wheel.py --out "$out" "${options[@]}"
}
