# SPDX-License-Identifier: Apache-2.0
"""The config classes: defaults, conversions, refusals."""

import warnings

import pytest
from subject import config, schema, serve

# (class, arguments that must be there, the defaults of the rest)
DEFAULTS = [
    (
        "config.AutoscalingConfig",
        {},
        {
            "min_replicas": 1,
            "initial_replicas": None,
            "max_replicas": 1,
            "target_ongoing_requests": 2,
            "metrics_interval_s": 10.0,
            "look_back_period_s": 30.0,
            "smoothing_factor": 1.0,
            "upscaling_factor": None,
            "downscaling_factor": None,
            "downscale_delay_s": 600.0,
            "downscale_to_zero_delay_s": None,
            "upscale_delay_s": 30.0,
            "aggregation_function": "mean",
        },
    ),
    (
        "config.HTTPOptions",
        {},
        {
            "host": "127.0.0.1",
            "port": 8000,
            "middlewares": [],
            "location": None,
            "num_cpus": 0,
            "root_url": "",
            "root_path": "",
            "request_timeout_s": None,
            "keep_alive_timeout_s": 90,
            "ssl_keyfile": None,
            "ssl_certfile": None,
        },
    ),
    (
        "config.gRPCOptions",
        {},
        {
            "port": 9000,
            "grpc_servicer_functions": [],
            "request_timeout_s": None,
            "enable_reflection": True,
        },
    ),
    ("config.BackpressureConfig", {}, {"status_code": 503, "retry_after_s": None}),
    ("config.ControllerOptions", {}, {"runtime_env": None}),
    (
        "config.RequestRouterConfig",
        {},
        {
            "request_router_kwargs": {},
            "request_routing_stats_period_s": 10,
            "request_routing_stats_timeout_s": 30,
            "initial_backoff_s": 0.025,
            "backoff_multiplier": 2,
            "max_backoff_s": 0.5,
        },
    ),
    (
        "config.GangSchedulingConfig",
        {"gang_size": 2},
        {"gang_placement_strategy": "PACK", "runtime_failure_policy": "RESTART_GANG"},
    ),
    (
        "schema.LoggingConfig",
        {},
        {
            "encoding": "TEXT",
            "log_level": "INFO",
            "logs_dir": None,
            "enable_access_log": True,
            "additional_log_standard_attrs": [],
        },
    ),
    (
        "schema.TracingConfig",
        {},
        {"enabled": False, "exporter_import_path": "", "sampling_ratio": 0.01},
    ),
    (
        "schema.HTTPOptionsSchema",
        {},
        {"host": "0.0.0.0", "port": 8000, "root_path": "", "keep_alive_timeout_s": 90},
    ),
    ("schema.gRPCOptionsSchema", {}, {"port": 9000, "enable_reflection": True}),
    (
        "schema.RayActorOptionsSchema",
        {},
        {"runtime_env": {}, "num_cpus": None, "resources": {}, "label_selector": None},
    ),
    (
        "schema.ServeApplicationSchema",
        {"import_path": "a:b"},
        {
            "name": "default",
            "route_prefix": "/",
            "runtime_env": {},
            "host": "0.0.0.0",
            "port": 8000,
            "deployments": [],
            "autoscaling_policy": None,
            "args": {},
            "logging_config": None,
            "external_scaler_enabled": False,
        },
    ),
    (
        "schema.ServeDeploySchema",
        {"applications": []},
        {"proxy_location": "EveryNode", "target_capacity": None, "logging_config": None},
    ),
    ("schema.ServeStatus", {}, {"proxies": {}, "applications": {}}),
]


def named(path):
    module, name = path.split(".")
    return getattr({"config": config, "schema": schema}[module], name)


@pytest.mark.parametrize(("path", "given", "defaults"), DEFAULTS, ids=[row[0] for row in DEFAULTS])
def test_defaults_of(path, given, defaults):
    made = named(path)(**given)
    assert {name: getattr(made, name) for name in defaults} == defaults


REFUSED = [
    ("config.AutoscalingConfig", {"max_replicas": 0}, "greater than 0"),
    ("config.AutoscalingConfig", {"target_ongoing_requests": 0}, "greater than 0"),
    ("config.AutoscalingConfig", {"downscale_delay_s": -1}, "greater than or equal to 0"),
    (
        "config.AutoscalingConfig",
        {"min_replicas": 2, "max_replicas": 4, "initial_replicas": 1},
        r"min_replicas \(2\) must be less than or equal to initial_replicas \(1\)",
    ),
    (
        "config.AutoscalingConfig",
        {"max_replicas": 4, "initial_replicas": 5},
        r"max_replicas \(4\) must be greater than or equal to initial_replicas \(5\)",
    ),
    ("config.AutoscalingConfig", {"aggregation_function": "sum"}, "is not a valid"),
    ("config.AutoscalingPolicy", {"policy_kwargs": {"a": object()}}, "not JSON-serializable"),
    ("config.RequestRouterConfig", {"request_router_kwargs": {"a": {1}}}, "not JSON-serializable"),
    ("config.RequestRouterConfig", {"initial_backoff_s": 0}, "greater than 0"),
    ("config.HTTPOptions", {"middlewares": [1]}, "`middlewares` in HTTPOptions has been removed"),
    ("config.HTTPOptions", {"num_cpus": 1}, "`num_cpus` in HTTPOptions has been removed"),
    ("config.HTTPOptions", {"ssl_certfile": "c"}, "must be provided together"),
    ("config.HTTPOptions", {"port": "many"}, "valid integer"),
    ("config.ControllerOptions", {"runtime_env": {"pip": []}}, "only supports"),
    ("config.ControllerOptions", {"runtime_env": {"env_vars": 1}}, "must be a dict"),
    ("config.ControllerOptions", {"runtime_env": {"env_vars": {"A": 1}}}, "must be str"),
    ("config.ControllerOptions", {"runtime_env": {"env_vars": {"": "a"}}}, "non-empty str"),
    ("config.ControllerOptions", {"other": 1}, "Extra inputs are not permitted"),
    ("config.BackpressureConfig", {"retry_after_s": float("inf")}, "finite number"),
    ("config.GangSchedulingConfig", {}, "Field required"),
    ("schema.LoggingConfig", {"log_level": "debug"}, "log_level must be one of"),
    ("schema.LoggingConfig", {"log_level": 15}, "log_level must be one of"),
    (
        "schema.LoggingConfig",
        {"additional_log_standard_attrs": ["x"]},
        "Unknown attribute 'x'",
    ),
    ("schema.TracingConfig", {"sampling_ratio": 1.5}, "sampling_ratio must be between"),
    ("schema.HTTPOptionsSchema", {"ssl_certfile": "c"}, "must be provided together"),
    ("schema.RayActorOptionsSchema", {"num_cpus": -1}, "greater than or equal to 0"),
    ("schema.RayActorOptionsSchema", {"label_selector": {"-": "a"}}, "Invalid label key name"),
    (
        "schema.RayActorOptionsSchema",
        {"runtime_env": {"working_dir": "/tmp/x"}},
        "support only remote URIs",
    ),
    ("schema.ServeApplicationSchema", {}, "Field required"),
    ("schema.ServeApplicationSchema", {"import_path": "a"}, "at least on dot or colon"),
    ("schema.ServeApplicationSchema", {"import_path": "a:b:c"}, "at most one colon"),
    ("schema.ServeApplicationSchema", {"import_path": ":b"}, "start or end with a colon"),
    ("schema.ServeApplicationSchema", {"import_path": "a:"}, "start or end with a colon"),
    ("schema.ServeApplicationSchema", {"import_path": "a.b."}, "start or end with a dot"),
    (
        "schema.ServeApplicationSchema",
        {"import_path": "a:b", "runtime_env": {"py_modules": ["/x"]}},
        "support only remote URIs",
    ),
    (
        "schema.ServeApplicationSchema",
        {
            "import_path": "a:b",
            "external_scaler_enabled": True,
            "deployments": [{"name": "D", "num_replicas": "auto"}],
        },
        'the following deployment.s. have autoscaling configured: "D"',
    ),
    ("schema.ServeDeploySchema", {}, "Field required"),
    (
        "schema.ServeDeploySchema",
        {"applications": [{"name": "", "import_path": "a:b"}]},
        "must be nonempty",
    ),
    (
        "schema.ServeDeploySchema",
        {"applications": [{"import_path": "a:b", "host": "h"}]},
        'Host "h" is set in the config for application `default`',
    ),
    (
        "schema.ServeDeploySchema",
        {"applications": [{"import_path": "a:b", "port": 1}]},
        "Port 1 is set in the config for application `default`",
    ),
    (
        "schema.ServeDeploySchema",
        {"applications": [{"import_path": "a:b"}, {"import_path": "a:c", "route_prefix": "/x"}]},
        'Found multiple configs for application "default"',
    ),
    (
        "schema.ServeDeploySchema",
        {"applications": [{"import_path": "a:b"}, {"import_path": "a:c", "name": "x"}]},
        'Found duplicate applications for route prefix "/"',
    ),
    ("schema.ServeDeploySchema", {"applications": [], "target_capacity": 101}, "less than or"),
    ("schema.ServeDeploySchema", {"applications": [], "proxy_location": "x"}, "Input should be"),
    ("schema.DeploymentSchema", {}, "Field required"),
    ("schema.DeploymentSchema", {"name": "D", "num_replicas": 0}, "Input should be"),
    ("schema.DeploymentSchema", {"name": "D", "num_replicas": "x"}, 'must be an int or "auto"'),
    (
        "schema.DeploymentSchema",
        {"name": "D", "num_replicas": 2, "autoscaling_config": {}},
        "Manually setting num_replicas is not allowed",
    ),
    ("schema.DeploymentSchema", {"name": "D", "max_ongoing_requests": 0}, "greater than 0"),
    ("schema.DeploymentSchema", {"name": "D", "max_queued_requests": 0}, "must be -1"),
    ("schema.DeploymentSchema", {"name": "D", "max_queued_requests": "3"}, "valid integer"),
    ("schema.DeploymentSchema", {"name": "D", "user_config": [1]}, "valid dictionary"),
    ("schema.DeploymentSchema", {"name": "D", "rolling_update_percentage": 0}, "greater than 0"),
    ("schema.DeploymentSchema", {"name": "D", "max_surge_percent": 101}, "less than or equal"),
    (
        "schema.DeploymentSchema",
        {"name": "D", "max_replicas_per_node": 1, "placement_group_bundles": [{"CPU": 1}]},
        "Setting max_replicas_per_node is not allowed",
    ),
    (
        "schema.DeploymentSchema",
        {"name": "D", "placement_group_bundle_label_selector": [{"a": "b"}]},
        "Setting bundle_label_selector is not allowed",
    ),
    (
        "schema.DeploymentSchema",
        {"name": "D", "num_replicas": 3, "gang_scheduling_config": {"gang_size": 2}},
        "must be a multiple of gang_size",
    ),
    ("schema.ScaleDeploymentRequest", {"target_num_replicas": -1}, "greater than or equal"),
]


@pytest.mark.parametrize(("path", "given", "message"), REFUSED)
def test_refuses(path, given, message):
    with pytest.raises(ValueError, match=message):
        named(path)(**given)


ACCEPTED = [
    ("config.HTTPOptions", {"ssl_keyfile": "k"}, "ssl_keyfile", "k"),
    ("config.HTTPOptions", {"host": None}, "location", "Disabled"),
    ("config.HTTPOptions", {"unknown": 1}, "port", 8000),
    ("config.AutoscalingConfig", {"aggregation_function": "MAX"}, "aggregation_function", "max"),
    ("config.AutoscalingConfig", {"min_replicas": 0}, "min_replicas", 0),
    ("config.BackpressureConfig", {"status_code": 429}, "status_code", 429),
    ("schema.LoggingConfig", {"log_level": 10}, "log_level", "DEBUG"),
    ("schema.LoggingConfig", {"encoding": "JSON"}, "encoding", "JSON"),
    ("schema.ServeApplicationSchema", {"import_path": ".a.b"}, "import_path", ".a.b"),
    (
        "schema.ServeApplicationSchema",
        {"import_path": "a:b", "route_prefix": "/x/"},
        "route_prefix",
        "/x/",
    ),
    ("schema.DeploymentSchema", {"name": "D", "num_replicas": "auto"}, "num_replicas", "auto"),
    (
        "schema.DeploymentSchema",
        {"name": "D", "autoscaling_config": {"min_replicas": -7}},
        "autoscaling_config",
        {"min_replicas": -7},
    ),
    (
        "schema.DeploymentSchema",
        {"name": "D", "max_replicas_per_node": 1000},
        "max_replicas_per_node",
        1000,
    ),
]


@pytest.mark.parametrize(("path", "given", "name", "value"), ACCEPTED)
def test_accepts(path, given, name, value):
    assert getattr(named(path)(**given), name) == value


def test_what_the_file_does_not_say_is_not_given():
    made = schema.DeploymentSchema(name="D", num_replicas=2)
    assert made._get_user_configured_option_names() == {"name", "num_replicas"}
    assert made.max_ongoing_requests is not None
    assert made.model_dump(exclude_unset=True) == {"name": "D", "num_replicas": 2}


def test_http_options_are_checked_on_assignment():
    options = config.HTTPOptions()
    with pytest.raises(ValueError, match="valid integer"):
        options.port = "x"


def test_location_in_http_options_is_deprecated():
    with pytest.warns(DeprecationWarning, match="`location` in HTTPOptions is deprecated"):
        assert config.HTTPOptions(location="HeadOnly").location == "HeadOnly"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert config.HTTPOptions(location="NoServer").location == "Disabled"


def test_metrics_interval_is_deprecated():
    with pytest.warns(DeprecationWarning, match="`metrics_interval_s`"):
        config.AutoscalingConfig(metrics_interval_s=5)


def test_look_back_period_warns_when_it_is_short():
    with pytest.warns(FutureWarning, match="`look_back_period_s`"):
        config.AutoscalingConfig(look_back_period_s=5)


def test_scaling_factors_fall_back():
    assert config.AutoscalingConfig().get_upscaling_factor() == 1.0
    assert config.AutoscalingConfig(smoothing_factor=0.5).get_downscaling_factor() == 0.5
    both = config.AutoscalingConfig(smoothing_factor=0.5, upscaling_factor=0.7)
    assert both.get_upscaling_factor() == 0.7
    old = config.AutoscalingConfig(downscale_smoothing_factor=0.3)
    assert old.get_downscaling_factor() == 0.3
    assert old.get_target_ongoing_requests() == 2


def decide(ctx):
    return 3, {}


def test_policy_by_function_is_stored_by_path_and_found_again():
    policy = config.AutoscalingPolicy(policy_function=decide)
    assert policy.policy_function == f"{__name__}.decide"
    assert not policy.is_default_policy_function()
    assert policy.get_policy()(None) == (3, {})


def test_default_policy():
    assert config.AutoscalingPolicy().is_default_policy_function()
    assert callable(config.AutoscalingPolicy().get_policy())


def test_policy_that_does_not_exist_is_an_import_error():
    with pytest.raises(ImportError):
        config.AutoscalingPolicy(policy_function="no_such_module_of_mine:f")


def test_default_router():
    assert config.RequestRouterConfig().is_default_request_router()
    assert config.RequestRouterConfig() == config.RequestRouterConfig()
    assert config.RequestRouterConfig(max_backoff_s=1) != config.RequestRouterConfig()


def test_gang_cannot_restart_single_replicas():
    with pytest.raises(NotImplementedError, match="RESTART_REPLICA"):
        config.GangSchedulingConfig(gang_size=2, runtime_failure_policy="RESTART_REPLICA")


def test_deployment_actors_need_own_names():
    actors = [{"name": "a", "actor_class": "m:C"}, {"name": "a", "actor_class": "m:D"}]
    with pytest.raises(ValueError, match="deployment_actors must have unique names"):
        serve.deployment(deployment_actors=actors)(type("D", (), {}))


def test_servicer_functions_must_exist_and_be_callable():
    with pytest.raises(ModuleNotFoundError, match="can't be imported"):
        gone = config.gRPCOptions(grpc_servicer_functions=["no_such_module_of_mine.f"])
        gone.grpc_servicer_func_callable  # noqa: B018
    with pytest.raises(ValueError, match="is not a callable function"):
        data = config.gRPCOptions(grpc_servicer_functions=["string.digits"])
        data.grpc_servicer_func_callable  # noqa: B018
    fine = config.gRPCOptions(grpc_servicer_functions=["json.dumps"])
    assert [f.__name__ for f in fine.grpc_servicer_func_callable] == ["dumps"]


ENUMS = {
    "config.ProxyLocation": ["Disabled", "HeadOnly", "EveryNode"],
    "config.AggregationFunction": ["mean", "max", "min"],
    "config.GangPlacementStrategy": ["PACK", "SPREAD"],
    "config.GangRuntimeFailurePolicy": ["RESTART_GANG", "RESTART_REPLICA"],
    "schema.EncodingType": ["TEXT", "JSON"],
    "schema.APIType": ["unknown", "imperative", "declarative"],
    "schema.ApplicationStatus": [
        "NOT_STARTED",
        "DEPLOYING",
        "DEPLOY_FAILED",
        "RUNNING",
        "UNHEALTHY",
        "DELETING",
    ],
    "schema.DeploymentStatus": [
        "UPDATING",
        "HEALTHY",
        "UNHEALTHY",
        "DEPLOY_FAILED",
        "UPSCALING",
        "DOWNSCALING",
    ],
    "schema.ProxyStatus": ["STARTING", "HEALTHY", "UNHEALTHY", "DRAINING", "DRAINED"],
    "schema.AutoscalingStatus": ["UPSCALING", "DOWNSCALING", "STABLE"],
    "schema.AutoscalingMetricsHealth": ["healthy", "delayed", "unavailable"],
}


@pytest.mark.parametrize("path", ENUMS)
def test_values_of(path):
    assert [member.value for member in named(path)] == ENUMS[path]
    assert all(member == member.value for member in named(path))


@pytest.mark.parametrize(
    ("path", "numbers"),
    [
        ("schema.ApplicationStatus", [3, 5, 1, 6, 2, 4]),
        ("schema.ProxyStatus", [1, 2, 3, 4, 5]),
        ("schema.DeploymentStatus", [3, 6, 2, 1, 4, 5]),
    ],
)
def test_numbers_of(path, numbers):
    assert [member.to_numeric() for member in named(path)] == numbers


def test_details_become_a_status():
    replica = {"replica_id": "r", "state": "RUNNING", "start_time_s": 1.0}
    deployment = {
        "name": "D",
        "status": "HEALTHY",
        "status_trigger": "CONFIG_UPDATE_COMPLETED",
        "message": "",
        "deployment_config": {"name": "D"},
        "target_num_replicas": 2,
        "required_resources": {"CPU": 1},
        "replicas": [replica, replica],
    }
    application = {
        "name": "default",
        "route_prefix": "/",
        "docs_path": None,
        "status": "RUNNING",
        "message": "m",
        "last_deployed_time_s": 2.0,
        "source": "imperative",
        "deployments": {"D": deployment},
        "external_scaler_enabled": False,
    }
    details = schema.ServeInstanceDetails(
        proxies={"n1": {"status": "HEALTHY"}}, applications={"default": application}
    )
    told = details._get_status()
    assert told.proxies == {"n1": "HEALTHY"}
    assert told.applications["default"].status == "RUNNING"
    assert told.applications["default"].deployments["D"].replica_states == {"RUNNING": 2}


def test_details_know_no_other_keys():
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        schema.ServeInstanceDetails(proxies={}, applications={}, other=1)


def test_a_deployment_survives_the_way_through_the_schema():
    from subject import load

    deployments = load("serve.deployment")
    made = serve.deployment(
        num_replicas=3, user_config={"a": 1}, ray_actor_options={"num_cpus": 2}
    )(type("D", (), {}))
    written = deployments.deployment_to_schema(made)
    assert written.model_dump(exclude_unset=True) == {
        "name": "D",
        "num_replicas": 3,
        "user_config": {"a": 1},
        "ray_actor_options": {"num_cpus": 2.0},
    }
    back = deployments.schema_to_deployment(written)
    assert (back.name, back.num_replicas, back.user_config) == ("D", 3, {"a": 1})
    assert back.ray_actor_options["num_cpus"] == 2
