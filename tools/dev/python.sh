# SPDX-License-Identifier: Apache-2.0
#
# The Python package's surroundings: a virtual environment below build/, with what its tests need from
# PyPI, and the package built and installed into it as a user's `pip install .` would.

python_environment=build/python-environment

# Makes the environment, or brings it up to date; touches no network when nothing changed.
python_environment_ready()
{
    local wanted=tests/python/requirements.txt stamp=$python_environment/.requirements
    need python
    if ! cmp -s "$wanted" "$stamp"; then
        say "python: making an environment with $(grep -cv '^#' "$wanted") packages and what they need"
        rm -rf "$python_environment"
        quietly build/python-environment.log "$python" -m venv "$python_environment" || return 1
        quietly build/python-packages.log "$python_environment/bin/pip" --disable-pip-version-check install \
            --progress-bar off -r "$wanted" || return 1
        cp "$wanted" "$stamp"
    fi
}
