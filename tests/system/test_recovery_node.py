# SPDX-License-Identifier: Apache-2.0
"""A service without its node: what is lost (nothing), and what the next node finds.

The node is killed as the kernel kills, and started again by its name, as a supervisor does.  Meanwhile and
afterwards every process is counted: none is lost, none is there twice, and none is a stranger.
"""

import contextlib
import http.client
import json
import os
import pathlib
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
