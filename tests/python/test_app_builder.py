# SPDX-License-Identifier: Apache-2.0
"""Applications by import path, and the file's options over those of the code."""

import pytest
from manta import serve
from manta._private import app_builder, graph

pytest.importorskip("pydantic")


@serve.deployment(num_replicas=2, user_config={"a": 1})
class Inner:
    def reconfigure(self, config):
        pass


@serve.deployment
class Outer:
    def __init__(self, inner):
        pass


app = Outer.bind(Inner.bind())


def build(args):
    return Outer.options(num_replicas=args.get("count", 1)).bind(Inner.bind())


def test_by_path():
    assert app_builder.load(f"{__name__}:app", {}) is app
    made = app_builder.load(f"{__name__}.build", {"count": 4})
    assert made._bound_deployment.num_replicas == 4


def overridden(**application):
    from manta.serve.schema import ServeApplicationSchema

    schema = ServeApplicationSchema(import_path="a:b", **application)
    built = graph.build_app(app, name="a")
    return {d.name: d for d in app_builder.override(built.deployments, schema)}


def test_only_what_the_file_says_changes():
    made = overridden(deployments=[{"name": "Inner", "num_replicas": 5}])
    assert (made["Inner"].num_replicas, made["Inner"].user_config) == (5, {"a": 1})
    assert made["Outer"].num_replicas == 1
    assert list(made) == ["Inner", "Outer"]


def test_auto_and_the_rest():
    made = overridden(
        deployments=[
            {
                "name": "Inner",
                "num_replicas": "auto",
                "rolling_update_percentage": 0.5,
                "ray_actor_options": {"num_cpus": 2},
                "max_ongoing_requests": 9,
            }
        ]
    )["Inner"]
    assert made._deployment_config.autoscaling_config.max_replicas == 100
    assert made._deployment_config.rolling_update_percentage == 0.5
    assert made.ray_actor_options == {"num_cpus": 2}
    assert made.max_ongoing_requests == 9


def test_an_unknown_deployment_is_refused():
    with pytest.raises(ValueError, match="Deployment 'Gone' does not exist. Available:"):
        overridden(deployments=[{"name": "Gone"}])


def test_the_applications_environment_is_inherited():
    own = {"name": "Inner", "ray_actor_options": {"runtime_env": {"env_vars": {"A": "own"}}}}
    made = overridden(
        runtime_env={"env_vars": {"A": "app", "B": "app"}, "working_dir": "s3://x/y.zip"},
        deployments=[own],
    )
    assert made["Inner"].ray_actor_options["runtime_env"] == {
        "env_vars": {"A": "own", "B": "app"},
        "working_dir": "s3://x/y.zip",
    }
    assert made["Outer"].ray_actor_options["runtime_env"]["env_vars"]["A"] == "app"


def test_an_application_described_as_a_file():
    told = app_builder.describe(app, "module:app", "app1", "/")
    assert told["import_path"] == "module:app"
    assert told["deployments"] == [
        {"name": "Inner", "num_replicas": 2, "user_config": {"a": 1}},
        {"name": "Outer"},
    ]
