# SPDX-License-Identifier: Apache-2.0
"""Options that change while replicas run: told to them, in place, without a restart and without a lost request.

`configured` (tests/objects/life.c) answers "PID COUNT CONFIG": the process that answers, how often its `reconfigure`
was called, and with what last.  A config with "refuse" in it is refused.
"""

import os
import signal

import pytest
from conftest import wait_until
from crowd import Crowd
from plain_http import get

CONFIGURED = "tests/objects/liblife.so:configured"


@pytest.fixture
def service(manta_service):
    with manta_service() as service:
        yield service


def deploy(service, config, *options):
    service.deploy("configured", "/", CONFIGURED, f"user_config={config}", *options)


def ask(service):
    pid, count, config = get(service.port, "/").text.split(" ", 2)
    return int(pid), int(count), config


def ask_all(service, replicas):
    """What each replica says, by process."""
    found = {}

    def look():
        pid, *said = ask(service)
        found[pid] = said
        return len(found) == replicas

    wait_until(look, f"{replicas} replicas answer")
    return found


def deployment(service):
    return service.status()["applications"]["configured"]["deployments"]["configured"]


@pytest.mark.quick
def test_a_new_user_config_is_told_to_the_running_replicas(service):
    deploy(service, "1", "num_replicas=3")
    before = ask_all(service, 3)
    deploy(service, "2", "num_replicas=3")
    after = ask_all(service, 3)
    assert sorted(after) == sorted(before)
    assert all(said == [2, "2"] for said in after.values()), after
    assert deployment(service)["status_trigger"] == "CONFIG_UPDATE_COMPLETED"


def test_requests_go_on_while_replicas_are_reconfigured(service):
    deploy(service, "0", "num_replicas=2")
    before = ask_all(service, 2)
    with Crowd(service.port) as crowd:
        for n in range(1, 21):
            deploy(service, str(n), "num_replicas=2")
        counts = crowd.stop()
    assert set(counts) == {"wrong"}, counts  # 200, and not an echo
    after = ask_all(service, 2)
    assert sorted(after) == sorted(before)
    assert all(said == [21, "20"] for said in after.values()), after


def test_health_and_shutdown_options_and_limits_restart_nothing(service):
    deploy(service, "1")
    before = ask(service)
    deploy(
        service, "1", "max_ongoing_requests=7", "health_check_period_s=3", "health_check_timeout_s=4",
        "graceful_shutdown_timeout_s=2", "max_queued_requests=9",
    )  # fmt: skip
    assert ask(service) == before


def test_a_refused_user_config_goes_back_to_the_one_before_and_the_status_says_why(service):
    deploy(service, "good")
    with pytest.raises(AssertionError, match="refused: refuse this"):
        deploy(service, "refuse this")
    found = deployment(service)
    assert (found["status"], found["status_trigger"]) == ("DEPLOY_FAILED", "REPLICA_STARTUP_FAILED")
    assert "refused: refuse this" in found["message"]
    wait_until(lambda: ask(service)[2] == "good", "the old configuration is back")
    deploy(service, "better")
    assert ask(service)[2] == "better"
    assert deployment(service)["status"] == "HEALTHY"


def test_a_user_config_that_is_larger_than_a_frame_replaces_the_replica(service):
    deploy(service, "small")
    before, _, _ = ask(service)
    deploy(service, "x" * 100000)  # as long as an argument of a command may be
    assert ask(service)[0] == before
    assert ask(service)[2] == "x" * 500


def test_a_new_controller_finds_what_its_replicas_are_configured_with(service):
    deploy(service, "1", "num_replicas=2")
    deploy(service, "2", "num_replicas=2")
    before = ask_all(service, 2)
    [controller] = service.processes("manta-controller")
    os.kill(controller, signal.SIGKILL)
    wait_until(lambda: service.processes("manta-controller") not in ([], [controller]), "a new controller")
    wait_until(lambda: deployment(service)["status"] == "HEALTHY", "everything is found again")
    assert ask_all(service, 2) == before
    deploy(service, "3", "num_replicas=2")
    after = ask_all(service, 2)
    assert sorted(after) == sorted(before)
    assert all(said == [3, "3"] for said in after.values()), after
