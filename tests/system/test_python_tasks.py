# SPDX-License-Identifier: Apache-2.0
"""What a coroutine may rely on in a replica: its task, its variables, time limits, cancellation.

Each test is a driver with the prelude of test_python.py.  A request's first step is taken inside the
turn that brought it; nothing of that may be seen from within.
"""

from test_python import drive  # noqa: F401  (a fixture)

TASKS = """
from python_tasks import Tasks
tasks = serve.run(Tasks.bind(), route_prefix=None)
"""


def test_a_handler_has_one_task_of_its_own_from_its_first_step_on(drive):  # noqa: F811
    drive(TASKS + """
for waits in (0, 1, 5):
    assert tasks.same_task.remote(waits).result() == (True, True, "Task", 0), waits
for i in range(1, 20):
    assert tasks.different_tasks.remote().result() == (i, 1)
""")


def test_variables_last_for_one_request_and_reach_its_children(drive):  # noqa: F811
    drive(TASKS + """
for waits in (0, 3):
    calls = [tasks.variable.remote(f"n{i}", waits) for i in range(20)]
    for i, call in enumerate(calls):
        name = f"n{i}"
        assert call.result() == ("nobody", name, name, name, "nobody")
for waits in (0, 1):
    tasks.leave_variable.remote(waits).result()
    assert tasks.read_variable.remote().result() == "nobody"
""")


def test_wait_for_keeps_its_limit(drive):  # noqa: F811
    drive(TASKS + """
assert tasks.wait_for.remote().result() == ("in time", "too late")
""")


def test_timeouts_and_groups_work_before_and_after_the_first_await(drive):  # noqa: F811
    drive(TASKS + """
if sys.version_info >= (3, 11):
    for seconds in (0, -1, 0.01):
        assert tasks.timeout.remote(seconds).result() == ("timed out", 0), seconds
    assert tasks.timeout_in_time.remote().result() is False
    assert tasks.group.remote().result() == [0, 1, 2]
    assert tasks.failing_group.remote().result() == ("in the group", [1], 0)
    assert tasks.cancel_me.remote(False).result() == ("from within",)
    assert tasks.cancel_me.remote(True).result() == ("from within",)
""")


def test_anyio_works_from_the_first_step_on(drive):  # noqa: F811
    drive(TASKS + """
for _ in range(3):
    assert tasks.anyio.remote().result() == (True, [0, 1, 2], True, True, True)
""")


def test_a_cancelled_handler_may_still_await_and_then_ends(drive):  # noqa: F811
    drive(TASKS + """
from manta.serve.exceptions import RequestCancelledError
for delay in (0.0, 0.2):
    call = tasks.shielded.remote()
    time.sleep(delay)
    call.cancel()
    try:
        call.result()
    except RequestCancelledError:
        pass
    else:
        raise AssertionError("not cancelled")
until(lambda: tasks.what_was_caught.remote().result() == ("cancelled", False), "the handler's last words")
assert tasks.quick.remote().result() == "quick"
""")


STANDBY = """
serve.run(apps.constant.bind(), name="witness", route_prefix="/witness")  # Alone, it would not be judged.
tasks = tasks.options(method_name="blocks")
def silent():
    status = instance.must_join().status()["applications"]["default"]["deployments"]["Tasks"]
    return any(replica["silent"] for replica in status["replicas"])
for first in (0.0, 0.05):
    call = tasks.remote(first, 4.0)
    heard = []
    while not call._reply.done:
        heard.append(silent())
        time.sleep(0.1)
    assert call.result() == "blocked"
    assert heard and not any(heard), heard
"""


def test_a_replica_answers_pings_while_a_handler_blocks_its_loop_after_an_await(drive):  # noqa: F811
    """Twice as long as a replica may be silent, before the first await and after it."""
    drive(TASKS + STANDBY)
