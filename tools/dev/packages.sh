# SPDX-License-Identifier: Apache-2.0
#
# What must be installed, by purpose, and the installing of what is missing.
#
# The names are Debian 12's.  dpkg is asked first, so with nothing missing nothing is fetched or changed.
# Root installs, others go through sudo; without both the missing packages are named and the command
# ends.  On a system without dpkg the list is only mentioned and the build is left to find out.

packages_build=(gcc g++ meson ninja-build pkg-config libuv1-dev libmsgpack-dev libxxhash-dev
                libjansson-dev libsqlite3-dev libyaml-dev libwslay-dev zlib1g-dev nettle-dev libdlpack-dev libcriterion-dev libxgboost-dev libpng-dev
                python3)
packages_test=(python3-pytest)
packages_browser=(chromium)
packages_python=(python3-dev python3-venv)
packages_fuzz=(clang libclang-rt-14-dev)
packages_tidy=(clang-format clang-tidy git)
packages_bench=(nginx haproxy wrk util-linux)

# Packages above that start a service when they are installed.  The bench runs these programs by hand.
packages_with_service=(nginx haproxy)

python=/usr/bin/python3
[ -x "$python" ] || python=python3

# need PURPOSE...: all packages of these purposes are installed when this returns.
need()
{
    local purpose name missing=()
    if ! command -v dpkg-query >/dev/null; then
        return 0
    fi
    for purpose in "$@"; do
        local -n names="packages_$purpose"
        for name in "${names[@]}"; do
            is_installed "$name" || missing+=("$name")
        done
    done
    [ "${#missing[@]}" -eq 0 ] || install_packages "${missing[@]}"
}

is_installed()
{
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_packages()
{
    if ! can_be_root; then
        complain "these Debian packages are missing, and neither root nor sudo is available:"
        complain "    apt-get install $*"
        exit 1
    fi
    say "installing: $*"
    forbid_service_starts
    local status=0
    # A list that cannot be refreshed may still do; installing tells.
    quietly build/apt-update.log as_root apt-get -o DPkg::Lock::Timeout=300 update || true
    quietly build/apt-install.log as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" || status=$?
    allow_service_starts
    [ "$status" -eq 0 ] || exit 1
    keep_services_off "$@"
}

can_be_root()
{
    [ "$(id -u)" -eq 0 ] && return 0
    command -v sudo >/dev/null || return 1
    # Without a terminal nobody can type a password.
    sudo -n true 2>/dev/null || [ -t 0 ]
}

as_root()
{
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

# Debian starts the services of a package while installing it, unless /usr/sbin/policy-rc.d says no.
# One that is there already is somebody's decision and stays.
policy_file=/usr/sbin/policy-rc.d
policy_is_ours=

forbid_service_starts()
{
    [ ! -e "$policy_file" ] || return 0
    trap allow_service_starts EXIT
    policy_is_ours=1
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy_file" >/dev/null
    as_root chmod 755 "$policy_file"
}

allow_service_starts()
{
    [ -n "$policy_is_ours" ] || return 0
    as_root rm -f "$policy_file"
    policy_is_ours=
}

# A service that came with us shall not start at the next boot either; one that was there is not touched.
keep_services_off()
{
    local name service
    command -v systemctl >/dev/null || return 0
    for name in "$@"; do
        for service in "${packages_with_service[@]}"; do
            if [ "$name" = "$service" ]; then
                as_root systemctl --quiet disable "$service.service" 2>/dev/null || true
            fi
        done
    done
}
