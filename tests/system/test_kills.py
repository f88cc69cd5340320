# SPDX-License-Identifier: Apache-2.0
"""Processes that are killed, stopped and told to end, one kind after the other, while requests are on their way.

What each death may cost is said in its test and checked: every request is accounted for (crowd.py), and what is
not lost by design must not be lost.

    a replica       the requests that its user code had: 500 at once; those it had not taken are answered elsewhere
    the proxy       the connections inside it; those that wait in the listening socket are served by the next one
    the controller  nothing
    the node        a private instance ends whole
    `manta run`     the same, and its runtime directory is gone
"""

import contextlib
import os
import random
import signal
import subprocess
import time

import pytest
from conftest import wait_until
from crowd import Crowd
from gate import Gate
from plain_http import Broken, Connection, get
from processes import state

MIRROR = "tests/objects/libmirror.so:mirror"
PUPPET = "tests/objects/libpuppet.so:puppet"


def kill(pid, number=signal.SIGKILL):
    os.kill(pid, number)


def await_more(crowd, count):
    """So many further requests are answered with 200."""
    wanted = crowd.count(200) + count
    wait_until(lambda: crowd.count(200) >= wanted, f"{count} further answers")


def await_replicas(service, app, count):
    def look():
        deployments = service.status()["applications"][app]["deployments"].values()
        return all(deployment["replica_states"] == {"RUNNING": count} for deployment in deployments)

    wait_until(look, f"{count} replicas of {app}")


@pytest.fixture
def service(manta_service):
    with manta_service() as service:
        yield service


@pytest.fixture
def gate(service):
    with Gate(service.world.directory) as gate:
        yield gate


# ---- replicas


def test_a_replica_killed_under_load_costs_only_what_it_was_at_work_on(service):
    threads, rounds = 8, 4
    service.deploy("mirror", "/", MIRROR, "num_replicas=3")
    with Crowd(service.port, "/", threads) as crowd:
        for _ in range(rounds):
            await_more(crowd, 200)
            kill(service.processes("manta-replica")[0])
            await_more(crowd, 50)
            await_replicas(service, "mirror", 3)
        counts = crowd.stop()
    assert set(counts) <= {200, 500}
    assert counts.get(500, 0) <= rounds * threads


def test_what_a_killed_replica_had_not_taken_is_answered_by_another(service, gate):
    """One thread each: of two requests at a replica one is in user code and the other is not."""
    service.deploy("puppet", "/", PUPPET, "num_replicas=2", "threads=1", "max_ongoing_requests=2")
    connections = [Connection(service.port) for _ in range(4)]
    for connection in connections:
        connection.ask(f"/?{gate.query}")
    victim, survivor = gate.next(), gate.next()
    assert victim.pid != survivor.pid
    kill(victim.pid)
    dead = wait_until(lambda: next((one for one in connections if one.is_readable()), None), "its request is told")
    assert dead.answer().status == 500
    connections.remove(dead)
    survivor.tell("a")
    for _ in range(2):
        gate.next().tell("a")
    assert [connection.answer().status for connection in connections] == [200] * 3


def test_requests_wait_when_the_only_replica_is_killed(service, gate):
    service.deploy("puppet", "/", PUPPET)
    with Connection(service.port) as first, Connection(service.port) as second:
        first.ask(f"/?{gate.query}")
        inside = gate.next()
        kill(inside.pid)
        assert first.answer().status == 500
        second.ask("/")
        assert second.answer().status == 200  # by its successor
        assert second.get("/").text != inside.replica


def test_the_children_of_a_replica_end_with_it(service, gate):
    service.deploy("puppet", "/", PUPPET)
    with Connection(service.port) as connection:
        connection.ask(f"/?{gate.query}")
        inside = gate.next()
        inside.tell("k")
        child = int(inside.line().split()[1])
        assert child in service.processes()
        kill(inside.pid)
        assert connection.answer().status == 500
        wait_until(lambda: child not in service.processes(), "the child of the killed replica is gone")


def test_a_stopped_replica_delays_only_what_it_has(service):
    """Three seconds of SIGSTOP: the other one serves on, and what the stopped one had is late but answered."""
    service.deploy("mirror", "/", MIRROR, "num_replicas=2", "max_ongoing_requests=4")
    with Crowd(service.port, "/", threads=12) as crowd:
        await_more(crowd, 200)
        stopped = service.processes("manta-replica")[0]
        kill(stopped, signal.SIGSTOP)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            await_more(crowd, 20)
        kill(stopped, signal.SIGCONT)
        await_more(crowd, 200)
        assert crowd.stop().keys() == {200}
        late = [one for one in crowd.outcomes if one[1] - one[0] > 1]
        assert len(late) <= 8
    assert stopped in service.processes("manta-replica")


# ---- the proxy


def test_a_proxy_killed_under_load_costs_the_connections_inside_it_and_no_other(service):
    threads, rounds = 8, 4
    service.deploy("mirror", "/", MIRROR)
    with Crowd(service.port, "/", threads) as crowd:
        for _ in range(rounds):
            await_more(crowd, 200)
            before = service.processes("manta-proxy")
            kill(before[0])
            await_more(crowd, 50)
            wait_until(lambda: len(service.processes("manta-proxy")) == 1, "there is one proxy again")
            assert service.processes("manta-proxy") != before
        counts = crowd.stop()
    assert set(counts) <= {200, "broken"}
    assert counts.get("broken", 0) <= rounds * threads


def test_connections_that_wait_while_the_proxy_dies_are_served_by_the_next_one(service):
    service.deploy("mirror", "/", MIRROR)
    proxy = service.processes("manta-proxy")[0]
    kill(proxy, signal.SIGSTOP)
    wait_until(lambda: state(proxy) == "T", "the proxy stands still")
    waiting = [Connection(service.port) for _ in range(50)]
    for number, connection in enumerate(waiting):
        connection.ask(f"/{number}")
    kill(proxy)
    assert [connection.answer().field("x-path") for connection in waiting] == [f"/{n}" for n in range(50)]
    for connection in waiting:
        connection.close()


def test_requests_of_a_dead_proxy_are_cancelled_in_the_replica(service, gate):
    service.deploy("puppet", "/", PUPPET)
    with Connection(service.port) as connection:
        connection.ask(f"/?{gate.query}")
        inside = gate.next()
        kill(service.processes("manta-proxy")[0])
        assert inside.line() == "cancelled"
        with pytest.raises(Broken):
            connection.answer()
    inside.tell("a")
    assert get(service.port, "/").status == 200


def test_a_proxy_that_is_told_to_end_finishes_what_it_has(service, gate):
    service.deploy("puppet", "/", PUPPET)
    with Connection(service.port) as held, Connection(service.port) as streamed, Connection(service.port) as idle:
        assert idle.get("/").status == 200
        held.ask(f"/?{gate.query}")
        inside = gate.next()
        streamed.ask(f"/?{gate.query}")
        stream = gate.next()
        stream.tell("sw")
        assert stream.line() == "wrote"
        proxy = service.processes("manta-proxy")[0]
        kill(proxy, signal.SIGTERM)
        assert idle.rest() == b""  # nothing was going on there
        waiting = Connection(service.port)
        waiting.ask("/")
        inside.tell("a")
        answer = held.answer()
        assert answer.status == 200 and answer.closes
        stream.tell("we")
        assert len(streamed.answer().body) == 2 * 65536
        wait_until(lambda: proxy not in service.processes(), "the drained proxy ends")
        assert waiting.answer().status == 200  # by its successor
        waiting.close()


def test_pipelined_requests_that_had_begun_are_finished_by_a_draining_proxy(service, gate):
    service.deploy("puppet", "/", PUPPET)
    with Connection(service.port) as connection:
        connection.send(f"GET /?{gate.query} HTTP/1.1\r\nHost: a\r\n\r\n".encode() * 3)
        inside = [gate.next() for _ in range(3)]
        proxy = service.processes("manta-proxy")[0]
        kill(proxy, signal.SIGTERM)
        wait_until(lambda: "draining" in "".join(service.logs().values()), "it drains")
        for one in inside:
            one.tell("a")
        answers = [connection.answer() for _ in range(3)]
        assert [answer.status for answer in answers] == [200] * 3
        assert answers[-1].closes and connection.rest() == b""


def test_a_second_signal_ends_a_draining_proxy_at_once(service, gate):
    service.deploy("puppet", "/", PUPPET)
    with Connection(service.port) as connection:
        connection.ask(f"/?{gate.query}")
        inside = gate.next()
        proxy = service.processes("manta-proxy")[0]
        kill(proxy, signal.SIGTERM)
        wait_until(lambda: "draining" in "".join(service.logs().values()), "it drains")
        kill(proxy, signal.SIGTERM)
        assert inside.line() == "cancelled"
        with pytest.raises(Broken):
            connection.answer()
    assert get(service.port, "/").status == 200


# ---- the controller


def test_a_controller_killed_under_load_costs_nothing(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    replicas = service.processes("manta-replica")
    with Crowd(service.port, "/") as crowd:
        for _ in range(3):
            await_more(crowd, 100)
            before = service.processes("manta-controller")
            kill(before[0])
            await_more(crowd, 100)
            wait_until(lambda: service.processes("manta-controller") not in ([], before), "there is another one")
        assert crowd.stop().keys() == {200}
    wait_until(lambda: service.command("status").returncode == 0, "status works again")
    await_replicas(service, "mirror", 2)
    assert service.processes("manta-replica") == replicas
    assert service.status()["applications"]["mirror"]["status"] == "RUNNING"


def test_a_new_controller_takes_orders_and_replaces_the_dead(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    kill(service.processes("manta-controller")[0])
    kill(service.processes("manta-replica")[0])
    wait_until(lambda: service.command("status").returncode == 0, "status works again")
    service.deploy("replies", "/replies", "tests/objects/libreplies.so:replies")
    await_replicas(service, "mirror", 2)
    assert get(service.port, "/replies/int").status == 200


def test_a_controller_killed_while_an_application_starts_starts_it_all_the_same(service):
    """C1: the target was stored before anybody acted on it.  Whoever waited is told to ask again."""
    stuck = service.world.directory / "go"
    target = f"{service.world.build}/tests/objects/liblife.so:open_waits"
    run = subprocess.Popen(
        [service.world.build / "src/cli/manta", "run", "--non-blocking", "--name", "app", "--route-prefix", "/"]
        + [target, f"file={stuck}"],
        env={**service.world.environment, "MANTA_INSTANCE": service.NAME},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: service.processes("manta-replica"), "its replica starts")
    kill(service.processes("manta-controller")[0])
    _, said = run.communicate(timeout=60)
    assert run.returncode == 1 and "ask again" in said
    stuck.touch()
    wait_until(lambda: service.command("status").returncode == 0, "status works again")
    wait_until(lambda: service.status()["applications"].get("app", {}).get("status") == "RUNNING", "it runs")
    assert get(service.port, "/").status == 200


def test_a_stopped_controller_disturbs_no_request(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    controller = service.processes("manta-controller")[0]
    kill(controller, signal.SIGSTOP)
    with Crowd(service.port, "/") as crowd:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            await_more(crowd, 20)
        kill(controller, signal.SIGCONT)
        await_more(crowd, 100)
        assert crowd.stop().keys() == {200}
    await_replicas(service, "mirror", 2)


# ---- the whole


def test_a_private_instance_ends_whole_with_its_node(manta_run):
    with manta_run(MIRROR, "num_replicas=2") as run:
        assert run.get("/").status == 200
        kill(run.processes("manta-node")[0])
        assert run.wait() == 1
        assert run.said("the instance has ended")
        wait_until(lambda: not run.leftovers(), "no process and no runtime directory is left")


def test_a_private_instance_ends_whole_with_its_command(manta_run):
    with manta_run(PUPPET, "num_replicas=2") as run, Gate(run.world.directory) as gate:
        with Connection(run.port) as connection:
            connection.ask(f"/?{gate.query}")
            gate.next()
            kill(run.process.pid)
            run.wait()
            with contextlib.suppress(Broken):
                assert connection.answer().status >= 500
        wait_until(lambda: not run.leftovers(), "no process and no runtime directory is left")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_instance_that_is_told_to_end_finishes_what_it_has(manta_run, number):
    with manta_run(PUPPET) as run, Gate(run.world.directory) as gate:
        with Connection(run.port) as connection:
            connection.ask(f"/?{gate.query}")
            inside = gate.next()
            run.process.send_signal(number)
            run.await_line("once more to end at once")
            inside.tell("a")
            assert connection.answer().status == 200
        assert run.wait() == 0
        assert run.leftovers() == []


def test_a_second_signal_ends_an_instance_at_once(manta_run):
    with manta_run(PUPPET) as run, Gate(run.world.directory) as gate:
        with Connection(run.port) as connection:
            connection.ask(f"/?{gate.query}")
            gate.next()
            run.process.send_signal(signal.SIGINT)
            run.await_line("once more to end at once")
            run.process.send_signal(signal.SIGINT)
            assert run.wait() != 0
        wait_until(lambda: not run.leftovers(), "no process and no runtime directory is left")


def test_a_request_that_never_ends_holds_the_end_no_longer_than_its_limit(manta_run):
    with manta_run(PUPPET, "graceful_shutdown_timeout_s=0.2") as run, Gate(run.world.directory) as gate:
        with Connection(run.port) as connection:
            connection.ask(f"/?{gate.query}")
            gate.next().tell("n")
            run.process.send_signal(signal.SIGINT)
            run.wait()
        assert run.leftovers() == []


# ---- changes under load


def test_a_rollout_under_load_loses_nothing(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    with Crowd(service.port, "/") as crowd:
        for turn in range(3):
            await_more(crowd, 100)
            before = set(service.processes("manta-replica"))
            service.deploy("mirror", "/", MIRROR, "num_replicas=2", f"threads={turn + 2}")
            await_replicas(service, "mirror", 2)
            assert not before & set(service.processes("manta-replica"))
        await_more(crowd, 100)
        assert crowd.stop().keys() == {200}


def test_scaling_up_and_down_under_load_loses_nothing(service):
    service.deploy("mirror", "/", MIRROR)
    with Crowd(service.port, "/") as crowd:
        for count in (4, 1, 3, 2):
            service.deploy("mirror", "/", MIRROR, f"num_replicas={count}")
            await_replicas(service, "mirror", count)
            await_more(crowd, 100)
        assert crowd.stop().keys() == {200}


def test_whatever_is_killed_in_whatever_order_the_instance_is_whole_again(service):
    """A minute's bad luck in a few seconds, from a seed that is printed."""
    seed = int(os.environ.get("MANTA_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"MANTA_TEST_SEED={seed}")
    chance, threads, deaths = random.Random(seed), 8, 0
    service.deploy("mirror", "/", MIRROR, "num_replicas=3")
    service.deploy("chain", "/chain", "tests/objects/libchain.so:chain")
    with Crowd(service.port, "/", threads) as crowd, Crowd(service.port, "/chain", threads=2) as chain:
        for _ in range(12):
            victims = [pid for pid, name in service.processes().items() if name != "manta-node" and name != "manta"]
            for victim in chance.sample(sorted(victims), chance.choice([1, 1, 2])):
                with contextlib.suppress(ProcessLookupError):
                    kill(victim)
                    deaths += 1
            await_more(crowd, chance.randrange(1, 200))
        counts, chained = crowd.stop(), chain.stop()
    assert set(counts) <= {200, 500, 503, "broken"}
    assert not {"hung", "refused"} & set(chained)
    assert counts[200] > sum(counts.values()) - deaths * threads - 1
    wait_until(lambda: service.command("status").returncode == 0, "status works again")
    await_replicas(service, "mirror", 3)
    await_replicas(service, "chain", 1)
    wait_until(lambda: sorted(service.processes().values()).count("manta-proxy") == 1, "there is one proxy")
    assert get(service.port, "/").status == 200
    wait_until(lambda: get(service.port, "/chain").status == 200, "the chain holds")
