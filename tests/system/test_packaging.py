# SPDX-License-Identifier: Apache-2.0
"""The package as users get it: `pip install .` with every CPython of this machine, and a wheel for other machines.

What is installed is used away from the tree, in a clean environment, with what pip brings along from PyPI.
MANTA_PYTHONS names further interpreters, separated by colons.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import zipfile

import pytest
from conftest import PATIENCE_S, ROOT, Running, World, wait_until

BUILD_PATIENCE_S = 600  # a build from nothing, on a slow machine
PROGRAM = '''
import json, sys, urllib.request
from manta import serve

@serve.deployment
class Adder:
    def __init__(self, increment):
        self.increment = increment

    async def __call__(self, number: int) -> int:
        return number + self.increment

@serve.deployment
class Front:
    def __init__(self, adder):
        self.adder = adder

    async def __call__(self, request):
        return {"result": await self.adder.remote(int(request.query_params["x"]))}

app = Front.bind(Adder.bind(3))
'''
# What is heavy is loaded when it is first needed: not by an application's module, nor by the command that runs it.
LEAN = """
import sys
import first_app
heavy = {"cloudpickle", "fastapi", "numpy", "pydantic", "starlette", "uvloop"} & set(sys.modules)
assert not heavy, heavy
import manta._native
assert not {"pydantic", "starlette", "cloudpickle"} & set(sys.modules)
"""
DRIVER = '''
import first_app
from manta import serve
serve.start(http_options={"port": 0})
serve.run(first_app.app)
assert serve.get_deployment_handle("Adder", "default").remote(39).result() == 42
assert serve.status().applications["default"].status == "RUNNING"
serve.shutdown()
'''


def version_of(python):
    """(major, minor) of a CPython that can make environments and has its headers; None of anything else."""
    ask = (
        "import ensurepip, os, platform, sys, sysconfig, venv\n"
        "print(platform.python_implementation(), *sys.version_info[:2], sysconfig.get_path('include'))"
    )
    try:
        done = subprocess.run([python, "-c", ask], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except OSError:
        return None
    match = re.fullmatch(r"CPython (\d+) (\d+) (.*)\n", done.stdout)
    if done.returncode != 0 or not match or not pathlib.Path(match[3], "Python.h").exists():
        return None
    return int(match[1]), int(match[2])


def find_pythons():
    """{"3.11": path}: one CPython of each version from 3.10 on."""
    named = [pathlib.Path(word) for word in os.environ.get("MANTA_PYTHONS", "").split(":") if word]
    versions = range(10, 20)
    on_path = [shutil.which(f"python3.{minor}") for minor in versions]
    known = [pathlib.Path("/usr/bin/python3"), *sorted(pathlib.Path.home().glob(".pyenv/versions/3.*/bin/python"))]
    found = {}
    for python in [*named, *known[:1], *(pathlib.Path(path) for path in on_path if path), *known[1:]]:
        version = version_of(python) if python.exists() else None
        if version and version >= (3, 10):
            found.setdefault("{}.{}".format(*version), python)
    return found


PYTHONS = find_pythons()


def run(*command, cwd=None, environment=None, patience_s=BUILD_PATIENCE_S):
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience_s, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def package_index(tmp_path_factory):
    """Tests that install packages need PyPI, or what the user has configured instead."""
    folder = tmp_path_factory.mktemp("index")
    run("/usr/bin/python3", "-m", "venv", folder / "venv")
    asked = subprocess.run(
        [folder / "venv/bin/pip", "--disable-pip-version-check", "download", "--no-deps", "--dest", folder, "cloudpickle"],
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if asked.returncode != 0:
        pytest.skip("the package index cannot be reached")


@pytest.fixture(scope="module", params=PYTHONS, ids=lambda version: f"python{version}")
def python(request):
    return PYTHONS[request.param]


def clean_environment(folder, python, what):
    """The `bin` of a new environment in which `what` was installed by pip."""
    run(python, "-m", "venv", folder / "venv")
    options = ["--disable-pip-version-check", "--progress-bar=off", "--quiet"]
    run(folder / "venv/bin/pip", "install", *options, what, environment={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    return folder / "venv/bin"


def use(bin_folder, folder, build):
    """Runs a driver and `manta run` with what was installed, and asks for an answer."""
    (folder / "first_app.py").write_text(PROGRAM)
    (folder / "driver.py").write_text(DRIVER)
    world = World(build)
    try:
        world.environment["PATH"] = f"{bin_folder}:/usr/bin:/bin"
        run(bin_folder / "python", "-c", LEAN, cwd=folder, environment=world.environment, patience_s=PATIENCE_S)
        run(bin_folder / "python", "driver.py", cwd=folder, environment=world.environment, patience_s=PATIENCE_S)
        wait_until(lambda: not world.processes(), "all processes of the driver end")
        running = Running(world, "first_app:app", (), ("--app-dir", str(folder)), bin_folder / "manta")
        running.await_running()
        assert running.get("/?x=39").json() == {"result": 42}
        programs = {os.readlink(f"/proc/{pid}/exe") for pid, name in running.processes().items() if name.startswith("manta-")}
        assert all(str(bin_folder.parent) in program or "python" in program for program in programs), programs
        assert running.end() == 0
        assert running.leftovers() == []
    finally:
        world.clear()


@pytest.mark.slow
def test_pip_install_gives_package_command_and_native_library(package_index, python, tmp_path, manta_build):
    bin_folder = clean_environment(tmp_path, python, ROOT)
    use(bin_folder, tmp_path, manta_build)
    said = run(bin_folder / "manta", "--version", patience_s=PATIENCE_S)
    installed = json.loads(run(bin_folder / "pip", "list", "--format=json", patience_s=PATIENCE_S))
    [version] = [package["version"] for package in installed if package["name"] == "manta-serve"]
    assert said.split() == ["manta", version]


@pytest.fixture(scope="module")
def wheel(package_index, tmp_path_factory):
    """A wheel that `./dev wheel` has made, for the system's interpreter."""
    out = tmp_path_factory.mktemp("wheels")
    run(ROOT / "dev", "wheel", "--out", out, PYTHONS["{}.{}".format(*version_of("/usr/bin/python3"))])
    [path] = out.iterdir()
    return path


@pytest.mark.slow
def test_a_wheel_carries_its_libraries_and_every_licence(wheel):
    assert "-manylinux_2_" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [about] = {name.split("/")[0] for name in names if ".dist-info/" in name}
        metadata = archive.read(f"{about}/METADATA").decode().partition("\n\n")[0]
        licences = re.findall(r"^License-File: (.*)$", metadata, re.MULTILINE)
        assert {"LICENSE", "NOTICE"} <= set(licences)
        assert all(archive.read(f"{about}/licenses/{name}").strip() for name in licences)
        assert {"manta/py.typed", "manta/_native.pyi", "manta/bin/manta", "manta/libexec/manta/manta-node"} <= set(names)
        libraries = [name.split("/")[1] for name in names if name.startswith("manta_serve.libs/") and not name.endswith("/")]
    # One licence for each library that was put inside, and none that is not there.
    packages = [name.split("/")[0] for name in licences if "/" in name]
    assert len(libraries) == len(packages) > 0
    for library in libraries:
        stem = re.match(r"lib[a-z]+", library)[0]
        assert any(package.startswith(stem) for package in packages), library


@pytest.mark.slow
def test_a_wheel_runs_in_a_clean_environment(wheel, tmp_path, manta_build):
    bin_folder = clean_environment(tmp_path, "/usr/bin/python3", wheel)
    use(bin_folder, tmp_path, manta_build)
    # Nothing of it asks the system for a library that a manylinux system need not have.
    for program in ["bin/manta", "lib/libmanta.so", "libexec/manta/manta-proxy", "libexec/manta/manta-controller"]:
        [path] = bin_folder.parent.glob(f"lib/python3*/site-packages/manta/{program}")
        for line in run("ldd", path, patience_s=PATIENCE_S).splitlines():
            assert str(bin_folder.parent) in line or re.search(r"lib(c|m|z)\.so|ld-linux|linux-vdso", line), line
