# SPDX-License-Identifier: Apache-2.0
"""The smaller parts: errors, identities, what a replica knows, metrics, builders, ingress."""

import asyncio
import pickle

import pydantic
import pytest
from subject import context, errors, exceptions, fails_to_run, handle, load, run, serve

names = load("serve.context")
metrics = load("serve.metrics")
grpc_util = load("serve.grpc_util")


def test_back_pressure_error():
    error = exceptions.BackPressureError(3, 2)
    text = "Request dropped due to backpressure (num_queued_requests=3, max_queued_requests=2)."
    assert str(error) == error.message == text
    assert (error.status_code, error.retry_after_s) == (503, None)
    again = pickle.loads(pickle.dumps(exceptions.BackPressureError(3, 2, 429, 1.5)))
    assert (again.message, again.status_code, again.retry_after_s) == (text, 429, 1.5)


def test_request_cancelled_error():
    error = exceptions.RequestCancelledError("r")
    assert isinstance(error, exceptions.RayServeException)
    assert isinstance(error, errors.TaskCancelledError)
    assert str(error) == "Request r was cancelled."
    assert str(exceptions.RequestCancelledError()) == "Request was cancelled."


def test_unavailable_errors():
    told = exceptions.DeploymentUnavailableError("D").message
    assert told == "D is unavailable because it failed to deploy."
    assert exceptions.ReplicaUnavailableError("r").message == "Replica r is no longer available."


def test_grpc_status_error():
    cause = KeyError("k")
    error = exceptions.gRPCStatusError(cause, None, "details")
    assert error.original_exception is cause
    assert (error.grpc_code, error.grpc_details, str(error)) == (None, "details", "'k'")


@pytest.mark.parametrize(
    "name",
    ["ActorDiedError", "ActorUnavailableError", "RayActorError", "RayTaskError", "GetTimeoutError"],
)
def test_run_time_errors_are_ray_errors(name):
    assert issubclass(getattr(errors, name), errors.RayError)


def test_a_timeout_is_pythons_too():
    assert issubclass(errors.GetTimeoutError, TimeoutError)
    assert issubclass(errors.ActorDiedError, errors.RayActorError)


def test_outside_a_replica_there_is_no_replica():
    with pytest.raises(exceptions.RayServeException, match="may only be called from within a"):
        serve.get_replica_context()
    with pytest.raises(exceptions.RayServeException, match="may only be called from within a"):
        serve.get_deployment_actor_context()
    with pytest.raises(exceptions.RayServeException, match="may only be called from within a"):
        serve.get_deployment_actor("a")


def test_in_a_replica_there_is_one(replica):
    told = serve.get_replica_context()
    assert (told.app_name, told.deployment, told.replica_tag) == ("app", "D", "r1")
    assert (told.rank.rank, told.world_size) == (0, 1)
    assert (told.gang_context, told.code_version) == (None, None)
    assert str(told.replica_id) == "Replica(id='r1', deployment='D', app='app')"
    assert told.replica_id.to_full_id_str() == "SERVE_REPLICA::app#D#r1"
    kind = type(told.replica_id)
    assert kind.is_full_id_str("SERVE_REPLICA::app#D#r1")
    assert kind.from_full_id_str("SERVE_REPLICA::app#D#r1") == told.replica_id
    with pytest.raises(ValueError, match="either two or three fields"):
        kind.from_full_id_str("SERVE_REPLICA::r1")


def test_there_is_no_request_outside_of_requests():
    told = context._get_serve_request_context()
    assert (told.route, told.request_id, told.app_name) == ("", "", "")


def test_there_is_no_trace():
    assert serve.get_trace_context() is None


@pytest.mark.parametrize("kind", ["Counter", "Gauge"])
def test_metrics_outside_a_replica(kind):
    metric = getattr(metrics, kind)("my_" + kind.lower(), "said", ("a",))
    assert metric.info["name"] == "my_" + kind.lower()
    assert metric.info["tag_keys"] == ("a",)
    with pytest.raises(ValueError, match="Unrecognized tag key b"):
        metric.set_default_tags({"b": "1"})
    with pytest.raises(TypeError, match="Tag values must be str"):
        metric.set_default_tags({"a": 1})
    metric.set_default_tags({"a": "1"})
    assert metric.info["default_tags"] == {"a": "1"}


@pytest.mark.parametrize("kind", ["Counter", "Gauge", "Histogram"])
def test_tag_keys_are_a_tuple(kind):
    with pytest.raises(TypeError, match="tag_keys should be a tuple"):
        getattr(metrics, kind)("m", tag_keys=["a"])


def test_counters_only_grow():
    counter = metrics.Counter("grows")
    with pytest.raises(ValueError, match="value must be >0"):
        counter.inc(0, tags={})
    with pytest.raises(TypeError, match="value must be int or float"):
        counter.inc("1", tags={})


def test_missing_tags_are_refused():
    with pytest.raises(ValueError, match=r"Missing value for tag key\(s\): a"):
        metrics.Counter("tagged", tag_keys=("a",)).inc(1, tags={})


@pytest.mark.parametrize("boundaries", [None, []])
def test_histograms_want_boundaries(boundaries):
    with pytest.raises(ValueError, match="boundaries argument should be provided"):
        metrics.Histogram("h", boundaries=boundaries)


def test_boundaries_are_positive():
    with pytest.raises(ValueError, match="Use positive values"):
        metrics.Histogram("h", boundaries=[0.0, 1.0])


@pytest.mark.parametrize("tag", ["deployment", "replica", "application"])
def test_the_replicas_tags_are_reserved(replica, tag):
    with pytest.raises(ValueError, match=f"'{tag}' tag is reserved"):
        metrics.Counter("c", tag_keys=(tag,))


def test_metrics_in_a_replica_carry_its_tags(replica):
    counter = metrics.Counter("c_in_replica", tag_keys=("a",))
    assert counter.info["tag_keys"] == ("deployment", "replica", "application", "a")
    assert counter.info["default_tags"] == {
        "deployment": "D",
        "replica": "r1",
        "application": "app",
    }


class FakeCall:
    """The methods of a gRPC servicer's context that are read, and what is written."""

    def __init__(self):
        self.written = {}

    def auth_context(self):
        return {}

    def code(self):
        return None

    def details(self):
        return "d"

    def invocation_metadata(self):
        return [("request_id", "r"), ("application", "a"), ("x", "1")]

    def peer(self):
        return "p"

    def peer_identities(self):
        return b"i"

    def peer_identity_key(self):
        return "k"

    def trailing_metadata(self):
        return [("request_id", "r"), ("old", "1")]

    def __getattr__(self, name):
        if not name.startswith("set_"):
            raise AttributeError(name)
        return lambda value: self.written.__setitem__(name[4:], value)


def test_grpc_calls_are_read_and_written():
    call = FakeCall()
    told = grpc_util.RayServegRPCContext(call)
    assert (told.peer(), told.details(), told.peer_identity_key()) == ("p", "d", "k")
    assert (told.request_id(), told.application()) == ("r", "a")
    assert told.multiplexed_model_id() is None
    told.set_details("new")
    told.set_trailing_metadata([("mine", "2")])
    assert told.trailing_metadata() == [("request_id", "r"), ("mine", "2")]
    again = pickle.loads(pickle.dumps(told))
    again._set_on_grpc_context(call)
    assert call.written["details"] == "new"
    assert call.written["trailing_metadata"] == [("request_id", "r"), ("mine", "2")]


def test_grpc_input_streams():
    async def items():
        for i in range(3):
            yield i

    async def main():
        stream = grpc_util.gRPCInputStream(items())
        assert [item async for item in stream] == [0, 1, 2]
        assert stream.is_exhausted and not stream.is_cancelled()
        other = grpc_util.gRPCInputStream(items())
        assert await other.__anext__() == 0
        other.cancel()
        assert [item async for item in other] == []
        assert other.is_cancelled()

    asyncio.run(main())


# Builders.

if load("serve").__name__.startswith("ray"):
    make = load("serve._private.api").call_user_app_builder_with_args_if_necessary
else:
    make = load("_private.app_builder").make


class Model:
    pass


class Typed(pydantic.BaseModel):
    size: int = 3


def test_a_bound_application_is_itself():
    app = serve.deployment(Model).bind()
    assert make(app, {}) is app
    with pytest.raises(ValueError, match="not an already built application"):
        make(app, {"a": 1})


def test_a_function_gets_the_arguments():
    def build(args):
        return serve.deployment(Model).options(name=args["name"]).bind()

    assert make(build, {"name": "n"})._bound_deployment.name == "n"


def test_a_typed_function_gets_the_model():
    def build(args: Typed):
        return serve.deployment(Model).options(num_replicas=args.size).bind()

    assert make(build, {"size": "5"})._bound_deployment.num_replicas == 5
    assert make(build, {})._bound_deployment.num_replicas == 3
    with pytest.raises(pydantic.ValidationError):
        make(build, {"size": "x"})


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (3, "Expected a built Serve application or an application builder function"),
        (Model, "Expected a built Serve application or an application builder function"),
        (lambda: None, "should take exactly one parameter"),
        (lambda a, b: None, "should take exactly one parameter"),
        (lambda a: None, "must return an `Application`"),
    ],
)
def test_builders_that_are_refused(builder, message):
    with pytest.raises(TypeError, match=message):
        make(builder, {})


# Ingress, as far as it needs no server.


class Asgi:
    async def __call__(self, scope, receive, send):
        pass


def test_ingress_wants_a_class_without_call():
    with pytest.raises(ValueError, match="must be used with a class"):
        serve.ingress(Asgi())(lambda: 1)
    with pytest.raises(ValueError, match="may not have __call__ method"):
        serve.ingress(Asgi())(Asgi)


def test_ingress_without_an_application_wants_the_hook():
    with pytest.raises(ValueError, match="to define `__serve_build_asgi_app__`"):
        serve.ingress()(Model)


def test_ingress_keeps_name_and_methods():
    class Host:
        """Said."""

        def ask(self):
            return "answer"

    wrapped = serve.ingress(Asgi())(Host)
    assert (wrapped.__name__, wrapped.__doc__) == ("Host", "Said.")
    assert run(serve.deployment(wrapped).bind()).ask.remote().result() == "answer"


def test_ingress_without_a_class():
    made = serve.deployment(serve.ingress(Asgi())())
    assert made.name == "ASGIIngressDeployment"
    assert isinstance(run(made.bind(1, a=2)), handle.DeploymentHandle)


def test_ingress_with_an_async_constructor():
    class Host:
        async def __init__(self, value):
            self.value = value

        def ask(self):
            return self.value

    wrapped = serve.ingress(Asgi())(Host)
    assert run(serve.deployment(wrapped).bind(4)).ask.remote().result() == 4


def test_subclasses_of_ingress_classes_need_an_async_constructor():
    class Host:
        pass

    wrapped = serve.ingress(Asgi())(Host)
    with pytest.raises(TypeError, match="must be `async def`"):
        type("Sub", (wrapped,), {"__init__": lambda self: None})


@pytest.mark.parametrize("way", ["raise", "say"])
def test_failed_lifespan_comes_out_of_run(way):
    class Failing:
        async def __call__(self, scope, receive, send):
            assert scope["type"] == "lifespan"
            await receive()
            if way == "raise":
                raise OSError("no disk")
            await send({"type": "lifespan.startup.failed", "message": "no"})

    made = serve.deployment(serve.ingress(Failing())(type("Host", (), {})))
    with fails_to_run(RuntimeError, "ASGI lifespan startup failed"):
        run(made.bind())


def test_the_late_application_must_be_one():
    class Host:
        def __serve_build_asgi_app__(self):
            return None

    with fails_to_run(TypeError, "must return an ASGI app"):
        run(serve.deployment(serve.ingress()(Host)).bind())
