# SPDX-License-Identifier: Apache-2.0
"""Bad luck in the life of an application: deploys that race, ends that are ignored, constructors and health checks
that cannot make up their mind.  What a disk does is in test_store.py, what is killed in test_kills.py.
"""

import os
import re
import signal
import threading

from conftest import wait_until
from plain_http import Connection, get

ANSWER, LIFE, MIRROR = "libanswer.so", "liblife.so", "libmirror.so"


def target(service, library, application):
    return f"{service.world.build}/tests/objects/{library}:{application}"


def deployment(service, app, name):
    return service.status()["applications"][app]["deployments"][name]


def running(service, app, name):
    return sorted(r["pid"] for r in deployment(service, app, name)["replicas"] if r["state"] == "RUNNING")


def test_of_deploys_that_race_one_wins_whole(manta_service):
    """Each of eight wants another number of replicas; in the end it is that of one, and the others were told."""
    with manta_service() as service:
        done = {}

        def deploy(count):
            done[count] = service.command(
                "run", "--non-blocking", "--name", "race", target(service, MIRROR, "mirror"), f"num_replicas={count}",
            )  # fmt: skip

        threads = [threading.Thread(target=deploy, args=(count,)) for count in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert any(one.returncode == 0 for one in done.values()), {n: one.stderr for n, one in done.items()}
        for one in done.values():
            assert one.returncode == 0 or "application 'race' was deployed anew" in one.stderr, one.stderr
        count = deployment(service, "race", "mirror")["target_num_replicas"]
        assert done[count].returncode == 0
        wait_until(lambda: len(running(service, "race", "mirror")) == count, f"{count} replicas run")
        wait_until(lambda: len(service.processes("manta-replica")) == count, "and no process more")


def test_whole_targets_that_race_are_never_mixed(manta_service):
    with manta_service() as service:
        files = []
        for index in range(4):
            file = service.world.directory / f"{index}.yaml"
            file.write_text("applications:\n" + "".join(
                f"- {{name: {name}{index}, route_prefix: /{name}, import_path: '{target(service, MIRROR, 'mirror')}'}}\n"
                for name in "ab"
            ))  # fmt: skip
            files.append(str(file))
        threads = [threading.Thread(target=service.command, args=("deploy", file)) for file in files]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        def look():
            found = service.status()["applications"]
            return len(found) == 2 and {app["status"] for app in found.values()} == {"RUNNING"} and sorted(found)

        names = wait_until(look, "one of them is in force")
        assert names[0][1:] == names[1][1:], names
        assert get(service.port, "/a").status == get(service.port, "/b").status == 200


def test_a_deploy_during_a_shutdown_is_refused(manta_service):
    with manta_service() as service:
        service.deploy("gate", "/", f"tests/objects/{ANSWER}:gate", "graceful_shutdown_timeout_s=3")
        with Connection(service.port) as held:
            held.ask("/wait")
            wait_until(lambda: get(service.port, "/waiting").body == b"1", "a request is held")
            ender = threading.Thread(target=service.command, args=("shutdown", "--yes"))
            ender.start()
            wait_until(lambda: service.status()["applications"]["gate"]["status"] == "DELETING", "it shuts down")
            done = service.command("run", "--non-blocking", "--name", "late", target(service, MIRROR, "mirror"))
            assert done.returncode == 1 and "the instance is shutting down" in done.stderr, done.stderr
            ender.join()
        assert service.process.wait(60) == 0
        assert not service.processes()


def test_a_replica_that_ignores_its_end_is_ended_by_force(manta_service):
    """Its request never ends and it does not listen to SIGTERM: the deletion takes no longer than its limits."""
    with manta_service() as service:
        service.deploy("gate", "/", f"tests/objects/{ANSWER}:gate", "graceful_shutdown_timeout_s=0.5")
        (replica,) = running(service, "gate", "gate")
        with Connection(service.port) as held:
            held.ask("/wait")
            wait_until(lambda: get(service.port, "/waiting").body == b"1", "a request is held")
            os.kill(replica, signal.SIGSTOP)
            done = service.command("delete", "gate")
            assert done.returncode == 0, done.stderr
        assert replica not in service.processes()
        assert service.status()["applications"] == {}


def test_a_constructor_that_succeeds_only_the_third_time_is_waited_for(manta_service, tmp_path):
    with manta_service() as service:
        count = tmp_path / "count"
        done = service.command(
            "run", "--non-blocking", "--name", "slow", target(service, LIFE, "open_fails_first"),
            f"file={count}", "times=2",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert len(re.findall("failed to start", done.stderr)) == 2
        found = deployment(service, "slow", "open_fails_first")
        assert (found["status"], found["replica_states"]) == ("HEALTHY", {"RUNNING": 1})


def test_a_health_check_that_flaps_costs_nothing(manta_service):
    """Three failures in a row end a replica; two of three do not, however often."""
    with manta_service() as service:
        service.deploy("sick", "/", f"tests/objects/{LIFE}:sick")
        before = running(service, "sick", "sick")
        get(service.port, "/flap")
        first = int(get(service.port, "/checks").body)
        wait_until(lambda: int(get(service.port, "/checks").body) > first + 12, "a dozen more checks")
        assert running(service, "sick", "sick") == before
        assert deployment(service, "sick", "sick")["status"] == "HEALTHY"
        get(service.port, "/sick")
        wait_until(lambda: running(service, "sick", "sick") not in (before, []), "three in a row end it")
