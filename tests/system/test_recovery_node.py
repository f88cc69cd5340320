# SPDX-License-Identifier: Apache-2.0
"""A service without its node: what is lost (nothing), and what the next node finds.

The node is killed as the kernel kills, and started again by its name, as a supervisor does.  Meanwhile and
afterwards every process is counted: none is lost, none is there twice, and none is a stranger.
"""

import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest
from conftest import wait_until
from crowd import Crowd
from gate import Gate
from plain_http import Broken, Connection, get

MIRROR = "tests/objects/libmirror.so:mirror"
PUPPET = "tests/objects/libpuppet.so:puppet"
ROLES = ["manta-controller", "manta-proxy", "manta-replica"]


def kill(pid, number=signal.SIGKILL):
    os.kill(pid, number)


def await_more(crowd, count):
    """So many further requests are answered with 200."""
    wanted = crowd.count(200) + count
    wait_until(lambda: crowd.count(200) >= wanted, f"{count} further answers")


def roles(service):
    """{pid: name} of all but nodes and commands."""
    return {pid: name for pid, name in service.processes().items() if name in ROLES}


def await_gone(service, pid):
    wait_until(lambda: pid not in service.processes(), f"process {pid} is gone")


def replica_states(service, app):
    deployments = service.status()["applications"][app]["deployments"].values()
    return [deployment["replica_states"] for deployment in deployments]


def await_replicas(service, app, count):
    wait_until(lambda: replica_states(service, app) == [{"RUNNING": count}], f"{count} replicas of {app}")


def await_counts(service, replicas, proxies=1):
    """Exactly so many of each, and one controller."""

    def look():
        names = list(roles(service).values())
        return [names.count(name) for name in ROLES] == [1, proxies, replicas]

    wait_until(look, f"one controller, {proxies} proxies, {replicas} replicas; there are {roles(service)}")


def settled(service, replicas, proxies=1):
    """As await_counts, and it stays so for longer than anything takes to be started by mistake."""
    await_counts(service, replicas, proxies)
    before = roles(service)
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        assert roles(service) == before
        time.sleep(0.02)


def replicas_started(service):
    """How many replicas the nodes of the service have started so far."""
    return len(re.findall(r"replica \d+ of deployment .* runs as process", service.logs()["node.log"]))


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_served(port):
    try:
        return get(port, "/").status == 200
    except (Broken, OSError):
        return False


@pytest.fixture
def service(manta_service):
    with manta_service() as service:
        yield service


@pytest.fixture
def gate(service):
    with Gate(service.world.directory) as gate:
        yield gate


# ---- the node alone


def test_a_service_serves_on_without_its_node_and_the_next_one_takes_everything_back(service):
    """The same processes before, between and after; not one of all requests is lost, in flight or in the queue."""
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    before, port = roles(service), service.port
    with Crowd(port, "/", threads=8) as crowd:
        await_more(crowd, 200)
        service.kill_node()
        await_more(crowd, 300)
        assert roles(service) == before
        service.start_node()
        await_more(crowd, 300)
        counts = crowd.stop()
    assert counts.keys() == {200}
    print(f"{counts[200]} requests, none lost")
    assert service.port == port
    assert roles(service) == before
    settled(service, replicas=2)
    await_replicas(service, "mirror", 2)


def test_a_node_killed_twice_in_a_row_is_taken_over_twice(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    before, port = roles(service), service.port
    with Crowd(port, "/", threads=4) as crowd:
        for _ in range(3):
            service.kill_node()
            await_more(crowd, 50)
            service.start_node()
        # And before it has taken back anything.
        service.kill_node()
        for _ in range(5):
            short = service.spawn_node()
            short.kill()
            short.wait()
        service.start_node()
        await_more(crowd, 50)
        assert crowd.stop().keys() == {200}
    assert (roles(service), service.port) == (before, port)
    settled(service, replicas=2)


def test_several_proxies_come_back_with_their_one_socket(manta_service):
    with manta_service(options=["--proxies", "3"]) as service:
        service.deploy("mirror", "/", MIRROR)
        before = roles(service)
        with Crowd(service.port, "/", threads=6) as crowd:
            service.kill_node()
            await_more(crowd, 100)
            service.start_node()
            await_more(crowd, 100)
            assert crowd.stop().keys() == {200}
        assert roles(service) == before
        settled(service, replicas=1, proxies=3)


def test_after_its_return_the_node_restarts_what_dies(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    service.kill_node()
    service.start_node()
    for name in ROLES:
        victim = service.processes(name)[0]
        kill(victim)
        await_gone(service, victim)
        settled(service, replicas=2)
    wait_until(lambda: service.command("status").returncode == 0, "status works again")
    await_replicas(service, "mirror", 2)
    assert get(service.port, "/").status == 200


def test_an_end_in_order_after_a_return_leaves_nothing(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    service.kill_node()
    service.start_node()
    done = service.command("shutdown", "--yes")
    assert done.returncode == 0, done.stderr
    assert service.process.wait(30) == 0
    assert service.processes() == {}
    assert service.world.instances() == []


def test_a_node_told_to_end_after_its_return_ends_what_it_took_back(service):
    service.deploy("mirror", "/", MIRROR)
    service.kill_node()
    service.start_node()
    service.process.terminate()
    assert service.process.wait(30) == 0
    assert service.processes() == {}


# ---- a second node


def test_a_second_node_of_a_living_service_is_refused(service):
    service.deploy("mirror", "/", MIRROR)
    before = service.processes()
    second = service.spawn_node(stderr=subprocess.PIPE, text=True)
    _, said = second.communicate(timeout=30)
    assert second.returncode == 1
    assert "instance 'house' runs already" in said
    assert service.processes() == before
    assert get(service.port, "/").status == 200


def test_of_two_nodes_that_come_after_a_dead_one_one_takes_over(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    before = roles(service)
    service.kill_node()
    others = [service.spawn_node(stderr=subprocess.PIPE, text=True) for _ in range(3)]
    wait_until(lambda: sum(other.poll() is not None for other in others) == 2, "two of them are refused")
    for other in others:
        if other.poll() is not None:
            assert "runs already" in other.stderr.read()
        else:
            service.process = other
    wait_until(service._find_port, "the third is ready")
    assert roles(service) == before
    settled(service, replicas=2)


def test_the_next_node_may_ask_for_another_port(service, free_port):
    service.deploy("mirror", "/", MIRROR)
    replicas, old = service.processes("manta-replica"), service.port
    service.kill_node()
    service.start_node("--http-port", str(free_port))
    assert service.port == free_port
    wait_until(lambda: is_served(free_port), "the new port is served")
    wait_until(lambda: not is_open(old), "the old port is closed")
    settled(service, replicas=1)
    assert service.processes("manta-replica") == replicas


def test_the_next_node_may_ask_for_fewer_proxies(manta_service):
    with manta_service(options=["--proxies", "3"]) as service:
        service.deploy("mirror", "/", MIRROR)
        service.kill_node()
        service.start_node("--proxies", "1")
        settled(service, replicas=1, proxies=1)
        assert get(service.port, "/").status == 200


# ---- deaths while there is no node


def test_a_replica_that_dies_without_a_node_is_noticed_at_once_and_replaced_once_by_the_next(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    service.kill_node()
    started, victim = replicas_started(service), service.processes("manta-replica")[0]
    kill(victim)
    await_gone(service, victim)
    wait_until(lambda: replica_states(service, "mirror")[0].get("RUNNING") == 1, "the controller knows")
    with Crowd(service.port, "/", threads=4) as crowd:
        await_more(crowd, 100)  # by the other one
        assert len(service.processes("manta-replica")) == 1
        service.start_node()
        await_replicas(service, "mirror", 2)
        await_more(crowd, 100)
        assert crowd.stop().keys() == {200}
    settled(service, replicas=2)
    assert replicas_started(service) == started + 1


def test_a_proxy_that_dies_without_a_node_leaves_the_socket_to_the_others(manta_service):
    with manta_service(options=["--proxies", "2"]) as service:
        service.deploy("mirror", "/", MIRROR)
        port = service.port
        service.kill_node()
        victim, other = service.processes("manta-proxy")
        kill(victim)
        await_gone(service, victim)
        assert get(port, "/").status == 200
        # What waits in the queue is not lost either.
        kill(other, signal.SIGSTOP)
        waiting = [Connection(port) for _ in range(20)]
        for number, connection in enumerate(waiting):
            connection.ask(f"/{number}")
        kill(other, signal.SIGCONT)
        service.start_node()
        assert [connection.answer().field("x-path") for connection in waiting] == [f"/{n}" for n in range(20)]
        for connection in waiting:
            connection.close()
        assert service.port == port
        assert other in service.processes("manta-proxy")
        settled(service, replicas=1, proxies=2)


def test_the_port_of_an_only_proxy_that_dies_without_a_node_comes_back_with_the_next(service):
    service.deploy("mirror", "/", MIRROR)
    port, replicas = service.port, service.processes("manta-replica")
    service.kill_node()
    kill(service.processes("manta-proxy")[0])
    wait_until(lambda: not is_open(port), "nobody listens")
    service.start_node()
    assert service.port == port
    wait_until(lambda: is_served(port), "it is served again")
    settled(service, replicas=1)
    assert service.processes("manta-replica") == replicas


def test_a_controller_that_dies_without_a_node_is_missed_by_nobody(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    replicas = service.processes("manta-replica")
    with Crowd(service.port, "/", threads=4) as crowd:
        service.kill_node()
        kill(service.processes("manta-controller")[0])
        await_more(crowd, 100)
        done = service.command("status")
        assert done.returncode == 1
        assert "has lost its node and its controller; 3 of its processes serve on: start its node again" in done.stderr
        service.start_node()
        wait_until(lambda: service.command("status").returncode == 0, "status works again")
        await_replicas(service, "mirror", 2)
        await_more(crowd, 100)
        assert crowd.stop().keys() == {200}
    assert service.processes("manta-replica") == replicas
    settled(service, replicas=2)


def test_whatever_died_without_a_node_is_whole_again_after_its_return(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=3")
    service.kill_node()
    for name in ROLES:
        kill(service.processes(name)[0])
    service.start_node()
    wait_until(lambda: service.command("status").returncode == 0, "status works again")
    await_replicas(service, "mirror", 3)
    settled(service, replicas=3)
    wait_until(lambda: is_served(service.port), "it is served")


def test_after_the_death_of_everything_the_next_node_begins_from_the_store(service):
    """Stale sockets, a stale description, and the number of a process that is by now somebody else's."""
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    port = service.port
    service.kill_node()
    for pid in list(roles(service)):
        kill(pid)
    wait_until(lambda: not roles(service), "everything is dead")
    place = service.world.directory / "manta" / service.NAME
    assert {"node.sock", "controller.sock", "instance.json"} <= {entry.name for entry in place.iterdir()}
    stranger = subprocess.Popen(["sleep", "1000"])
    told = json.loads((place / "instance.json").read_text())
    (place / "instance.json").write_text(json.dumps({**told, "pid": stranger.pid}, separators=(",", ":")))
    service.start_node()
    assert service.port == port
    await_replicas(service, "mirror", 2)
    wait_until(lambda: is_served(port), "it is served")
    settled(service, replicas=2)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


# ---- replicas that are on their way


def test_a_replica_that_starts_while_the_node_dies_is_taken_back(service):
    stuck = service.world.directory / "go"
    target = f"{service.world.build}/tests/objects/liblife.so:open_waits"
    run = subprocess.Popen(
        [service.world.build / "src/cli/manta", "run", "--non-blocking", "--name", "app", "--route-prefix", "/"]
        + [target, f"file={stuck}"],
        env={**service.world.environment, "MANTA_INSTANCE": service.NAME},
        stderr=subprocess.PIPE,
        text=True,
    )
    replicas = wait_until(lambda: service.processes("manta-replica"), "its replica starts")
    service.kill_node()
    service.start_node()
    assert service.processes("manta-replica") == replicas
    service.kill_node()
    stuck.touch()
    _, said = run.communicate(timeout=60)
    assert run.returncode == 0, said
    assert is_served(service.port)
    service.start_node()
    settled(service, replicas=1)
    assert service.processes("manta-replica") == replicas


def test_at_whatever_moment_of_a_rollout_the_node_dies_there_is_one_of_each(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=3")
    with Crowd(service.port, "/", threads=4) as crowd:
        for turn, pause_s in enumerate([0, 0.002, 0.005, 0.01, 0.02, 0.05]):
            run = subprocess.Popen(
                [service.world.build / "src/cli/manta", "run", "--non-blocking", "--name", "mirror", "--route-prefix", "/"]
                + [f"{service.world.build}/{MIRROR}", "num_replicas=3", f"threads={turn + 2}"],
                env={**service.world.environment, "MANTA_INSTANCE": service.NAME},
                stderr=subprocess.DEVNULL,
            )
            before = replicas_started(service)
            wait_until(lambda: replicas_started(service) > before, "the rollout begins")
            time.sleep(pause_s)
            service.kill_node()
            service.start_node()
            assert run.wait(60) == 0
            await_replicas(service, "mirror", 3)
            await_counts(service, replicas=3)
        await_more(crowd, 50)
        assert crowd.stop().keys() == {200}
    settled(service, replicas=3)


# ---- silence and strangers


@pytest.mark.parametrize("name", ROLES)
def test_who_stays_silent_is_killed_and_replaced(manta_service, name):
    with manta_service(environment={"MANTA_NODE_RETURN_MS": "400"}) as service:
        service.deploy("mirror", "/", MIRROR, "num_replicas=2")
        port, silent = service.port, service.processes(name)[0]
        service.kill_node()
        kill(silent, signal.SIGSTOP)
        service.start_node()
        await_gone(service, silent)
        settled(service, replicas=2)
        wait_until(lambda: service.command("status").returncode == 0, "status works")
        await_replicas(service, "mirror", 2)
        assert service.port == port
        wait_until(lambda: is_served(port), "it is served")


def test_processes_that_only_look_like_the_services_are_left_alone(service):
    """The same arguments below another session, and those of another instance."""
    service.deploy("mirror", "/", MIRROR)
    place = service.world.directory / "manta" / service.NAME
    script = "import time; time.sleep(1000)"
    looks = ["manta-proxy", "-c", script, "--instance", str(place), "--number", "1"]
    other = ["manta-proxy", "-c", script, "--instance", str(place) + "-2", "--number", "1"]
    python = subprocess.run(["python3", "-c", "import sys; print(sys.executable)"], stdout=subprocess.PIPE, text=True, check=True)
    below = subprocess.Popen(looks, executable=python.stdout.strip())
    beside = subprocess.Popen(other, executable=python.stdout.strip(), start_new_session=True)
    before = roles(service)
    service.kill_node()
    service.start_node()
    assert roles(service) == before
    for stranger in below, beside:
        assert stranger.poll() is None
        stranger.kill()
        stranger.wait()


def test_a_role_may_be_told_to_end_when_no_node_comes(manta_service):
    with manta_service(environment={"MANTA_NODE_AWAY_LIMIT_MS": "300"}) as service:
        service.deploy("mirror", "/", MIRROR)
        service.kill_node()
        service.start_node()  # in time: the limit begins anew
        time.sleep(0.5)
        settled(service, replicas=1)
        service.kill_node()
        wait_until(lambda: not roles(service), "everybody has ended")


# ---- stderr


def test_what_a_replica_writes_never_waits_or_fails_around_a_death(service, gate):
    """Its stderr is read by the node, by itself while there is none, and by the next: last words arrive."""
    service.deploy("puppet", "/", PUPPET)
    words, all_of_them = service.world.directory / "words", 4096 * 63 + 10
    with Connection(service.port) as connection, words.open("w") as stderr:
        connection.ask(f"/?{gate.query}")
        inside = gate.next()
        service.kill_node()
        inside.tell("t")
        assert inside.line() == f"talked {all_of_them}"
        service.start_node(stderr=stderr)
        inside.tell("t")
        assert inside.line() == f"talked {all_of_them}"
        wait_until(lambda: words.stat().st_size >= all_of_them, "the next node passes them on")
        inside.tell("x")
        assert connection.answer().status == 500
    assert words.read_text().endswith("well then\n")
    wait_until(lambda: "ended, how is not known" in service.logs()["node.log"], "the node has seen it")


# ---- commands without a node


def test_status_and_shutdown_work_without_a_node(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    service.kill_node()
    await_replicas(service, "mirror", 2)
    done = service.command("shutdown", "--yes")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not roles(service), "everything has ended")
    assert service.world.instances() == []
    service.start_node()
    assert service.status()["applications"] == {}


def test_an_application_deployed_without_a_node_runs_when_one_is_back(service):
    service.deploy("mirror", "/", MIRROR)
    service.kill_node()
    run = subprocess.Popen(
        [service.world.build / "src/cli/manta", "run", "--non-blocking", "--name", "more", "--route-prefix", "/more"]
        + [f"{service.world.build}/{MIRROR}", "num_replicas=2"],
        env={**service.world.environment, "MANTA_INSTANCE": service.NAME},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: "more" in service.status()["applications"], "it is stored")
    assert run.poll() is None
    service.start_node()
    _, said = run.communicate(timeout=60)
    assert run.returncode == 0, said
    settled(service, replicas=3)
