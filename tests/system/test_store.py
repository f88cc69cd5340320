# SPDX-License-Identifier: Apache-2.0
"""What a service has stored, and what happens to it: power cuts, full disks, broken files, other versions.

C1: a deploy that was answered with success is stored; so whatever dies right after, the service has it when it is
started again.  A store that takes nothing refuses deploys and disturbs no request.
"""

import contextlib
import json
import os
import pathlib
import signal
import sqlite3
import subprocess

import pytest
from conftest import PATIENCE_S, Service, World, wait_until
from crowd import Crowd
from plain_http import get

MIRROR = "tests/objects/libmirror.so:mirror"
PUPPET = "tests/objects/libpuppet.so:puppet"


@pytest.fixture
def world(manta_build):
    world = World(manta_build)
    yield world
    world.clear()


def state_directory(world):
    return world.directory / "state" / "manta" / Service.NAME


def start(world):
    """The service, perhaps again: what an earlier life said of itself does not count."""
    with contextlib.suppress(FileNotFoundError):
        (world.directory / "manta" / Service.NAME / "instance.json").unlink()
    return Service(world, [])


def kill_everything(service):
    for pid in service.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    service.process.wait(PATIENCE_S)
    wait_until(lambda: not service.processes(), "everything is dead")


def end(service):
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(PATIENCE_S) == 0


def try_deploy(service, name, route="/other"):
    target = f"{service.world.build}/{MIRROR}"
    return service.command("run", "--non-blocking", "--name", name, "--route-prefix", route, target)


def status(port, path):
    return get(port, path).status


def await_answer(service, path):
    wait_until(lambda: status(service.port, path) == 200, f"{path} answers")


def is_whole(service):
    """No trouble: the store took what came last, and nothing was put aside."""
    store = service.status()["store"]
    return store["notice"] == "" and store["trouble"] == ""


# ---- store first


@pytest.mark.quick
def test_what_was_answered_with_success_survives_the_death_of_everything(world):
    service = start(world)
    for life in range(3):
        service.deploy(f"app{life}", f"/life{life}", MIRROR)
        kill_everything(service)
        service = start(world)
        for earlier in range(life + 1):
            await_answer(service, f"/life{earlier}")
        assert set(service.status()["applications"]) == {f"app{earlier}" for earlier in range(life + 1)}
    assert is_whole(service)


def test_a_deploy_that_nobody_waited_for_is_stored_when_it_says_so(world):
    """The first line of progress comes after the store's confirmation."""
    service = start(world)
    target = f"{world.build}/tests/objects/liblife.so:open_waits"
    runner = subprocess.Popen(
        [world.build / "src/cli/manta", "run", "--name", "slow", "--route-prefix", "/slow", target, f"file={world.directory}/go"],
        env={**world.environment, "MANTA_INSTANCE": Service.NAME},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = next(line for line in runner.stderr if "deploying" in line)
    kill_everything(service)
    runner.kill()
    runner.wait()
    service = start(world)
    assert "slow" in service.status()["applications"], line


def test_a_service_that_was_ended_has_its_applications_when_it_is_started_again(world):
    service = start(world)
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    end(service)
    service = start(world)
    await_answer(service, "/")
    # Closed in order, there is nothing beside the file but its lock and, since it is open again, its log.
    end(service)
    assert sorted(path.name for path in state_directory(world).glob("controller.*")) == [
        "controller.lock",
        "controller.store",
    ]


def test_a_shut_down_service_has_forgotten_its_applications(world):
    service = start(world)
    service.deploy("mirror", "/", MIRROR)
    assert service.command("shutdown", "--yes").returncode == 0
    service.process.wait(PATIENCE_S)
    service = start(world)
    assert service.status()["applications"] == {}


def test_a_private_instance_leaves_nothing_behind(manta_run):
    with manta_run(MIRROR) as mirror:
        instance = mirror.world.instances()[0]
        files = sorted(path.name for path in (mirror.world.directory / "manta" / instance).glob("controller.*"))
        assert "controller.store" in files
        assert mirror.get("/").status == 200
        assert mirror.end() == 0
        assert mirror.leftovers() == []
        assert not (mirror.world.directory / "state").exists()


# ---- disks


@pytest.fixture
def disk(world):
    """A small file system of its own under the state directory; a function fills it, and one empties it."""
    directory = state_directory(world)
    directory.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", directory], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield directory / "filler"
    subprocess.run(["umount", "-l", directory], check=True)


def fill(filler):
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_disk_refuses_the_deploy_and_disturbs_no_request(disk, world):
    service = start(world)
    service.deploy("mirror", "/", MIRROR)
    fill(disk)
    with Crowd(service.port, "/", 4) as crowd:
        refused = None
        for attempt in range(300):  # the log of the store may have room for some
            done = try_deploy(service, f"app{attempt}", f"/{attempt}")
            if done.returncode != 0:
                refused = done
                break
        assert refused, "the disk took everything"
        assert "takes nothing" in refused.stderr and "full" in refused.stderr
        store = service.status()["store"]
        assert "full" in store["trouble"]
        counts = crowd.stop()
    assert set(counts) == {200}
    disk.unlink()
    service.deploy("again", "/again", MIRROR)
    assert is_whole(service)


def test_a_controller_that_dies_while_the_disk_is_full_is_replaced(disk, world):
    service = start(world)
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    fill(disk)
    for _ in range(2):
        (before,) = service.processes("manta-controller")
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: service.processes("manta-controller") not in ([], [before]), "another controller")
    # It does its work: what dies is replaced, and its readers take its snapshots for newer ones (R4).
    for pid in service.processes("manta-replica"):
        os.kill(pid, signal.SIGKILL)
    replicas = lambda: service.status()["applications"]["mirror"]["deployments"]["mirror"]["replica_states"]
    wait_until(lambda: replicas() == {"RUNNING": 2}, "two replicas")
    await_answer(service, "/")
    disk.unlink()
    service.deploy("again", "/again", MIRROR)


def test_a_locked_store_refuses_the_deploy_and_disturbs_no_request(world):
    service = start(world)
    service.deploy("mirror", "/", MIRROR)
    with contextlib.closing(sqlite3.connect(state_directory(world) / "controller.store", isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        done = try_deploy(service, "other")
        assert done.returncode != 0
        assert "another process holds it" in done.stderr
        assert "another process holds it" in service.status()["store"]["trouble"]
        assert get(service.port, "/").status == 200
        assert set(service.status()["applications"]) == {"mirror"}
        shell.execute("ROLLBACK")
    service.deploy("other", "/other", MIRROR)
    assert is_whole(service)


# ---- files


def test_a_broken_store_is_kept_aside_and_said_so(world):
    service = start(world)
    service.deploy("mirror", "/", MIRROR)
    end(service)
    path = state_directory(world) / "controller.store"
    content = bytearray(path.read_bytes())
    content[:512] = b"\xa5" * 512
    path.write_bytes(content)
    service = start(world)
    aside = path.with_name("controller.store.broken-1")
    assert aside.read_bytes() == content
    assert str(aside) in service.status()["store"]["notice"]
    assert any("CRITICAL" in line and str(aside) in line for line in service.logs()["controller.log"].splitlines())
    service.deploy("mirror", "/", MIRROR)
    assert str(aside) in service.status()["store"]["notice"]


def test_of_a_store_with_one_broken_page_the_rest_is_served(world):
    service = start(world)
    for number in range(6):
        service.deploy(f"app{number}", f"/{number}", MIRROR)
    end(service)
    path = state_directory(world) / "controller.store"
    # In small pages the deployments need several; one of them is lost.
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.executescript("PRAGMA journal_mode = DELETE; PRAGMA page_size = 512; VACUUM")
        root = shell.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'deployments'").fetchone()[0]
        page_size = shell.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(path.read_bytes())
    inner = content[(root - 1) * page_size : root * page_size]
    assert inner[0] == 0x05, "an inner page"
    cell = int.from_bytes(inner[12:14], "big")  # the first child, https://sqlite.org/fileformat.html 1.6
    leaf = int.from_bytes(inner[cell : cell + 4], "big")
    content[(leaf - 1) * page_size : leaf * page_size] = bytes(page_size)
    path.write_bytes(content)
    service = start(world)
    assert "broken-1" in service.status()["store"]["notice"]
    left = set(service.status()["applications"])
    assert left and left < {f"app{number}" for number in range(6)}
    for name in left:
        await_answer(service, f"/{name[3:]}")


def test_a_store_of_a_newer_version_is_refused_and_kept(world):
    service = start(world)
    service.deploy("mirror", "/", MIRROR)
    end(service)
    path = state_directory(world) / "controller.store"
    with contextlib.closing(sqlite3.connect(path)) as shell:
        ((version,),) = shell.execute("PRAGMA user_version")
        shell.execute("PRAGMA user_version = 999")
    content = path.read_bytes()
    node = subprocess.run(
        [world.build / "libexec/manta/manta-node", "--name", Service.NAME, "--http-port", "0"],
        env=world.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert node.returncode == 1
    assert node.stderr.count("newer version of Manta") == 1, node.stderr
    assert path.read_bytes() == content
    with contextlib.closing(sqlite3.connect(path)) as shell:
        shell.execute(f"PRAGMA user_version = {version}")
    await_answer(start(world), "/")


def test_the_rows_are_readable_by_others(world):
    """A maintainer's shell sees what is stored while the service runs."""
    service = start(world)
    service.deploy("mirror", "/m", MIRROR, "num_replicas=2")
    with contextlib.closing(sqlite3.connect(f"file:{state_directory(world)}/controller.store?mode=ro", uri=True)) as shell:
        rows = shell.execute(
            "SELECT applications.name, route_prefix, deployments.name, replicas"
            " FROM applications JOIN deployments ON application = applications.id"
        ).fetchall()
    assert rows == [(b"mirror", b"/m", b"mirror", 2)]


# ---- roles


def test_only_the_controller_is_linked_with_sqlite(manta_build):
    linked = {}
    for program in [*(manta_build / "libexec/manta").glob("manta-*"), manta_build / "src/cli/manta"]:
        if program.is_file() and os.access(program, os.X_OK):
            listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
            linked[program.name] = "libsqlite3" in listed
    assert linked.pop("manta-controller")
    assert not any(linked.values()), json.dumps(linked)


def test_the_store_is_for_its_user_alone(world):
    service = start(world)
    service.deploy("mirror", "/", MIRROR)
    for path in [state_directory(world), *pathlib.Path(state_directory(world)).glob("controller.*")]:
        assert path.stat().st_mode & 0o077 == 0, path
