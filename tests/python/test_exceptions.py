# SPDX-License-Identifier: Apache-2.0
"""Errors on their way from a replica to a caller."""

import pickle
import sys

import pytest
from manta import exceptions
from manta.serve import exceptions as serve_exceptions


class Own(ValueError):
    def __init__(self, code, *, detail):
        super().__init__(f"{code}: {detail}")
        self.code = code

    def __reduce__(self):
        return (make_own, (self.code, "again"))


def make_own(code, detail):
    return Own(code, detail=detail)


def caught(error):
    """A task error as a replica makes it."""
    try:
        raise error
    except BaseException as raised:
        return exceptions.RayTaskError.from_exception(raised, "D.method", "replica r1")


def test_an_error_is_also_of_the_users_type():
    dual = caught(KeyError("k")).as_instanceof_cause()
    assert isinstance(dual, KeyError) and isinstance(dual, exceptions.RayTaskError)
    assert isinstance(dual.cause, KeyError)
    assert type(dual).__name__ == "RayTaskError(KeyError)"
    assert dual.args == (dual.cause,)


def test_its_text_is_the_remote_trace():
    text = str(caught(KeyError("k")).as_instanceof_cause())
    assert "manta::D.method" in text and "repr=replica r1" in text
    assert "in caught" in text and "KeyError: 'k'" in text
    assert "Traceback" not in text


def test_attributes_of_the_cause_are_there():
    dual = caught(Own(7, detail="d")).as_instanceof_cause()
    assert dual.code == 7
    assert isinstance(dual, Own)


def test_it_survives_pickling_twice():
    dual = caught(Own(7, detail="d")).as_instanceof_cause()
    again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(dual))))
    assert isinstance(again, Own) and isinstance(again, exceptions.RayTaskError)
    assert again.code == 7 and str(again) == str(dual)


def test_an_error_that_cannot_be_pickled_is_told_as_text():
    class Local(Exception):
        def __reduce__(self):
            raise TypeError("never")

    error = caught(Local("x"))
    assert isinstance(error.cause, exceptions.RayError)
    assert "isn't serializable: never" in str(error.cause)


def test_an_error_whose_type_cannot_be_extended_stays_a_task_error():
    class Sealed(Exception):
        def __init_subclass__(cls):
            raise TypeError("sealed")

    error = caught(Sealed("x"))
    assert error.as_instanceof_cause() is error


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups came with Python 3.11")
def test_a_group_stays_a_group():
    group = ExceptionGroup("g", [ValueError(1), KeyError(2)])  # noqa: F821
    dual = caught(group).as_instanceof_cause()
    with pytest.raises(ExceptionGroup) as raised:  # noqa: F821
        raise dual
    assert len(raised.value.exceptions) == 2


def test_a_task_error_of_a_task_error_is_not_wrapped_again():
    inner = caught(KeyError("k")).as_instanceof_cause()
    outer = caught(inner).as_instanceof_cause()
    assert isinstance(outer, KeyError)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ActorDiedError(),
        exceptions.ActorDiedError("pid 7 was killed"),
        exceptions.ActorUnavailableError("silent", "r1"),
        exceptions.TaskCancelledError(error_message="gone"),
        exceptions.GetTimeoutError("late"),
        exceptions.RaySystemError("disk", "trace"),
        exceptions.OutOfMemoryError("all of it"),
        exceptions.WorkerCrashedError(),
        exceptions.CrossLanguageError("C", "told"),
        serve_exceptions.BackPressureError(3, 2, 429, 1.5),
        serve_exceptions.RequestCancelledError("r1"),
        serve_exceptions.DeploymentUnavailableError("D"),
        serve_exceptions.ReplicaUnavailableError("r1"),
        serve_exceptions.gRPCStatusError(KeyError("k"), None, "d"),
        serve_exceptions.RayServeException("m"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_back_pressure_tells_its_numbers():
    error = serve_exceptions.BackPressureError(3, 2, 429, 1.5)
    assert (
        error.message
        == str(error)
        == ("Request dropped due to backpressure (num_queued_requests=3, max_queued_requests=2).")
    )
    assert (error.status_code, error.retry_after_s) == (429, 1.5)


def test_cancellation_is_both_kinds():
    error = serve_exceptions.RequestCancelledError("r1")
    assert isinstance(error, exceptions.TaskCancelledError)
    assert str(error) == "Request r1 was cancelled."
    assert str(serve_exceptions.RequestCancelledError()) == "Request was cancelled."


def test_death_in_the_constructor_says_so():
    error = exceptions.ActorDiedError.from_task_error(caught(KeyError("k")))
    assert error.actor_init_failed
    assert "raised in its creation task" in str(error)
    assert isinstance(error, exceptions.RayActorError)


def test_timeouts_are_pythons_too():
    assert issubclass(exceptions.GetTimeoutError, TimeoutError)
