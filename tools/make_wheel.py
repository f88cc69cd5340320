#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes wheels that run on other machines: what the package is linked with lies inside, with its licences.

    make_wheel.py --out DIR [--python PYTHON]...

For each interpreter the tree is built as `pip wheel` does it, in an environment of its own; auditwheel puts
the libraries beside the package and gives the wheel the tag of the oldest C library that it runs with; then the
licence of every library that was put there is added.  It must run in an environment with the packages of
tools/dev/wheel_requirements.txt, and the libraries must come from Debian packages, whose licences are known.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(sys.executable).parent
COPYRIGHT = "/usr/share/doc/{}/copyright"


class Failure(Exception):
    pass


def run(*command, **options):
    """The output of a command; its whole output is the failure's text."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise Failure(f"{' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def only_file(folder, pattern):
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise Failure(f"{folder} holds {len(found)} files {pattern}, not one")
    return found[0]


def build(python, folder):
    """The wheel as the build leaves it: linked with what this machine has."""
    run(python, "-m", "venv", folder / "venv")
    options = ["--disable-pip-version-check", "--progress-bar=off", "--no-deps", "--wheel-dir", folder / "built"]
    run(folder / "venv/bin/pip", "wheel", *options, ROOT)
    return only_file(folder / "built", "*.whl")


def repair(wheel, folder):
    """The wheel with its libraries inside."""
    run(BIN / "python", "-m", "auditwheel", "repair", "--wheel-dir", folder / "repaired", wheel, env={"PATH": f"{BIN}:/usr/bin:/bin"})
    return only_file(folder / "repaired", "*.whl")


def package_of(library):
    """The Debian package of a library that auditwheel has renamed: libuv-c85c14db.so.1.0.0 is libuv.so.1.0.0."""
    name, _, rest = library.partition(".so")
    wanted = f"{name.rpartition('-')[0]}.so{rest}"
    owners = {line.partition(":")[0] for line in run("dpkg-query", "--search", f"*/{wanted}").splitlines()}
    if len(owners) != 1:
        raise Failure(f"{wanted} belongs to no Debian package, or to several: {', '.join(sorted(owners))}")
    return owners.pop()


def add_licences(wheel, folder, out):
    """The wheel with the licences of the libraries inside; returns its path below `out`."""
    run(BIN / "python", "-m", "wheel", "unpack", "--dest", folder / "unpacked", wheel)
    top = only_file(folder / "unpacked", "*")
    about = only_file(top, "*.dist-info")
    metadata = (about / "METADATA").read_text(encoding="utf-8")
    for library in sorted(path.name for path in only_file(top, "*.libs").iterdir()):
        package = package_of(library)
        inside = about / "licenses" / package / "copyright"
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(COPYRIGHT.format(package), inside)
        line = f"License-File: {package}/copyright\n"
        if line not in metadata:
            # Among the fields of its name: the long description follows the last field.
            head, mark, tail = metadata.partition("License-File: ")
            metadata = f"{head}{line}{mark}{tail}"
    (about / "METADATA").write_text(metadata, encoding="utf-8")
    out.mkdir(parents=True, exist_ok=True)
    run(BIN / "python", "-m", "wheel", "pack", "--dest-dir", out, top)
    return out / wheel.name


def make(python, out):
    with tempfile.TemporaryDirectory(prefix="manta-wheel-") as name:
        folder = pathlib.Path(name)
        return add_licences(repair(build(python, folder), folder), folder, out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the folder for the wheels")
    parser.add_argument("--python", action="append", help="an interpreter (default: this one's)")
    arguments = parser.parse_args()
    for python in arguments.python or [sys.executable]:
        try:
            wheel = make(python, arguments.out)
        except (Failure, OSError) as failure:
            sys.exit(f"make_wheel: {failure}")
        print(f"{wheel} ({wheel.stat().st_size / 1e6:.1f} MB)", flush=True)


if __name__ == "__main__":
    main()
