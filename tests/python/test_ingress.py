# SPDX-License-Identifier: Apache-2.0
"""``@serve.ingress``: FastAPI classes, ASGI objects, builders, lifespan.  No server: ASGI calls."""

import asyncio
import json

import pytest
from manta import serve
from manta._private import local_apps
from manta._private.asgi import ASGIAppReplicaWrapper

fastapi = pytest.importorskip("fastapi")


def call(app_name, path, method="GET", headers=()):
    """One HTTP request to an application's ingress object: status, headers, body."""
    ingress = local_apps.find(app_name)
    name = ingress.built.ingress_deployment_name
    replica = ingress.transport._replicas[name]
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in headers],
        "server": ("s", 1),
        "client": ("c", 1),
    }

    async def request():
        await replica._in_replica(replica._code.callable(scope, receive, send))

    replica._wait(request(), 20)
    start = sent[0]
    body = b"".join(m.get("body", b"") for m in sent[1:])
    return start["status"], dict(start["headers"]), body


def get_json(app_name, path):
    status, _, body = call(app_name, path)
    assert status == 200, (status, body)
    return json.loads(body)


def run(app, name):
    return serve.run(app, name=name, _local_testing_mode=True)


def test_routes_in_the_class_get_self():
    app = fastapi.FastAPI()

    @serve.deployment
    @serve.ingress(app)
    class Shop:
        def __init__(self, name):
            self.name = name

        @app.get("/sync/{item}")
        def sync_view(self, item: str, count: int = 1):
            return [self.name, item, count]

        @app.get("/async")
        async def async_view(self, request: fastapi.Request):
            return [self.name, request.url.path]

        def plain(self):
            return "called through a handle"

    handle = run(Shop.bind("s"), "shop")
    assert get_json("shop", "/sync/x?count=3") == ["s", "x", 3]
    assert get_json("shop", "/async") == ["s", "/async"]
    assert call("shop", "/sync/x?count=many")[0] == 422
    assert call("shop", "/none")[0] == 404
    assert handle.plain.remote().result() == "called through a handle"


def test_inherited_routes_work():
    app = fastapi.FastAPI()

    class Base:
        @app.get("/base")
        def base(self):
            return type(self).__name__

    @serve.deployment
    @serve.ingress(app)
    class Derived(Base):
        @app.get("/own")
        def own(self):
            return "own"

    run(Derived.bind(), "inherited")
    assert get_json("inherited", "/base") == "Derived"
    assert get_json("inherited", "/own") == "own"


def test_routers_with_a_prefix_work():
    app, router = fastapi.FastAPI(), fastapi.APIRouter()

    def define():
        class Routed:
            @router.get("/in")
            def inner(self):
                return "inner"

        app.include_router(router, prefix="/v1")
        return Routed

    run(serve.deployment(serve.ingress(app)(define())).bind(), "prefixed")
    assert get_json("prefixed", "/v1/in") == "inner"


def test_two_classes_with_one_app_keep_their_own_routes():
    app = fastapi.FastAPI()

    @serve.deployment
    @serve.ingress(app)
    class First:
        @app.get("/first")
        def first(self):
            return 1

    @serve.deployment
    @serve.ingress(app)
    class Second:
        @app.get("/second")
        def second(self):
            return 2

    run(First.bind(), "one")
    run(Second.bind(), "two")
    assert get_json("one", "/first") == 1 and call("one", "/second")[0] == 404
    assert get_json("two", "/second") == 2 and call("two", "/first")[0] == 404


def test_routes_added_later_do_not_appear():
    app = fastapi.FastAPI()

    @app.get("/before")
    def before():
        return "before"

    made = serve.deployment(serve.ingress(app)())

    @app.get("/after")
    def after():
        return "after"

    run(made.bind(), "frozen")
    assert get_json("frozen", "/before") == "before"
    assert call("frozen", "/after")[0] == 404
    assert set(get_json("frozen", "/openapi.json")["paths"]) == {"/before"}


def test_a_method_without_self_is_refused():
    app = fastapi.FastAPI()

    class Wrong:
        @app.get("/x")
        def x():
            return 1

    with pytest.raises(serve.api.RayServeException, match="``self`` as their first argument"):
        serve.ingress(app)(Wrong)


def test_the_docs_path_is_known():
    @serve.deployment
    @serve.ingress(fastapi.FastAPI(docs_url="/help"))
    class Documented:
        pass

    run(Documented.bind(), "docs")
    replica = local_apps.find("docs").transport._replicas["Documented"]
    assert replica._code.callable.docs_path == "/help"


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


class Asgi:
    """An ASGI object that writes down its life."""

    def __init__(self, fail=None):
        self.fail = fail
        self.seen = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "lifespan":
            self.seen.append(scope.get("state"))
            return await hello(scope, receive, send)
        scope["state"]["key"] = "value"
        while True:
            message = await receive()
            self.seen.append(message["type"])
            if self.fail == "raise":
                raise OSError("no disk")
            if self.fail == "say":
                return await send({"type": "lifespan.startup.failed", "message": "no"})
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return None


def test_lifespan_and_its_state():
    app = Asgi()
    run(serve.deployment(serve.ingress(lambda: app)()).bind(), "life")
    inner = local_apps.find("life").transport._replicas["ASGIIngressDeployment"]
    inner = inner._code.callable.app
    assert call("life", "/")[2] == b"hello"
    assert inner.seen == ["lifespan.startup", {"key": "value"}]
    serve.delete("life")
    assert inner.seen[-1] == "lifespan.shutdown"


@pytest.mark.parametrize("way", ["raise", "say"])
def test_failed_lifespan_fails_the_deployment(way):
    with pytest.raises(RuntimeError, match="ASGI lifespan startup failed"):
        run(serve.deployment(serve.ingress(Asgi(way))()).bind(), "failed")
    assert local_apps.find("failed") is None


def test_an_application_that_returns_from_the_scope_is_fine():
    class Short:
        async def __call__(self, scope, receive, send):
            if scope["type"] == "http":
                await hello(scope, receive, send)

    run(serve.deployment(serve.ingress(Short())()).bind(), "short")
    assert call("short", "/")[2] == b"hello"


def test_a_builder_runs_in_the_replica():
    def build():
        app = fastapi.FastAPI()

        @app.get("/built")
        def built():
            return serve.get_replica_context().deployment

        return app

    run(serve.deployment(serve.ingress(build)()).bind(), "built")
    assert get_json("built", "/built") == "ASGIIngressDeployment"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_late_bound_application(kind):
    app = fastapi.FastAPI()

    @app.get("/late")
    def late():
        return "late"

    class Sync:
        def __serve_build_asgi_app__(self):
            return app

    class Async:
        async def __serve_build_asgi_app__(self):
            return app

    made = serve.deployment(serve.ingress()(Sync if kind == "sync" else Async))
    run(made.bind(), "late")
    assert get_json("late", "/late") == "late"


def test_late_bound_without_the_hook_is_refused():
    with pytest.raises(ValueError, match="to define `__serve_build_asgi_app__`"):
        serve.ingress()(type("Bare", (), {}))


def test_only_classes_without_call():
    with pytest.raises(ValueError, match="must be used with a class"):
        serve.ingress(hello)(lambda: 1)
    with pytest.raises(ValueError, match="may not have __call__ method"):
        serve.ingress(hello)(type("C", (), {"__call__": lambda self: 1}))


def test_a_subclass_needs_an_async_constructor():
    wrapped = serve.ingress(fastapi.FastAPI())(type("Base", (), {}))
    with pytest.raises(TypeError, match="must be `async def` when subclassing"):
        type("Sub", (wrapped,), {"__init__": lambda self: None})

    class Fine(wrapped):
        async def __init__(self):
            await super().__init__()

    assert issubclass(Fine, ASGIAppReplicaWrapper)


def test_the_class_keeps_its_name_and_text():
    @serve.ingress(fastapi.FastAPI())
    class Named:
        """Said."""

    assert (Named.__name__, Named.__doc__, Named.__module__) == ("Named", "Said.", __name__)


def test_destructors_run_after_the_lifespan():
    ends = []

    class Ends(Asgi):
        async def __call__(self, scope, receive, send):
            await super().__call__(scope, receive, send)
            if scope["type"] == "lifespan":
                ends.append("lifespan")

    app = Ends()

    class Host:
        async def __del__(self):
            ends.append("class")

    wrapped = serve.ingress()(type("H", (Host,), {"__serve_build_asgi_app__": lambda self: app}))
    transport_of = run(serve.deployment(wrapped).bind(), "ends")
    del transport_of
    serve.delete("ends")
    asyncio.run(asyncio.sleep(0))
    assert ends == ["lifespan", "class"]


def test_two_ways_in_are_refused():
    class Outer:
        def __init__(self, inner=None):
            self.inner = inner

    made = serve.deployment(serve.ingress(fastapi.FastAPI())(Outer))
    with pytest.raises(serve.api.RayServeException, match="Found multiple FastAPI deployments"):
        run(made.bind(made.options(name="B").bind()), "double")
    assert local_apps.find("double") is None


def test_serve_errors_of_others_are_answered():
    from manta.serve.exceptions import BackPressureError, DeploymentUnavailableError

    app = fastapi.FastAPI()

    @app.get("/full")
    def full():
        raise BackPressureError(3, 2, 429, 1.2)

    @app.get("/gone")
    def gone():
        raise DeploymentUnavailableError("D")

    run(serve.deployment(serve.ingress(app)()).bind(), "errors")
    status, headers, body = call("errors", "/full")
    assert (status, headers[b"retry-after"]) == (429, b"2")
    assert body.startswith(b"Request dropped due to backpressure")
    assert call("errors", "/gone")[0] == 503


def test_a_class_with_routes_travels_though_fastapi_holds_locks():
    from manta._private import pickling

    fastapi = pytest.importorskip("fastapi")
    api, more = fastapi.FastAPI(), fastapi.APIRouter()

    @more.get("/more")
    def shared():
        return "shared"

    api.include_router(more, prefix="/v1")

    @serve.deployment
    @serve.ingress(api)
    class Front:
        @api.get("/own")
        def own(self):
            return "own"

    made = pickling.loads(pickling.dumps(Front.func_or_class))
    paths = {route.path for route, _, _ in views_routes(made)}
    assert {"/own", "/more"} <= paths


def views_routes(kind):
    """The routes of a class that came out of a pickle."""
    from manta._private import views

    (app,) = (
        cell.cell_contents
        for cell in kind.__init__.__closure__
        if hasattr(cell.cell_contents, "router")
    )
    return list(views._routes(app.router))
