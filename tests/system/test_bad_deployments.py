# SPDX-License-Identifier: Apache-2.0
"""Deployments that cannot be loaded, do not start, crash, hang or fall ill: who hears of it, and what goes on.

The first half runs `manta run` as a user does, and looks at what it says, at its exit status, and at what it
leaves behind (nothing).  The second half breaks deployments while they serve.
"""

import contextlib
import signal
import socket
import subprocess

import pytest
from conftest import PATIENCE_S, Running, World, wait_until
from gate import Gate
from plain_http import Connection, get

BAD = "tests/objects/libbad_starts.so"


class Failed:
    """A `manta run` that has ended without ever serving."""

    def __init__(self, world, target, *arguments, options=()):
        target = target if target.startswith("/") else f"{world.build}/{target}"
        self.done = world.command("run", "--port", "0", *options, target, *arguments)
        self.text = self.done.stderr
        self.left = [*world.processes().values(), *world.instances()]

    def expect(self, *words):
        assert self.done.returncode == 1, self.text
        for word in words:
            assert word in self.text
        assert self.left == []
        assert self.done.stdout == ""


# ---- what cannot be loaded


@pytest.mark.quick
def test_a_file_that_is_missing_is_named(manta_world):
    Failed(manta_world, "/nowhere/libnothing.so:app").expect("no shared object", "/nowhere/libnothing.so")


@pytest.mark.quick
def test_a_file_that_is_no_shared_object_is_named(manta_world):
    path = manta_world.directory / "libtext.so"
    path.write_text("int main(void) { return 0; }\n")
    Failed(manta_world, f"{path}:app").expect(str(path))


@pytest.mark.quick
def test_an_application_that_is_not_in_it_is_named(manta_world):
    Failed(manta_world, "tests/objects/libmirror.so:rorrim").expect("rorrim", "libmirror.so")


@pytest.mark.quick
def test_a_target_without_application_is_explained(manta_world):
    failed = Failed(manta_world, "tests/objects/libmirror.so")
    failed.expect("libmirror.so")
    assert ":" in failed.text.partition("libmirror.so")[2]


@pytest.mark.quick
def test_a_deployment_of_a_newer_header_is_refused(manta_world):
    Failed(manta_world, "tests/objects/libversions.so:newer").expect("header version 2")


@pytest.mark.quick
def test_a_builder_that_refuses_is_quoted(manta_world):
    Failed(manta_world, f"{BAD}:no_builder", "why=it rains").expect("the builder wants none of this: it rains")


@pytest.mark.quick
@pytest.mark.parametrize("route", ["no-slash", "/ends/", "/with{braces}"])
def test_a_route_that_is_none_is_refused(manta_world, route):
    Failed(manta_world, "tests/objects/libmirror.so:mirror", options=["--route-prefix", route]).expect(route)


# ---- what does not start


def test_a_crash_in_open_is_told_with_its_signal_and_its_last_words(manta_world):
    failed = Failed(manta_world, f"{BAD}:crashing")
    failed.expect("crashing", "SIGSEGV", "about to fall")


def test_an_open_that_fails_is_quoted(manta_world):
    Failed(manta_world, "tests/objects/liblife.so:open_fails").expect("open_fails", "no model today")


def test_an_open_that_ends_the_process_is_told_with_its_status(manta_world):
    Failed(manta_world, f"{BAD}:exiting").expect("exiting", "7")


def test_one_deployment_that_crashes_fails_the_whole_application(manta_world):
    Failed(manta_world, f"{BAD}:half").expect("crashing", "SIGSEGV")


def test_a_failed_application_can_be_seen_in_status_and_be_repaired(manta_service):
    with manta_service() as service:
        until = service.world.directory / "until"
        target = f"{service.world.build}/{BAD}:crashing"
        run = ["run", "--non-blocking", "--name", "app", "--route-prefix", "/", target, f"until={until}"]
        failed = service.command(*run)
        assert failed.returncode == 1
        app = service.status()["applications"]["app"]
        assert app["status"] == "DEPLOY_FAILED"
        assert "SIGSEGV" in app["message"]
        deployment = app["deployments"]["crashing"]
        assert (deployment["status"], deployment["status_trigger"]) == ("DEPLOY_FAILED", "REPLICA_STARTUP_FAILED")
        assert get(service.port, "/").status in (404, 503)
        until.touch()
        assert service.command(*run).returncode == 0
        wait_until(lambda: get(service.port, "/").status == 200, "the repaired application serves")
        assert service.status()["applications"]["app"]["status"] == "RUNNING"


def test_a_rollout_that_fails_leaves_the_old_one_serving(manta_service):
    with manta_service() as service:
        service.deploy("app", "/", "tests/objects/libmirror.so:mirror")
        before = service.processes("manta-replica")
        target = f"{service.world.build}/tests/objects/liblife.so:open_fails"
        failed = service.command("run", "--non-blocking", "--name", "app", "--route-prefix", "/", target)
        assert failed.returncode == 1 and "no model today" in failed.stderr
        answer = get(service.port, "/still")
        assert (answer.status, answer.field("x-path")) == (200, "/still")
        wait_until(lambda: service.processes("manta-replica") == before, "what failed is gone, what served is not")


@contextlib.contextmanager
def starting(manta_build, *arguments):
    """A `manta run` that is not awaited."""
    world = World(manta_build)
    running = Running(world, f"{BAD}:stuck", arguments, [])
    try:
        yield running
    finally:
        world.clear()
        running.process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_open_that_never_returns_can_be_interrupted(manta_build, number):
    with socket.socket(socket.AF_UNIX) as gate:
        world = World(manta_build)
        gate.bind(str(world.directory / "gate"))
        gate.listen()
        gate.settimeout(PATIENCE_S)
        with starting(manta_build, f"gate={world.directory / 'gate'}") as running:
            gate.accept()[0].close()  # it is inside open now
            running.process.send_signal(number)
            assert running.wait() == 1
            assert running.said("interrupted before the application was running")
            wait_until(lambda: not running.leftovers(), "everything ends with it")
        world.clear()


def test_an_interrupted_start_in_a_service_is_taken_back(manta_service):
    with manta_service() as service, socket.socket(socket.AF_UNIX) as gate:
        service.deploy("mirror", "/", "tests/objects/libmirror.so:mirror")
        gate.bind(str(service.world.directory / "gate"))
        gate.listen()
        gate.settimeout(PATIENCE_S)
        run = subprocess.Popen(
            [service.world.build / "src/cli/manta", "run", "--name", "stuck", "--route-prefix", "/stuck"]
            + [service.world.build / f"{BAD}:stuck", f"gate={service.world.directory / 'gate'}"],
            env={**service.world.environment, "MANTA_INSTANCE": service.NAME},
            stderr=subprocess.PIPE,
            text=True,
        )
        gate.accept()[0].close()
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=PATIENCE_S)
        assert run.returncode == 1 and "interrupted" in said
        wait_until(lambda: "stuck" not in service.status()["applications"], "the application is deleted")
        assert get(service.port, "/").status == 200


# ---- what breaks while it serves


@pytest.fixture
def puppet(manta_service):
    """A service with a puppet of two replicas, and its gate."""
    with manta_service() as service, Gate(service.world.directory) as gate:
        service.deploy("puppet", "/", "tests/objects/libpuppet.so:puppet", "num_replicas=2")
        yield service, gate


def is_whole(service, count):
    def look():
        app = service.status()["applications"]["puppet"]
        states = app["deployments"]["puppet"]["replica_states"]
        return app["status"] == "RUNNING" and states.get("RUNNING") == count

    return look


@pytest.mark.parametrize("way, word", [("c", "SIGSEGV"), ("x", "3")])
def test_a_request_that_crashes_its_replica_is_a_500_and_the_replica_is_replaced(puppet, way, word):
    service, gate = puppet
    with Connection(service.port) as connection:
        connection.ask(f"/?{gate.query}")
        inside = gate.next()
        inside.tell(way)
        answer = connection.answer()
        assert (answer.status, answer.text) == (500, "Internal Server Error")
        # The same connection goes on, the other replica serves at once, and soon there are two again.
        assert connection.get("/").status == 200
        wait_until(is_whole(service, 2), "the replica is replaced")
        assert inside.pid not in service.processes("manta-replica")
        assert {connection.get("/").text for _ in range(100)} != {inside.replica}
    assert service.status()["applications"]["puppet"]["status"] == "RUNNING"


def test_requests_beside_the_one_that_crashes_share_its_fate_and_others_do_not(puppet):
    service, gate = puppet
    connections = [Connection(service.port) for _ in range(8)]
    for connection in connections:
        connection.ask(f"/?{gate.query}")
    where = {}
    for _ in connections:
        inside = gate.next()
        where[inside.request_id] = inside
    victim = next(iter(where.values()))
    victim.tell("c")
    wait_until(lambda: victim.pid not in service.processes(), "the replica is gone")
    for inside in where.values():
        if inside.pid != victim.pid:
            inside.tell("a")
    for connection in connections:
        answer = connection.answer()
        own = where[answer.field("x-request-id")]
        assert answer.status == (500 if own.pid == victim.pid else 200)
        connection.close()


def test_a_replica_that_crashes_again_and_again_is_started_with_pauses(puppet):
    """Every crash is replaced; the service stays."""
    service, gate = puppet
    with Connection(service.port) as connection:
        for _ in range(4):
            connection.ask(f"/?{gate.query}")
            gate.next().tell("c")
            assert connection.answer().status == 500
        wait_until(is_whole(service, 2), "both replicas stand again")
        assert connection.get("/").status == 200


def test_an_answer_that_never_comes_ends_with_its_client(puppet):
    service, gate = puppet
    connection = Connection(service.port)
    connection.ask(f"/?{gate.query}")
    inside = gate.next()
    inside.tell("n")
    connection.close()
    assert inside.line() == "cancelled"
    with Connection(service.port) as other:
        assert {other.get("/").status for _ in range(50)} == {200}


def test_answers_that_never_come_do_not_hold_the_places_of_others(manta_service):
    with manta_service(options=["--request-timeout-ms", "200"]) as service, Gate(service.world.directory) as gate:
        service.deploy("puppet", "/", "tests/objects/libpuppet.so:puppet", "max_ongoing_requests=1")
        with Connection(service.port) as connection:
            for _ in range(5):
                connection.ask(f"/?{gate.query}")
                inside = gate.next()
                inside.tell("n")
                assert connection.answer().status == 408
                assert inside.line() == "cancelled"
            assert connection.get("/").status == 200


def test_an_answer_may_come_later_from_another_thread(puppet):
    service, gate = puppet
    with Connection(service.port) as connection:
        connection.ask(f"/?{gate.query}")
        inside = gate.next()
        inside.tell("l")
        assert get(service.port, "/").status == 200  # the thread of the entry point is free again
        inside.tell("a")
        assert connection.answer().text == inside.replica


def test_user_code_may_handle_its_own_faults(puppet):
    """Run times handle SIGSEGV and go on; in a thread where it is blocked they would die of it."""
    service, gate = puppet
    with Connection(service.port) as connection:
        connection.ask(f"/?{gate.query}")
        inside = gate.next()
        inside.tell("h")
        assert inside.line() == f"handled {int(signal.SIGSEGV)}"
        inside.tell("lh")
        assert inside.line() == f"handled {int(signal.SIGSEGV)}"
        inside.tell("a")
        assert connection.answer().status == 200


def test_an_answer_to_a_client_that_has_left_does_no_harm(puppet):
    service, gate = puppet
    for way in ("a", "f", "swe", "la", "lswe"):
        connection = Connection(service.port)
        connection.ask(f"/?{gate.query}")
        inside = gate.next()
        connection.reset()
        assert inside.line() == "cancelled"
        inside.tell(way)
    with Connection(service.port) as connection:
        assert {connection.get("/").status for _ in range(20)} == {200}
    assert is_whole(service, 2)()


def test_a_deployment_that_falls_ill_is_replaced_and_recovers(manta_service):
    with manta_service() as service:
        service.deploy("sick", "/", "tests/objects/liblife.so:sick")
        with Connection(service.port) as connection:
            first = connection.get("/sick").text
            # Meanwhile there may be no replica at all: whoever asks waits for the next one.
            wait_until(lambda: connection.get("/").text not in (first, ""), "another process answers")
        wait_until(lambda: service.status()["applications"]["sick"]["status"] == "RUNNING", "it is well again")
        assert int(first) not in service.processes()


@pytest.mark.parametrize("word, status", [("a", 200), ("c", 500)])
def test_a_death_behind_a_handle_is_told_to_the_caller(manta_service, word, status):
    with manta_service() as service, Gate(service.world.directory) as gate:
        service.deploy("chain", "/", "tests/objects/libchain.so:chain")
        with Connection(service.port) as connection:
            connection.ask(f"/?{gate.query}")
            gate.next().tell(word)
            assert connection.answer().status == status
            wait_until(lambda: connection.get("/").status == 200, "the chain is whole again")


def test_a_client_that_leaves_cancels_what_was_asked_behind_the_ingress(manta_service):
    with manta_service() as service, Gate(service.world.directory) as gate:
        service.deploy("chain", "/", "tests/objects/libchain.so:chain")
        connection = Connection(service.port)
        connection.ask(f"/?{gate.query}")
        inside = gate.next()
        connection.close()
        assert inside.line() == "cancelled"
        inside.tell("a")
        assert get(service.port, "/").status == 200


# ---- what is taken already


@pytest.mark.quick
def test_a_route_that_another_application_has_is_refused(manta_house):
    target = f"{manta_house.world.build}/tests/objects/libmirror.so:mirror"
    failed = manta_house.command("run", "--non-blocking", "--name", "second", "--route-prefix", "/replies", target)
    assert failed.returncode == 1
    assert "/replies" in failed.stderr and "replies" in failed.stderr
    assert get(manta_house.port, "/replies/int").status == 200
    assert "second" not in manta_house.status()["applications"]


@pytest.mark.quick
def test_a_port_in_use_is_named_and_nothing_stays(manta_world):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        Failed(manta_world, "tests/objects/libmirror.so:mirror", options=["--port", port]).expect(port, "in use")


@pytest.mark.quick
def test_a_second_service_of_one_name_is_refused_and_the_first_goes_on(manta_service):
    with manta_service() as service:
        service.deploy("mirror", "/", "tests/objects/libmirror.so:mirror")
        second = subprocess.run(
            [service.world.build / "libexec/manta/manta-node", "--name", service.NAME, "--http-port", "0"],
            env=service.world.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert second.returncode == 1
        assert service.NAME in second.stderr
        assert get(service.port, "/").status == 200
        assert service.status()["applications"]["mirror"]["status"] == "RUNNING"
