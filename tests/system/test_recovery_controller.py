# SPDX-License-Identifier: Apache-2.0
"""The controller, or everything at once, killed at many moments of a rollout.

What must come out of it is the same whenever it happens: of each process as many as are wanted, none twice, none
left over, all of the version that was deployed last; and requests notice a controller's death never.
"""

import contextlib
import os
import signal
import subprocess
import time

import pytest
from conftest import wait_until
from crowd import Crowd
from plain_http import get
from test_recovery_node import await_more, await_replicas, is_served, roles, settled

MIRROR = "tests/objects/libmirror.so:mirror"
# From before the command has said anything to after the last old replica has ended.
PAUSES_S = [0, 0.002, 0.005, 0.01, 0.015, 0.02, 0.05]


@pytest.fixture
def service(manta_service):
    with manta_service() as service:
        yield service


def begin_rollout(service, threads):
    """A command that deploys another version of `mirror`; it may or may not have begun to speak."""
    command = [service.world.build / "src/cli/manta", "run", "--non-blocking", "--name", "mirror", "--route-prefix", "/"]
    return subprocess.Popen(
        [*command, f"{service.world.build}/{MIRROR}", "num_replicas=3", f"threads={threads}"],
        env={**service.world.environment, "MANTA_INSTANCE": service.NAME},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def pids(service, name):
    return set(service.processes(name))


def await_another_controller(service, before):
    def look():
        found = service.processes("manta-controller")
        return len(found) == 1 and found[0] != before

    wait_until(look, "there is another controller")
    wait_until(lambda: service.command("status").returncode == 0, "status works again")


def kill_everybody(service):
    """The node first, so that it starts nobody while they die.  Returns who was killed."""
    service.kill_node()
    killed = set()

    def look():
        living = roles(service)
        killed.update(living)
        for pid in living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not living

    wait_until(look, "everybody is dead")
    return killed


def test_at_whatever_moment_of_a_rollout_the_controller_dies_nothing_is_lost_or_double(service):
    service.deploy("mirror", "/", MIRROR, "num_replicas=3")
    with Crowd(service.port, "/", threads=4) as crowd:
        for turn, pause_s in enumerate(PAUSES_S):
            old, controller = pids(service, "manta-replica"), service.processes("manta-controller")[0]
            run = begin_rollout(service, threads=turn + 2)
            time.sleep(pause_s)
            os.kill(controller, signal.SIGKILL)
            # It either succeeded before, or asks again by itself, or says that it does not know.
            assert run.wait(60) in (0, 1)
            await_another_controller(service, controller)
            service.deploy("mirror", "/", MIRROR, "num_replicas=3", f"threads={turn + 2}")
            await_replicas(service, "mirror", 3)
            wait_until(lambda: len(pids(service, "manta-replica")) == 3, "the old ones are gone")
            assert not pids(service, "manta-replica") & old
        await_more(crowd, 50)
        counts = crowd.stop()
    assert counts.keys() == {200}
    print(f"{counts[200]} requests, none lost")
    settled(service, replicas=3)


def test_a_controller_killed_again_and_again_comes_to_the_same_end(service):
    """Each successor is killed as soon as it is there, in the middle of what it takes over."""
    service.deploy("mirror", "/", MIRROR, "num_replicas=3")
    old = pids(service, "manta-replica")
    with Crowd(service.port, "/", threads=4) as crowd:
        run = begin_rollout(service, threads=2)
        for _ in range(8):
            controller = wait_until(lambda: service.processes("manta-controller"), "there is a controller")[0]
            os.kill(controller, signal.SIGKILL)
            wait_until(lambda: controller not in service.processes(), "it is gone")
        assert run.wait(60) in (0, 1)
        wait_until(lambda: service.command("status").returncode == 0, "status works again")
        service.deploy("mirror", "/", MIRROR, "num_replicas=3", "threads=2")
        await_replicas(service, "mirror", 3)
        await_more(crowd, 50)
        assert crowd.stop().keys() == {200}
    settled(service, replicas=3)
    assert not pids(service, "manta-replica") & old


@pytest.mark.parametrize("pause_s", [0, 0.005, 0.02])
def test_after_the_death_of_everything_in_mid_rollout_the_service_is_whole(service, pause_s):
    """As when a machine is switched off and on again: what is stored runs, once; nobody is left over."""
    service.deploy("mirror", "/", MIRROR, "num_replicas=3")
    run = begin_rollout(service, threads=2)
    time.sleep(pause_s)
    before = kill_everybody(service)
    run.wait(60)
    service.start_node()
    wait_until(lambda: is_served(service.port), "it is served")
    await_replicas(service, "mirror", 3)
    settled(service, replicas=3)
    assert not set(roles(service)) & before
    service.deploy("mirror", "/", MIRROR, "num_replicas=3", "threads=2")
    await_replicas(service, "mirror", 3)
    settled(service, replicas=3)
    assert get(service.port, "/").status == 200
