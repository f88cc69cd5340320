# SPDX-License-Identifier: Apache-2.0
"""What the public functions ask of a run time, with one that writes it down."""

import asyncio
import threading

import pytest
from manta import serve
from manta._private import graph, instance, native
from manta._private.instance import Instance
from manta._private.names import DeploymentID
from manta._private.reply import Reply
from manta._private.transport import Transport
from manta.exceptions import RayTaskError
from manta.serve.exceptions import RayServeException, RequestCancelledError
from manta.serve.handle import DeploymentHandle

pytest.importorskip("pydantic")


class Wire(Transport):
    """Answers from a thread of its own, as a native run time would."""

    def __init__(self):
        self.requests = []

    def submit(self, request, reply):
        self.requests.append(request)
        threading.Thread(target=self._answer, args=(request, reply)).start()

    def _answer(self, request, reply):
        if request.method == "never":
            reply.on_cancel(lambda: reply.set_error(asyncio.CancelledError()))
        elif request.method == "fail":
            error = RayTaskError(
                "D.fail", "Traceback (most recent call last):\n  there", KeyError(1)
            )
            reply.set_error(error.as_instanceof_cause())
        elif request.stream:
            for item in request.args:
                reply.push(item)
            reply.set_result()
        else:
            reply.set_result([request.args, request.kwargs])

    def broadcast(self, request):
        replies = [Reply(), Reply()]
        for reply in replies:
            self.submit(request, reply)
        return replies

    def has_replicas(self, deployment):
        return True


class Written(Instance):
    """An instance that does nothing and remembers everything."""

    def __init__(self):
        self.transport = Wire()
        self.log = []
        self.apps = {}

    def deploy(self, apps, *, wait_ingress, wait_running):
        self.log.append(("deploy", [app.name for app in apps], wait_ingress, wait_running))
        self.apps |= {app.name: app for app in apps}

    def deploy_config(self, config, *, wait):
        self.log.append(("deploy_config", [app.name for app in config.applications], wait))

    def delete(self, names, *, wait):
        self.log.append(("delete", list(names), wait))

    def shutdown(self):
        self.log.append(("shutdown",))

    def details(self):
        return {"proxies": {"n": {"status": "HEALTHY"}}, "applications": {}}

    def ingress_deployment(self, app_name):
        app = self.apps.get(app_name)
        return app.ingress_deployment_name if app else None

    def has_deployment(self, deployment):
        return deployment.name == "D"

    def deployment_actor(self, deployment, name, version):
        return (deployment, name, version)

    def record_models(self, replica, model_ids):
        self.log.append(("models", model_ids))

    def record_metric(self, kind, name, description, value, tags, boundaries=None):
        self.log.append(("metric", kind, name, value, tags))


@pytest.fixture
def running(monkeypatch):
    """An instance runs."""
    made = Written()
    options = []

    def connect(start, given=None):
        options.append((start, given))
        return made

    monkeypatch.setattr(native, "connect", connect)
    made.options = options
    yield made
    instance.leave()


@serve.deployment(name="D")
class Model:
    def __call__(self):
        return 1


def test_a_configuration_is_checked_and_handed_on_whole(running):
    serve.api.deploy_apps({"applications": [{"name": "a", "import_path": "m:a"}]}, _blocking=False)
    assert running.log == [("deploy_config", ["a"], False)]
    with pytest.raises(ValueError, match="import_path"):
        serve.api.deploy_apps({"applications": [{"name": "a"}]})


def test_run_deploys_and_gives_a_handle(running):
    handle = serve.run(Model.bind(), name="a", route_prefix="/a")
    assert running.log == [("deploy", ["a"], True, True)]
    assert running.apps["a"].route_prefix == "/a"
    assert handle.remote(1, x=2).result() == [(1,), {"x": 2}]
    assert running.options == [(True, None)]


def test_run_may_return_before_it_runs(running):
    serve._run(Model.bind(), _blocking=False)
    assert running.log == [("deploy", ["default"], True, False)]


def test_run_many_deploys_together(running):
    targets = [serve.RunTarget(Model.bind(), name=name) for name in "ab"]
    assert len(serve.run_many(targets, wait_for_applications_running=False)) == 2
    assert running.log == [("deploy", ["a", "b"], True, False)]


def test_run_may_say_where_the_controller_runs(running):
    env = {"runtime_env": {"env_vars": {"A": "b"}}}
    serve.run(Model.bind(), controller_options=env)
    assert running.options[0][1]["controller_options"] == env
    with pytest.raises(ValueError, match="only supports"):
        serve.run(Model.bind(), controller_options={"runtime_env": {"pip": []}})


def test_an_applications_logging_goes_to_deployments_without(running):
    own = Model.options(name="own", logging_config={"log_level": "ERROR"})
    serve.run(own.bind(), name="a", logging_config={"log_level": "DEBUG"})
    serve.run(Model.bind(), name="b", logging_config={"log_level": "DEBUG"})
    levels = [running.apps[n].deployments[0].logging_config["log_level"] for n in "ab"]
    assert levels == ["ERROR", "DEBUG"]
    assert Model.logging_config is None


def test_external_scaler_and_autoscaling_exclude_each_other(running):
    scaled = Model.options(num_replicas="auto")
    with pytest.raises(RayServeException, match='autoscaling configured: "D"'):
        serve.run(scaled.bind(), external_scaler_enabled=True)


def test_a_request_carries_what_belongs_to_it(running):
    handle = DeploymentHandle("D", "a").options(
        method_name="m", multiplexed_model_id="x", session_id="s", _by_reference=False
    )
    from manta.serve import context

    def call():
        context._serve_request_context.set(
            context._RequestContext(route="/r", request_id="rid", _internal_request_id="parent")
        )
        return handle.remote(1)

    import contextvars

    response = contextvars.copy_context().run(call)
    response.result()
    request = running.transport.requests[0]
    assert request.deployment == DeploymentID("D", "a")
    assert (request.method, request.model_id, request.session_id) == ("m", "x", "s")
    assert (request.request_id, request.parent_id, request.route) == ("rid", "parent", "/r")
    assert (request.by_reference, request.stream) == (False, False)
    assert request.internal_id not in ("", "parent")
    assert response.request_id == "rid"


def test_answers_of_calls_are_waited_for_before_sending(running):
    handle = DeploymentHandle("D", "a")
    first = handle.remote(1)
    assert handle.remote(first).result() == [([(1,), {}],), {}]
    assert len(running.transport.requests) == 2


def test_streams(running):
    handle = DeploymentHandle("D", "a").options(stream=True)
    assert list(handle.remote(1, 2, 3)) == [1, 2, 3]


def test_errors_are_of_both_types(running):
    with pytest.raises(KeyError) as raised:
        DeploymentHandle("D", "a").fail.remote().result()
    assert isinstance(raised.value, RayTaskError)
    assert "there" in str(raised.value)


def test_cancellation(running):
    response = DeploymentHandle("D", "a").never.remote()
    response.cancel()
    with pytest.raises(RequestCancelledError):
        response.result(timeout_s=5)


def test_a_cancellation_from_elsewhere_is_asyncios(running):
    handle = DeploymentHandle("D", "a")

    async def main():
        response = handle.never.remote()
        response._reply.set_error(asyncio.CancelledError())
        await response

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())


def test_broadcast_asks_all(running):
    assert len(DeploymentHandle("D", "a").broadcast("m", 1).results()) == 2


def test_choosing_is_refused_where_it_is_not_known(running):
    async def main():
        async with DeploymentHandle("D", "a").choose_replica():
            pass

    with pytest.raises(NotImplementedError):
        asyncio.run(main())


def test_names_lead_to_handles(running):
    serve.run(Model.bind(), name="a")
    assert serve.get_app_handle("a").deployment_name == "D"
    with pytest.raises(RayServeException, match="Application 'b' does not exist"):
        serve.get_app_handle("b")
    assert serve.get_deployment_handle("D", "a").deployment_name == "D"
    with pytest.raises(KeyError, match="does not exist"):
        serve.get_deployment_handle("E", "a")
    assert serve.get_deployment_handle("E", "a", _check_exists=False).deployment_name == "E"


def test_status_delete_and_shutdown(running):
    serve.start()
    assert serve.status().proxies == {"n": "HEALTHY"}
    serve.delete("a", _blocking=False)
    serve.shutdown()
    assert running.log == [("delete", ["a"], False), ("shutdown",)]


def test_shutdown_without_blocking_the_loop(running):
    asyncio.run(serve.shutdown_async())
    assert running.log == [("shutdown",)]


def test_metrics_go_to_the_instance(running):
    from manta.serve.metrics import Counter

    serve.start()
    Counter("c", tag_keys=("a",)).inc(2, {"a": "x"})
    assert running.log == [("metric", "counter", "c", 2, {"a": "x"})]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, {"proxy_location": "EveryNode"}),
        ({"proxy_location": "HeadOnly"}, {"proxy_location": "HeadOnly"}),
        ({"proxy_location": "NoServer"}, {"proxy_location": "Disabled"}),
        ({"http_options": {"host": None}}, {"proxy_location": "Disabled"}),
        ({"http_options": {"port": 1}}, {"proxy_location": "EveryNode"}),
    ],
)
def test_start_options(running, given, told):
    serve.start(**given)
    (start, options), *_ = running.options
    assert start is True
    assert {key: options[key] for key in told} == told


def test_start_passes_only_what_is_given(running):
    serve.start(http_options={"port": 1}, logging_config={"log_level": "DEBUG"})
    options = running.options[0][1]
    assert sorted(options) == ["http_options", "logging_config", "proxy_location"]
    assert options["http_options"]["port"] == 1


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"proxy_location": "Some"}, ValueError, "is not a valid ProxyLocation"),
        ({"proxy_location": 3}, TypeError, "Must be a `ProxyLocation` or str"),
        ({"http_options": {"port": "x"}}, ValueError, "valid integer"),
        ({"controller_options": {"x": 1}}, ValueError, "Extra inputs are not permitted"),
    ],
)
def test_start_refuses(running, given, error, message):
    with pytest.raises(error, match=message):
        serve.start(**given)


def test_the_drivers_environment_is_given_to_deployments():
    app = Model.bind()
    env = {"working_dir": "/x", "env_vars": {"A": "b"}}
    (plain,) = graph.build_app(app, name="a", default_runtime_env=env).deployments
    assert plain.ray_actor_options["runtime_env"] == env
    own = Model.options(ray_actor_options={"runtime_env": {"env_vars": {"C": "d"}}})
    (made,) = graph.build_app(own.bind(), name="a", default_runtime_env=env).deployments
    assert made.ray_actor_options["runtime_env"] == {"env_vars": {"C": "d"}, "working_dir": "/x"}
    assert own.ray_actor_options["runtime_env"] == {"env_vars": {"C": "d"}}


@pytest.mark.parametrize("part", ["pip", "conda", "container", "image_uri", "uv"])
def test_environments_that_need_an_installation_are_refused(part):
    with pytest.raises(ValueError, match=f"runtime_env.'{part}'. is not supported"):
        Model.options(ray_actor_options={"runtime_env": {part: ["x"]}})


@pytest.mark.parametrize(
    "env",
    [
        {"env_vars": {"A": "b"}},
        {"working_dir": "/x"},
        {"py_modules": ["/x"]},
        {"env_vars": {}, "excludes": ["*.bin"]},
    ],
)
def test_environments_that_are_taken(env):
    made = Model.options(ray_actor_options={"runtime_env": env})
    assert made.ray_actor_options["runtime_env"] == env
