# SPDX-License-Identifier: Apache-2.0
"""The instance behind ``manta.serve``, over the extension ``manta._native``.

A driver starts a private instance or joins one; its calls are finished by one thread that waits in
the extension.  A replica is a part of an instance already: its calls go through its own taker, and
it joins as a driver does only when it asks for what the controller knows.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Optional

from manta._private import (
    environment,
    instance,
    native_code,
    native_errors,
    native_limits,
    replica_log,
    surroundings,
    version,
)
from manta._private.constants import (
    DEFAULT_HTTP_HOST,
    DEFAULT_HTTP_PORT,
    ROOT_PATH_VARIABLE,
    logger,
)
from manta._private.names import DeploymentID, ReplicaID
from manta._private.native_transport import NativeTransport
from manta.serve.deployment import Deployment
from manta.serve.exceptions import RayServeException

if TYPE_CHECKING:
    from manta._private.graph import BuiltApplication

native = native_errors.native
_ENDED = "The instance has ended."

# In a replica: its taker, set by manta._private.replica_main before user code is loaded.
_taker: Optional[Any] = None
_own_instance: Optional[str] = None  # the name of the one that this process is a replica of


def _make_handle(app: str, deployment: str) -> Any:
    from manta.serve.handle import DeploymentHandle

    return DeploymentHandle(deployment, app)


native.configure(native_code.dumps_by_value, _make_handle)


def become_replica(taker: Any, arguments: Sequence[str]) -> None:
    """Calls of this process go through its taker from now on, and its instance is the replica's.

    Its arguments are those of the node, which name the instance's directory.
    """
    global _taker, _own_instance
    _taker = taker
    _own_instance = os.path.basename(arguments[arguments.index("--instance") + 1])
    instance.join()


def connect(start: bool, options: Optional[dict[str, Any]]) -> Optional[NativeInstance]:
    """As ``manta._private.native.connect`` says."""
    if _taker is not None:
        return NativeInstance(None, NativeTransport(_taker))
    try:
        joined = native.Instance.join(None)
    except native.Error as error:
        if error.args[0] != native.ENOTRUNNING or os.environ.get("MANTA_INSTANCE"):
            raise RayServeException(error.args[1]) from None
        joined = None
    if joined is None:
        if not start:
            return None
        native_limits.check_start(options or {})
        joined = _start(options or {})
        return NativeInstance(joined, NativeTransport(joined), started_with=options or {})
    return NativeInstance(joined, NativeTransport(joined))


def _start(options: dict[str, Any]) -> Any:
    http = options.get("http_options") or {}
    logging = options.get("logging_config") or {}
    port = http.get("port", DEFAULT_HTTP_PORT)
    if options.get("proxy_location") == "Disabled":
        port = -1
    keep_alive_s = environment.number("HTTP_KEEP_ALIVE_TIMEOUT_S")
    if keep_alive_s <= 0:
        keep_alive_s = float(http.get("keep_alive_timeout_s") or 90)
    try:
        with environment.settings(**{ROOT_PATH_VARIABLE: http.get("root_path") or ""}):
            return native.Instance.start(
                http.get("host") or DEFAULT_HTTP_HOST,
                port,
                http.get("request_timeout_s") or 0.0,
                keep_alive_s,
                int(options.get("proxies") or 0),
                str(logging.get("log_level") or "INFO"),
                str(logging.get("encoding") or "TEXT"),
                logging.get("logs_dir"),
                bool(os.environ.get("MANTA_LOG_TO_STDERR")),
                options.get("launch"),
            )
    except native.Error as error:
        raise RayServeException(error.args[1]) from None


def _default_http_options() -> dict[str, Any]:
    from manta.serve.config import HTTPOptions

    return HTTPOptions().model_dump(mode="json")


class NativeInstance(instance.Instance):
    """An instance that this process started, joined, or is a part of."""

    transport: NativeTransport

    def __init__(
        self,
        joined: Optional[Any],
        transport: NativeTransport,
        started_with: Optional[dict[str, Any]] = None,
    ) -> None:
        self._joined = joined
        self.is_private = started_with is not None
        self._started_with = started_with or {}
        self._host = (self._started_with.get("http_options") or {}).get("host") or DEFAULT_HTTP_HOST
        self.transport = transport
        if joined is not None:
            threading.Thread(
                target=_drain, args=(joined,), name="manta-calls", daemon=True
            ).start()
            atexit.register(self._leave)

    def _asked(self) -> Any:
        """The connection through which the controller is asked; a replica makes one on demand."""
        if self._joined is None:
            self._joined = native.Instance.join(_own_instance)
        return self._joined

    @property
    def http_port(self) -> int:
        return int(self._asked().http_port)

    def start_again(self, options: dict[str, Any]) -> None:
        """The options of an instance are those it was started with; others are told and ignored."""
        wanted = options.get("http_options") or {}
        if self.is_private:
            mine = self._started_with.get("http_options") or _default_http_options()
        else:
            mine = {"port": self.http_port}
        other = [name for name, value in mine.items() if wanted.get(name, value) != value]
        if other:
            logger.warning(
                "The instance runs already, with other http_options in the following fields: "
                f"{', '.join(other)}. The new ones are ignored."
            )

    def deploy(
        self, apps: Sequence[BuiltApplication], *, wait_ingress: bool, wait_running: bool
    ) -> None:
        whole = [(app.name, app.route_prefix, document_of(app), None) for app in apps]
        self._apply(whole, False, wait_running)
        if wait_running:
            for app in apps:
                self._say_ready(app.name, app.route_prefix)

    def deploy_config(self, config: Any, *, wait: bool) -> None:
        from manta._private import declarative

        self._apply(declarative.build_all(config), True, wait)
        for app in config.applications if wait else ():
            self._say_ready(app.name, app.route_prefix)

    def _apply(self, whole: list[tuple[Any, ...]], declarative: bool, wait: bool) -> None:
        try:
            _interruptibly(self._asked().apply, (whole, declarative, wait, logger.info))
        except DeployError as error:
            if error.code == native.EEXISTS:
                raise RayServeException(str(error)) from None
            if error.code == native.EDEPLOYFAILED:
                told = self._failure([app[0] for app in whole], error)
                raise DeployError(error.code, told) from None
            raise

    def _say_ready(self, name: str, route_prefix: Optional[str]) -> None:
        """The line that people wait for; whoever has one of its own filters it by ``is_ready``."""
        port = self.http_port
        where = f" at http://{self._host}:{port}{route_prefix}" if port > 0 and route_prefix else ""
        logger.info(f"Application '{name}' is ready{where}.", extra={"is_ready": True})

    def apply_document(self, name: str, route_prefix: Optional[str], document: bytes) -> None:
        """Run what another process has built; RuntimeError when it fails to deploy."""
        whole = [(name, route_prefix, document, None)]
        _interruptibly(self._asked().apply, (whole, False, True, None))

    def _failure(self, names: Sequence[str], error: DeployError) -> str:
        """Which of them failed, and why."""
        found = self._applications() if len(names) > 1 else {}
        failed = {
            name: found[name]["message"]
            for name in names
            if found.get(name, {}).get("status") in ("DEPLOY_FAILED", "UNHEALTHY")
        }
        told = failed or {names[0]: str(error)}
        return "\n".join(f"Deploying application {n} failed: {why}" for n, why in told.items())

    def delete(self, names: Sequence[str], *, wait: bool) -> None:
        for name in names:
            try:
                if wait:
                    _interruptibly(self._asked().delete, (name,))
                else:
                    threading.Thread(
                        target=_forget_missing, args=(self._asked().delete, name), daemon=True
                    ).start()
            except RuntimeError as error:
                if getattr(error, "code", None) != native.ENOTFOUND:
                    raise

    def shutdown(self) -> None:
        joined = self._asked()
        atexit.unregister(self._leave)
        try:
            joined.shutdown()
        except native.Error as error:
            raise RayServeException(error.args[1]) from None
        finally:
            self.transport.when_streams_end(joined.stop)

    def _leave(self) -> None:
        """At the end of the driver: a private instance ends with it."""
        joined, self._joined = self._joined, None
        if joined is not None:
            joined.stop()
            joined.disconnect()

    def status(self) -> dict[str, Any]:
        """The status in Ray Serve's words."""
        try:
            found: dict[str, Any] = self._asked().status()
        except native.Error as error:
            raise RayServeException(error.args[1]) from None
        return found

    def details(self) -> dict[str, Any]:
        from manta._private import native_details

        return native_details.of_status(self.status())

    def _applications(self) -> dict[str, Any]:
        return dict(self.status().get("applications") or {})

    def ingress_deployment(self, app_name: str) -> Optional[str]:
        app = self._applications().get(app_name)
        return None if app is None else app.get("ingress") or _last(app["deployments"])

    def has_deployment(self, deployment: DeploymentID) -> bool:
        app = self._applications().get(deployment.app_name)
        return app is not None and deployment.name in app["deployments"]

    def deployment_actor(self, deployment: DeploymentID, name: str, version: Optional[str]) -> Any:
        raise ValueError(f"There is no actor '{name}' of {deployment}.")

    def record_models(self, replica: ReplicaID, model_ids: list[str]) -> None:
        """Senders then prefer this replica for these models."""
        if _taker is not None:
            _taker.models(model_ids)

    def record_metric(
        self,
        kind: str,
        name: str,
        description: str,
        value: float,
        tags: dict[str, str],
        boundaries: Optional[list[float]] = None,
    ) -> None:
        """The instance's metrics are its own processes'; those of users are not collected yet."""


def _last(names: Any) -> Optional[str]:
    found = list(names)
    return found[-1] if found else None


def _drain(joined: Any) -> None:
    """The thread that finishes calls."""
    while joined.drain():
        pass


def _forget_missing(delete: Callable[[str], None], name: str) -> None:
    try:
        delete(name)
    except native.Error as error:
        if error.args[0] != native.ENOTFOUND:
            logger.warning(f"Application '{name}' could not be deleted: {error.args[1]}")


class DeployError(RuntimeError):
    """What the instance refused or could not do."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def _interruptibly(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Run a wait that no signal ends in another thread, so that Ctrl-C ends the waiting."""
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            function(*arguments)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="manta-wait", daemon=True)
    thread.start()
    thread.join()
    if not outcome:
        return
    error = outcome[0]
    if isinstance(error, native.Error):
        raise DeployError(*error.args) from None
    raise error


# ---- what a deployment is for the controller


def _check_options(app: BuiltApplication) -> None:
    for deployment in app.deployments:
        if deployment._deployment_config.autoscaling_config:
            logger.warning(
                f"Deployment '{deployment.name}': autoscaling_config is not acted upon yet; "
                f"{_replicas(deployment)} replica(s) are started."
            )


def document_of(app: BuiltApplication) -> bytes:
    """The application for the controller: opaque, and good for this release only."""
    native_limits.check_application(app)
    _check_options(app)
    try:
        document: bytes = native.document(app.name, app.ingress_deployment_name, _entries(app))
    except native.Error as error:
        raise ValueError(error.args[1]) from None
    return document


def _replicas(deployment: Deployment) -> int:
    scaling = deployment._deployment_config.autoscaling_config
    if scaling:
        given = scaling if isinstance(scaling, dict) else scaling.model_dump()
        return int(given.get("initial_replicas") or max(1, given.get("min_replicas") or 1))
    return int(deployment.num_replicas or 0)


def _entries(app: BuiltApplication) -> list[tuple[Any, ...]]:
    codes = [native_code.pack(deployment) for deployment in app.deployments]
    return [
        _entry(deployment, app, code, codes)
        for deployment, code in zip(app.deployments, codes, strict=True)
    ]


def _entry(
    deployment: Deployment, app: BuiltApplication, code: bytes, codes: list[bytes]
) -> tuple[Any, ...]:
    chosen = deployment._deployment_config
    wanted = version.of_deployment(deployment)
    config = None if chosen.user_config is None else json.dumps(chosen.user_config)
    asgi = hasattr(deployment.func_or_class, "_run_asgi_lifespan_startup")
    entered = surroundings.of(deployment)
    logging = _log_config(chosen.logging_config or app.logging_config)
    options = {
        **entered,
        "code_version": wanted.code,
        "route_prefix": app.route_prefix or "",
        "logging": logging,
        "log": replica_log.log_options(logging),
    }
    # A hash of all but the zygote's key, which is another for every driver.
    number = _number(app.name, wanted.code, native_code.by_value(code), options)
    options["zygote"] = surroundings.zygote(entered, codes, surroundings.folders_of(deployment))
    return (
        deployment.name,
        f"python:{os.path.abspath(sys.executable)}",
        code,
        options,
        config,
        number,
        _replicas(deployment),
        int(chosen.max_ongoing_requests),
        int(chosen.max_queued_requests),
        1,
        float(chosen.graceful_shutdown_timeout_s),
        float(chosen.health_check_period_s),
        float(chosen.health_check_timeout_s),
        asgi,
        # Ray Serve's default stops old replicas first; here that is done for who asks for it.
        int(chosen.non_default().get("max_surge_percent", 100)),
        float(chosen.rolling_update_percentage),
        int(chosen.max_constructor_retry_count),
        _start_timeout_s(entered["environment"]),
    )


def _start_timeout_s(variables: dict[str, str]) -> float:
    """The instance's setting, for one deployment: an environment variable of its replicas."""
    text = variables.get("MANTA_START_TIMEOUT_MS")
    if text is None:
        return 0.0
    try:
        return max(0, int(text)) / 1000
    except ValueError:
        raise ValueError(f"MANTA_START_TIMEOUT_MS is {text!r}, not a number of ms.") from None


def _log_config(value: Any) -> Optional[dict[str, Any]]:
    """As plain values; the directory is there and has its full name, since replicas start elsewhere."""
    if value is None:
        return None
    from manta.serve.schema import LoggingConfig

    made = LoggingConfig(**value) if isinstance(value, dict) else value
    config: dict[str, Any] = made.model_dump(mode="json")
    if config.get("logs_dir"):
        config = {**config, "logs_dir": os.path.abspath(config["logs_dir"])}
        os.makedirs(config["logs_dir"], exist_ok=True)
    return config


def _number(*parts: Any) -> int:
    """A version as the controller compares it."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
