# SPDX-License-Identifier: Apache-2.0
"""Replicas that stand still: SIGSTOP instead of death, and SIGCONT.

A stopped process answers no ping.  After silence_limit_ms (2 s) and at most one round of pings (0.5 s) it is out of
the routing snapshot; what it has waits, what comes goes elsewhere or waits; when it goes on it answers and is back.
Only the limits of its health checks end it.
"""

import os
import signal
import threading
import time

import pytest
from conftest import wait_until
from crowd import Crowd
from plain_http import get
from processes import state

MIRROR = "tests/objects/libmirror.so:mirror"
UNROUTABLE_S = 2.5  # silence_limit_ms and one ping_period_ms
SLACK_S = 1.5  # a busy machine


@pytest.fixture
def service(manta_service):
    with manta_service() as service:
        yield service


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state(pid) == "T", "it stands still")


def go_on(pid):
    os.kill(pid, signal.SIGCONT)


def message(service, app):
    (deployment,) = service.status()["applications"][app]["deployments"].values()
    return deployment["message"]


def await_missed(service, app):
    wait_until(lambda: "do not answer" in message(service, app), f"a replica of {app} is missed", 10)


def await_heard(service, app):
    wait_until(lambda: message(service, app) == "", f"every replica of {app} answers")


class Request(threading.Thread):
    """One request in a thread of its own."""

    def __init__(self, port, path):
        super().__init__(daemon=True)
        self.port, self.path, self.status = port, path, None
        self.start()

    def run(self):
        self.status = get(self.port, self.path).status

    def result(self):
        self.join(60)
        return self.status


@pytest.mark.quick
def test_new_requests_pass_a_stopped_replica_by_and_what_it_has_waits(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=3", "max_ongoing_requests=4")
    with Crowd(service.port, "/", threads=6) as crowd:
        wait_until(lambda: crowd.count(200) > 200, "load")
        stopped = service.processes("manta-replica")[0]
        stop(stopped)
        began = time.monotonic()
        await_missed(service, "mirror")
        assert time.monotonic() - began < UNROUTABLE_S + SLACK_S
        unrouted = time.monotonic()
        before = crowd.count(200)
        wait_until(lambda: crowd.count(200) > before + 500, "the others serve on")
        went_on = time.monotonic()
        go_on(stopped)
        await_heard(service, "mirror")
        before = crowd.count(200)
        wait_until(lambda: crowd.count(200) > before + 500, "all serve on")
        assert crowd.stop().keys() == {200}
    # Whoever began after it was out of the snapshot did not meet it.
    late = [one for one in crowd.outcomes if one[0] > unrouted and one[0] < went_on and one[1] - one[0] > SLACK_S]
    assert late == []
    assert stopped in service.processes("manta-replica")
    assert service.status()["applications"]["mirror"]["status"] == "RUNNING"


def test_requests_wait_for_the_only_replica_that_is_stopped(service):
    """The instance has no other: nobody can say whether the replica is silent or its observer is deaf."""
    service.deploy("mirror", "/", MIRROR)
    (pid,) = service.processes("manta-replica")
    stop(pid)
    early = Request(service.port, "/")
    time.sleep(UNROUTABLE_S + 0.5)  # past every limit on silence
    late = Request(service.port, "/")
    assert message(service, "mirror") == ""
    assert early.status is None and late.status is None
    go_on(pid)
    assert (early.result(), late.result()) == (200, 200)
    assert service.processes("manta-replica") == [pid]


def test_requests_wait_for_the_only_replica_of_a_deployment(service):
    service.deploy("stands", "/stands", MIRROR)
    (pid,) = service.processes("manta-replica")
    service.deploy("goes", "/goes", MIRROR)
    stop(pid)
    early = Request(service.port, "/stands")
    await_missed(service, "stands")
    late = Request(service.port, "/stands")
    assert get(service.port, "/goes").status == 200
    assert early.status is None and late.status is None
    go_on(pid)
    assert (early.result(), late.result()) == (200, 200)
    await_heard(service, "stands")
    assert pid in service.processes("manta-replica")


def test_when_all_stand_still_nobody_is_missed_and_all_come_back(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=3")
    pids = service.processes("manta-replica")
    with Crowd(service.port, "/", threads=6) as crowd:
        wait_until(lambda: crowd.count(200) > 100, "load")
        for pid in pids:
            stop(pid)
        time.sleep(UNROUTABLE_S + 0.5)
        assert message(service, "mirror") == ""
        for pid in pids:
            go_on(pid)
        before = crowd.count(200)
        wait_until(lambda: crowd.count(200) > before + 500, "they serve again")
        assert crowd.stop().keys() == {200}
    assert service.processes("manta-replica") == pids


def test_a_controller_that_stood_still_calls_nobody_silent(service):
    """Its turn comes late: it was away, not the replicas."""
    service.deploy("mirror", "/", MIRROR, "num_replicas=2")
    (pid,) = service.processes("manta-controller")
    stop(pid)
    with Crowd(service.port, "/", threads=4) as crowd:
        time.sleep(UNROUTABLE_S + 0.5)
        go_on(pid)
        before = crowd.count(200)
        wait_until(lambda: crowd.count(200) > before + 200, "answers")
        assert crowd.stop().keys() == {200}
    wait_until(lambda: service.command("status").returncode == 0, "status works")
    assert message(service, "mirror") == ""
    assert "silent" not in service.logs()["controller.log"]


def test_the_health_limits_end_a_replica_that_never_goes_on(service):
    """Three health checks of a second each, and it is replaced; the deployment is UNHEALTHY until then."""
    options = ["num_replicas=2", "health_check_period_s=1", "health_check_timeout_s=1", "graceful_shutdown_timeout_s=1"]
    service.deploy("mirror", "/", MIRROR, *options)
    stopped = service.processes("manta-replica")[0]
    stop(stopped)
    wait_until(lambda: stopped not in service.processes("manta-replica"), "it is ended")
    wait_until(lambda: len(service.processes("manta-replica")) == 2, "another one is there")
    await_heard(service, "mirror")
    assert service.status()["applications"]["mirror"]["status"] == "RUNNING"
    assert get(service.port, "/").status == 200
