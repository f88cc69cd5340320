# SPDX-License-Identifier: Apache-2.0
"""What is done to a house while requests keep coming, and what must hold.

A scenario finds two replicas of `crew` (or one) that serve, does something, and says when it began and when it
was over (account.Moment).  `hold` names what is checked:

    nothing_lost   every request is answered with 200
    inside         only requests that may have been inside the killed process are lost
    gap_ms         the longest time without any good answer
    trace_ms       who is sent later than this after the beginning is served in time again
"""

import dataclasses
import itertools
import os
import select
import signal
import time

from account import Moment
from houses import Failed, wait_until

HANG_S = 4.0  # longer than the limit on silence, shorter than those of health checks
STALL_S = 1.0
numbers = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    words: str
    act: object
    hold: dict
    replicas: int = 2
    ray: bool = True  # it makes sense there


def now_ns():
    return time.monotonic_ns()


def rolling_update(house, base):
    moment = Moment(now_ns())
    word = f"new{next(numbers)}"
    house.deploy(**base | {"word": word})
    moment.end_ns = now_ns()
    moment.facts["word"] = house.word()
    moment.facts["serves_new"] = moment.facts["word"] == word
    return moment


def failed_rollout(house, base):
    moment = Moment(now_ns())
    try:
        house.deploy(**base | {"word": "never", "refuse": 1})
    except Failed as failure:
        moment.facts["said"] = str(failure)[-300:]
    moment.end_ns = now_ns()
    moment.facts["refused"] = "said" in moment.facts
    return moment


def option_change(house, base):
    """Of what replaces nobody: the number of replicas, and how many requests each takes."""
    before = set(house.pids("replica"))
    moment = Moment(now_ns())
    house.deploy(**base | {"num_replicas": 3, "max_ongoing_requests": 40})
    moment.end_ns = now_ns()
    house.await_replicas(3)
    moment.facts["replaced"] = len(before - set(house.pids("replica")))
    return moment


def beside_deleted(house, base):
    house.deploy_beside("beside", "/beside")
    moment = Moment(now_ns())
    house.delete_beside()
    moment.end_ns = now_ns()
    return moment


def kill(pid):
    """SIGKILL; gone_ns is when the process was gone."""
    descriptor = os.pidfd_open(pid)
    try:
        moment = Moment(now_ns())
        os.kill(pid, signal.SIGKILL)
        select.select([descriptor], [], [], 10)
        moment.gone_ns = now_ns()
        return moment
    finally:
        os.close(descriptor)


def kill_one(house, role):
    """Kills the first of them; over when there are as many again."""
    before = house.pids(role)
    moment = kill(before[0])
    wait_until(lambda: len(set(house.pids(role)) - {before[0]}) == len(before), f"another {role}")
    moment.end_ns = now_ns()
    return moment


def controller_killed(house, base):
    return kill_one(house, "controller")


def replica_killed(house, base):
    return kill_one(house, "replica")


def proxy_killed(house, base):
    return kill_one(house, "proxy")


def stop_one(house, seconds):
    victim = house.pids("replica")[0]
    moment = Moment(now_ns())
    os.kill(victim, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(victim, signal.SIGCONT)
    moment.end_ns = now_ns()
    return moment


def replica_stopped(house, base):
    return stop_one(house, HANG_S)


def only_replica_stopped(house, base):
    return stop_one(house, STALL_S)


def node_killed(house, base):
    before = {role: house.pids(role) for role in ("replica", "proxy", "controller")}
    moment = Moment(now_ns())
    house.kill_node()
    time.sleep(0.5)
    house.start_node()
    moment.end_ns = now_ns()
    wait_until(lambda: house.command("status").returncode == 0, "status works again")
    moment.facts["same_processes"] = before == {role: house.pids(role) for role in before}
    return moment


SCENARIOS = [
    Scenario("rolling update", "a new version of two replicas", rolling_update, {"nothing_lost": True, "serves_new": True}),
    Scenario("failed rollout", "a version whose constructor fails", failed_rollout, {"nothing_lost": True, "refused": True}, ray=False),
    Scenario("option change", "three replicas for two, another max_ongoing_requests", option_change,
             {"nothing_lost": True, "replaced": 0}),
    Scenario("deleted beside", "another application is deleted", beside_deleted, {"nothing_lost": True}, ray=False),
    Scenario("controller killed", "SIGKILL", controller_killed, {"nothing_lost": True, "gap_ms": 50}),
    Scenario("replica killed", "SIGKILL of one of two", replica_killed, {"inside": True, "gap_ms": 50}),
    Scenario("replica stopped", f"SIGSTOP of one of two for {HANG_S:g} s", replica_stopped,
             {"nothing_lost": True, "gap_ms": 2500, "trace_ms": 2500}),
    Scenario("only replica stopped", f"SIGSTOP for {STALL_S:g} s", only_replica_stopped,
             {"nothing_lost": True, "trace_ms": 2000}, replicas=1, ray=False),
    Scenario("proxy killed", "SIGKILL", proxy_killed, {"inside": True, "gap_ms": 50}),
    Scenario("node killed", "SIGKILL of a service's node; another comes half a second later", node_killed,
             {"nothing_lost": True, "same_processes": True, "gap_ms": 50}, ray=False),
]


def judge(scenario, figures):
    """What does not hold, in words."""
    wrong = []
    for key, wanted in scenario.hold.items():
        if key == "nothing_lost" and figures["lost"]:
            wrong.append(f"{figures['lost']} lost")
        elif key == "inside" and figures["lost_outside"]:
            wrong.append(f"{figures['lost_outside']} lost outside")
        elif key == "gap_ms" and figures["gap_ms"] > wanted:
            wrong.append(f"gap of {figures['gap_ms']:g} ms")
        elif key == "trace_ms" and figures["last_late_ms"] > wanted:
            wrong.append(f"late still {figures['last_late_ms']} ms after")
        elif key in ("serves_new", "refused", "replaced", "same_processes") and figures[key] != wanted:
            wrong.append(f"{key} is {figures[key]}")
    return wrong
