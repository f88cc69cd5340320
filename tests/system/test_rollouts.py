# SPDX-License-Identifier: Apache-2.0
"""How replicas are replaced: beside the old ones or in their place, and how long a start is believed in.

A rollout is another version: `threads` of `configured` (tests/objects/life.c) changes, which a running process cannot
take.  It answers "PID COUNT CONFIG".
"""

import threading

import pytest
from conftest import wait_until
from crowd import Crowd
from plain_http import get

LIFE = "tests/objects/liblife.so"


@pytest.fixture
def service(manta_service):
    with manta_service() as service:
        yield service


def deploy(service, name, *options):
    service.deploy(name, "/", f"{LIFE}:{name}", *options)


def deployment_of(service, app, name):
    return service.status()["applications"][app]["deployments"][name]


def deployment(service, name):
    return deployment_of(service, name, name)


def pids(service):
    return set(service.processes("manta-replica"))


@pytest.mark.parametrize("surge", [0, 40, 100])
def test_a_rollout_loses_nothing_whatever_its_surge(service, surge):
    options = ("num_replicas=3", f"max_surge_percent={surge}", "graceful_shutdown_timeout_s=1")
    deploy(service, "configured", "user_config=1", "threads=1", *options)
    before = pids(service)
    with Crowd(service.port) as crowd:
        deploy(service, "configured", "user_config=1", "threads=2", *options)
        counts = crowd.stop()
    assert set(counts) == {"wrong"}, counts  # 200, and not an echo
    wait_until(lambda: len(pids(service)) == 3, "the old ones are gone")
    assert not before & pids(service)


def test_a_rollout_without_a_surge_never_has_more_replicas_than_wanted(service):
    options = ("num_replicas=2", "max_surge_percent=0", "graceful_shutdown_timeout_s=0")
    deploy(service, "configured", "threads=1", *options)
    deploy(service, "configured", "threads=2", *options)

    def words():
        lines = service.logs()["controller.log"].splitlines()
        known = ("drains", "is ready", "is started")
        return [word for line in lines for word in known if word in line]

    # Started, ready twice; then each time one drains before its successor starts.
    wanted = ["is started", "is started", "is ready", "is ready"] + ["drains", "is started", "is ready"] * 2
    wait_until(lambda: len(words()) >= len(wanted), "the log is written")
    assert words() == wanted


def test_a_constructor_that_never_returns_fails_after_its_own_time_limit(service):
    deploy(service, "configured", "threads=1")
    with pytest.raises(AssertionError, match=r"not ready after \d+ ms \(start_timeout_s\)"):
        service.deploy("open_hangs", "/h", f"{LIFE}:open_hangs", "start_timeout_s=0.2", "max_constructor_retry_count=2")
    found = deployment(service, "open_hangs")
    assert (found["status"], found["status_trigger"]) == ("DEPLOY_FAILED", "REPLICA_STARTUP_FAILED")
    assert "failed to start 2 times in a row" in found["message"]
    assert get(service.port, "/").status == 200


def test_a_deployment_that_crashes_again_and_again_slows_no_other(service):
    service.deploy("well", "/well", f"{LIFE}:configured")
    target = f"{service.world.build}/{LIFE}:open_crashes"
    arguments = ("run", "--non-blocking", "--name", "ill", "--route-prefix", "/ill", target, "num_replicas=4")
    ill = threading.Thread(target=service.command, args=arguments)
    ill.start()
    wait_until(lambda: "ill" in service.status()["applications"], "the one that crashes is tried")
    for n in range(5):  # each is decided and done at once, whatever waits out its back-off beside it
        service.deploy("well", "/well", f"{LIFE}:configured", f"user_config={n}")
        assert get(service.port, "/well").text.endswith(f" {n}")
    assert service.status()["applications"]["well"]["status"] == "RUNNING"
    ill.join()
    assert deployment_of(service, "ill", "open_crashes")["status"] == "DEPLOY_FAILED"
