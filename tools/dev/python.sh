# SPDX-License-Identifier: Apache-2.0
#
# The Python package's surroundings: virtual environments below build/, with what its tests, its examples and its
# wheels need from PyPI.

python_environment=build/python-environment

python_environment_ready()
{
    environment_ready "$python_environment" tests/python/requirements.txt
}

wheel_environment=build/wheel-environment

wheel_environment_ready()
{
    environment_ready "$wheel_environment" tools/dev/wheel_requirements.txt
}

# environment_ready DIRECTORY REQUIREMENTS: makes an environment, or brings it up to date; touches no network when
# nothing changed.
environment_ready()
{
    local directory=$1 wanted=$2 stamp=$1/.requirements
    need python
    if ! cmp -s "$wanted" "$stamp"; then
        say "python: making $directory with $(grep -cv '^#' "$wanted") packages and what they need"
        rm -rf "$directory"
        quietly "$directory.log" "$python" -m venv "$directory" || return 1
        quietly "$directory-packages.log" "$directory/bin/pip" --disable-pip-version-check install \
            --progress-bar off -r "$wanted" || return 1
        cp "$wanted" "$stamp"
    fi
}

examples_environment=build/examples-environment

# examples_environment_ready [NAME...]: an environment with what these examples of examples/python need (none named: all
# of them, and what their tests need).  Models come with their packages, so it is a large one, and made for who asks for it.
examples_environment_ready()
{
    local name file files=() stamps=$examples_environment/.requirements
    need python
    if [ $# -eq 0 ]; then
        files=(examples/python/requirements.txt examples/python/*/requirements.txt)
    else
        files=(examples/python/requirements.txt)
        for name in "$@"; do
            files+=("examples/python/$name/requirements.txt")
        done
    fi
    if ! [ -x "$examples_environment/bin/python" ]; then
        quietly "$examples_environment.log" "$python" -m venv "$examples_environment" || return 1
    fi
    local missing=() options=()
    for file in "${files[@]}"; do
        cmp -s "$file" "$stamps/${file//\//+}" || missing+=("$file")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    say "python: installing what ${#missing[@]} of the examples' lists of packages ask for"
    for file in "${missing[@]}"; do
        options+=(-r "$file")
    done
    quietly "$examples_environment-packages.log" "$examples_environment/bin/pip" --disable-pip-version-check install \
        --progress-bar off "${options[@]}" || return 1
    mkdir -p "$stamps"
    for file in "${missing[@]}"; do
        cp "$file" "$stamps/${file//\//+}"
    done
}
