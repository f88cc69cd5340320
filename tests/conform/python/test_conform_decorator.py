# SPDX-License-Identifier: Apache-2.0
"""``@serve.deployment``: its forms, what it refuses, and what a Deployment tells."""

import threading

import pytest
from subject import config, serve


class Plain:
    pass


def function(request):
    return request


@pytest.mark.parametrize("target", [Plain, function])
def test_bare_form_makes_a_deployment_named_after_the_target(target):
    made = serve.deployment(target)
    assert isinstance(made, serve.Deployment)
    assert made.name == target.__name__
    assert made.func_or_class is target


def test_called_form_gives_a_decorator():
    @serve.deployment(name="other", num_replicas=3)
    class Named:
        pass

    assert (Named.name, Named.num_replicas) == ("other", 3)


def test_empty_parentheses_are_the_bare_form():
    assert serve.deployment()(Plain).name == "Plain"


DEFAULTS = {
    "num_replicas": 1,
    "max_ongoing_requests": 5,
    "max_queued_requests": -1,
    "user_config": None,
    "ray_actor_options": {"num_cpus": 1},
    "init_args": (),
    "init_kwargs": {},
    "logging_config": None,
    "version": None,
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_of(name):
    assert getattr(serve.deployment(Plain), name) == DEFAULTS[name]


def test_default_backpressure_is_503_without_a_header():
    told = serve.deployment(Plain).backpressure_config
    assert (told.status_code, told.retry_after_s) == (503, None)


def test_text_and_repr_say_the_name():
    made = serve.deployment(Plain)
    assert str(made) == repr(made) == "Deployment(name=Plain)"


def test_a_deployment_cannot_be_called():
    with pytest.raises(RuntimeError, match="cannot be constructed directly"):
        serve.deployment(Plain)()


def test_a_deployment_cannot_be_constructed():
    with pytest.raises(RuntimeError, match="should not be called directly"):
        serve.Deployment("x", None, None)


def test_equal_when_name_options_and_arguments_are():
    made = serve.deployment(Plain)
    assert made == made.options()
    assert made != made.options(name="other")
    assert made != made.options(max_ongoing_requests=7)
    assert made != made.bind(3)._bound_deployment


# (arguments of the decorator, type of the error, a part of its message)
REFUSED = [
    ({"version": "1"}, ValueError, "has been removed"),
    ({"route_prefix": "/"}, TypeError, "unexpected keyword argument"),
    ({"max_concurrent_queries": 3}, TypeError, "unexpected keyword argument"),
    ({"is_driver_deployment": True}, TypeError, "unexpected keyword argument"),
    ({"num_replicas": 0}, ValueError, "num_replicas is expected to larger than 0"),
    ({"num_replicas": -1}, ValueError, "greater than or equal to 0"),
    ({"num_replicas": "many"}, ValueError, "valid integer"),
    ({"num_replicas": 1.5}, ValueError, "valid integer"),
    ({"num_replicas": 2, "autoscaling_config": {}}, ValueError, "Manually setting num_replicas"),
    ({"max_ongoing_requests": None}, ValueError, "must be non-null"),
    ({"max_ongoing_requests": 0}, ValueError, "greater than 0"),
    ({"max_ongoing_requests": -3}, ValueError, "greater than 0"),
    ({"max_ongoing_requests": 1.5}, ValueError, "valid integer"),
    ({"max_queued_requests": 0}, ValueError, "must be -1 .no limit. or a positive integer"),
    ({"max_queued_requests": -2}, ValueError, "must be -1 .no limit. or a positive integer"),
    ({"max_queued_requests": 1.5}, ValueError, "valid integer"),
    ({"user_config": object()}, ValueError, "user_config is not JSON-serializable"),
    ({"user_config": {"a": {1}}}, ValueError, "user_config is not JSON-serializable"),
    ({"graceful_shutdown_wait_loop_s": -1}, ValueError, "greater than or equal to 0"),
    ({"graceful_shutdown_timeout_s": -1}, ValueError, "greater than or equal to 0"),
    ({"health_check_period_s": 0}, ValueError, "greater than 0"),
    ({"health_check_timeout_s": 0}, ValueError, "greater than 0"),
    ({"health_check_timeout_s": "soon"}, ValueError, "valid number"),
    ({"max_constructor_retry_count": 0}, ValueError, "greater than 0"),
    ({"rolling_update_percentage": 0}, ValueError, "greater than 0"),
    ({"rolling_update_percentage": 1.5}, ValueError, "less than or equal to 1"),
    ({"max_surge_percent": -1}, ValueError, "greater than or equal to 0"),
    ({"max_surge_percent": 101}, ValueError, "less than or equal to 100"),
    ({"name": 3}, TypeError, "name must be a string"),
    ({"name": "a#b"}, ValueError, "must not contain the '#' character"),
    ({"backpressure_config": {"status_code": 500}}, ValueError, "503 or 429"),
    ({"backpressure_config": {"retry_after_s": -1}}, ValueError, "greater than or equal to 0"),
    ({"backpressure_config": {"other": 1}}, ValueError, "Extra inputs are not permitted"),
    ({"autoscaling_config": {"min_replicas": -1}}, ValueError, "greater than or equal to 0"),
    (
        {"autoscaling_config": {"min_replicas": 3, "max_replicas": 2}},
        ValueError,
        "must be greater than or equal to min_replicas",
    ),
    ({"logging_config": {"log_level": "LOUD"}}, ValueError, "log_level must be one of"),
    ({"logging_config": {"encoding": "XML"}}, ValueError, "Encoding must be one of"),
    ({"logging_config": {"other": 1}}, ValueError, "Extra inputs are not permitted"),
    ({"gang_scheduling_config": {"gang_size": 0}}, ValueError, "greater than or equal to 1"),
    (
        {"gang_scheduling_config": {"gang_size": 2}, "num_replicas": 3},
        ValueError,
        "must be a multiple of gang_size",
    ),
    (
        {"gang_scheduling_config": {"gang_size": 1}, "max_replicas_per_node": 1},
        ValueError,
        "Setting max_replicas_per_node is not allowed",
    ),
    (
        {"gang_scheduling_config": {"gang_size": 1}, "placement_group_strategy": "PACK"},
        ValueError,
        "Setting placement_group_strategy is not allowed",
    ),
    ({"request_router_config": {"max_backoff_s": 0}}, ValueError, "greater than 0"),
    ({"ray_actor_options": []}, TypeError, "Expected a dictionary"),
    ({"ray_actor_options": {"name": "x"}}, ValueError, "Specifying 'name' in ray_actor_options"),
    ({"ray_actor_options": {"num_cpus": "1"}}, TypeError, "The type of keyword 'num_cpus'"),
    ({"ray_actor_options": {"num_cpus": -1}}, ValueError, "cannot be negative"),
    ({"ray_actor_options": {"num_cpus": 0.00001}}, ValueError, "cannot go beyond 0.0001"),
    ({"ray_actor_options": {"memory": -1}}, ValueError, "cannot be negative"),
    ({"ray_actor_options": {"resources": {"CPU": 1}}}, ValueError, "num_cpus' and 'num_gpus"),
    ({"ray_actor_options": {"resources": {"a": -1}}}, ValueError, "cannot be negative"),
    ({"ray_actor_options": {"runtime_env": "x"}}, TypeError, "The type of keyword 'runtime_env'"),
    ({"ray_actor_options": {"accelerator_type": 3}}, TypeError, "keyword 'accelerator_type'"),
    ({"ray_actor_options": {"label_selector": {"-": "x"}}}, ValueError, "Invalid label key name"),
    ({"ray_actor_options": {"fallback_strategy": [{}]}}, ValueError, "Empty dictionary found"),
    ({"max_replicas_per_node": 0}, ValueError, "Invalid max_replicas_per_node"),
    ({"max_replicas_per_node": 101}, ValueError, "Invalid max_replicas_per_node"),
    ({"max_replicas_per_node": "1"}, TypeError, "for max_replicas_per_node"),
    ({"placement_group_strategy": "PACK"}, ValueError, "`placement_group_bundles` must also be"),
    (
        {"placement_group_bundle_label_selector": [{"a": "b"}]},
        ValueError,
        "`placement_group_bundles` must also be",
    ),
    ({"placement_group_bundles": []}, ValueError, "non-empty list of resource dictionaries"),
    ({"placement_group_bundles": [{}]}, ValueError, "cannot be an empty dictionary"),
    ({"placement_group_bundles": [{"CPU": 0}]}, ValueError, "only 0 values"),
    ({"placement_group_bundles": [{"CPU": 0.5}]}, ValueError, "must be a subset of the first"),
    (
        {"placement_group_bundles": [{"CPU": 1}], "placement_group_strategy": "HEAP"},
        ValueError,
        "Invalid placement group strategy",
    ),
    (
        {"placement_group_bundles": [{"CPU": 1}], "max_replicas_per_node": 1},
        ValueError,
        "Setting max_replicas_per_node is not allowed when placement_group_bundles",
    ),
    (
        {
            "placement_group_bundles": [{"CPU": 1}] * 3,
            "placement_group_bundle_label_selector": [{"a": "b"}] * 2,
        },
        ValueError,
        "should equal the length of `bundles`",
    ),
    (
        {"placement_group_bundles": [{"CPU": 1}], "ray_actor_options": {"resources": {"a": 1}}},
        ValueError,
        "must be a subset of the first",
    ),
]


@pytest.mark.parametrize(("options", "error", "message"), REFUSED)
def test_decorator_refuses(options, error, message):
    with pytest.raises(error, match=message):
        serve.deployment(**options)(Plain)


NOT_IN_OPTIONS = {"rolling_update_percentage", "route_prefix"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [case for case in REFUSED if not NOT_IN_OPTIONS & set(case[0])],
)
def test_options_refuses(options, error, message):
    with pytest.raises(error, match=message):
        serve.deployment(Plain).options(**options)


def test_options_does_not_take_the_rolling_update_percentage():
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        serve.deployment(Plain).options(rolling_update_percentage=0.5)


# (option, what is given, what it becomes)
CONVERTED = [
    ("num_replicas", "3", 3),
    ("num_replicas", None, 1),
    ("max_ongoing_requests", "5", 5),
    ("max_ongoing_requests", 2.0, 2),
    ("max_ongoing_requests", True, 1),
    ("max_queued_requests", "3", 3),
    ("max_queued_requests", -1, -1),
    ("user_config", [1, "a"], [1, "a"]),
    ("user_config", "text", "text"),
]


@pytest.mark.parametrize(("name", "given", "taken"), CONVERTED)
def test_decorator_takes(name, given, taken):
    assert getattr(serve.deployment(**{name: given})(Plain), name) == taken


INNER = [
    ("graceful_shutdown_timeout_s", 3, 3.0),
    ("graceful_shutdown_wait_loop_s", 0, 0.0),
    ("health_check_period_s", 1, 1.0),
    ("health_check_timeout_s", "2.5", 2.5),
    ("max_constructor_retry_count", 4, 4),
    ("max_surge_percent", 25, 25),
]


@pytest.mark.parametrize(("name", "given", "taken"), INNER)
def test_decorator_and_options_keep(name, given, taken):
    made = serve.deployment(**{name: given})(Plain)
    assert getattr(made._deployment_config, name) == taken
    changed = serve.deployment(Plain).options(**{name: given})
    assert getattr(changed._deployment_config, name) == taken


@pytest.mark.parametrize("target", [7, None])
def test_a_target_that_cannot_be_called_gives_a_decorator(target):
    assert serve.deployment(target)(Plain).name == "Plain"


def test_decorating_a_number_is_a_type_error():
    with pytest.raises(TypeError, match="must be called on a class or function"):
        serve.deployment(num_replicas=1)(7)


def test_decorating_a_text_is_an_attribute_error():
    with pytest.raises(AttributeError):
        serve.deployment(num_replicas=1)("text")


def test_options_changes_only_what_is_given_and_leaves_the_original():
    made = serve.deployment(num_replicas=2, max_ongoing_requests=9)(Plain)
    other = made.options(num_replicas=4)
    assert (other.num_replicas, other.max_ongoing_requests) == (4, 9)
    assert made.num_replicas == 2


def test_options_with_none_leaves_the_number_of_replicas():
    assert serve.deployment(num_replicas=2)(Plain).options(num_replicas=None).num_replicas == 2


def test_options_can_change_the_class():
    class Other:
        pass

    assert serve.deployment(Plain).options(func_or_class=Other).func_or_class is Other


def test_auto_means_one_to_a_hundred_replicas():
    made = serve.deployment(num_replicas="auto")(Plain)
    scaling = made._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (1, 100)
    assert scaling.target_ongoing_requests == 2


def test_auto_keeps_the_users_fields():
    given = {"min_replicas": 2, "max_replicas": 7}
    made = serve.deployment(num_replicas="auto", autoscaling_config=given)(Plain)
    scaling = made._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 7)


def test_auto_in_options():
    made = serve.deployment(Plain).options(num_replicas="auto")
    assert made._deployment_config.autoscaling_config.max_replicas == 100


def test_autoscaling_config_object_is_taken():
    given = config.AutoscalingConfig(max_replicas=5)
    made = serve.deployment(autoscaling_config=given)(Plain)
    assert made._deployment_config.autoscaling_config.max_replicas == 5


def test_logging_config_becomes_a_dictionary():
    made = serve.deployment(logging_config={"log_level": "DEBUG"})(Plain)
    assert made.logging_config["log_level"] == "DEBUG"
    assert made.logging_config["enable_access_log"] is True


def test_set_logging_config():
    made = serve.deployment(Plain).options(name="own")
    made.set_logging_config({"log_level": "ERROR"})
    assert made.logging_config["log_level"] == "ERROR"


def test_actor_options_get_a_cpu():
    made = serve.deployment(ray_actor_options={"num_gpus": 1})(Plain)
    assert made.ray_actor_options == {"num_gpus": 1, "num_cpus": 1}


def test_actor_options_without_cpus_stay_without():
    made = serve.deployment(ray_actor_options={"num_cpus": 0})(Plain)
    assert made.ray_actor_options["num_cpus"] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"memory": 1000},
        {"resources": {"a": 0.5}},
        {"accelerator_type": "A100"},
        {"runtime_env": {"env_vars": {"A": "b"}}},
        {"label_selector": {"ray.io/market-type": "!spot"}},
        {"label_selector": {"zone": "in(a,b)"}},
        {"fallback_strategy": [{"label_selector": {"zone": "a"}}]},
    ],
)
def test_actor_options_take(options):
    made = serve.deployment(ray_actor_options=options)(Plain)
    assert made.ray_actor_options == {**options, "num_cpus": 1}


def test_one_label_selector_stands_for_all_bundles():
    made = serve.deployment(
        placement_group_bundles=[{"CPU": 1}, {"CPU": 1}],
        placement_group_bundle_label_selector=[{"zone": "a"}],
    )(Plain)
    told = made._replica_config.placement_group_bundle_label_selector
    assert told == [{"zone": "a"}, {"zone": "a"}]


def test_functions_take_no_arguments():
    with pytest.raises(ValueError, match="init_args not supported for function deployments"):
        serve.deployment(function).bind(1)
    with pytest.raises(ValueError, match="init_kwargs not supported for function deployments"):
        serve.deployment(function).bind(a=1)


def test_arguments_must_survive_pickling():
    with pytest.raises(TypeError, match="Could not serialize the deployment init args"):
        serve.deployment(Plain).bind(threading.Lock())
    with pytest.raises(TypeError, match="Could not serialize the deployment init kwargs"):
        serve.deployment(Plain).bind(lock=threading.Lock())


def test_local_classes_must_survive_pickling():
    lock = threading.Lock()

    with pytest.raises(TypeError, match="Could not serialize the deployment"):

        @serve.deployment
        class Locked:
            def __call__(self):
                return lock


def test_bind_keeps_the_arguments():
    bound = serve.deployment(Plain).bind(1, "a", key=[2])._bound_deployment
    assert bound.init_args == (1, "a")
    assert bound.init_kwargs == {"key": [2]}


def test_bind_gives_an_application():
    assert isinstance(serve.deployment(Plain).bind(), serve.Application)
