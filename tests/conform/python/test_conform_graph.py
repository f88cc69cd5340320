# SPDX-License-Identifier: Apache-2.0
"""``bind`` graphs: which deployments they become, under which names, with which handles."""

from dataclasses import dataclass

import pytest
from subject import build, exceptions, handle, run, serve


class Node:
    def __init__(self, *args, **kwargs):
        self.args = args
        self.kwargs = kwargs


def names(built):
    return [deployment.name for deployment in built.deployments]


def test_one_deployment():
    built = build(serve.deployment(Node).bind())
    assert names(built) == ["Node"]
    assert built.ingress_deployment_name == "Node"


def test_callees_come_before_callers():
    node = serve.deployment(Node)
    built = build(node.options(name="top").bind(node.options(name="below").bind()))
    assert names(built) == ["below", "top"]
    assert built.ingress_deployment_name == "top"


def test_same_name_gets_a_suffix():
    node = serve.deployment(Node)
    built = build(node.bind(node.bind(), node.bind()))
    assert names(built) == ["Node", "Node_1", "Node_2"]
    assert built.ingress_deployment_name == "Node_2"


def test_one_application_in_two_places_is_one_deployment():
    node = serve.deployment(Node)
    shared = node.options(name="shared").bind()
    left, right = node.options(name="l").bind(shared), node.options(name="r").bind(shared)
    built = build(node.options(name="top").bind(left, right))
    assert names(built) == ["shared", "l", "r", "top"]


def test_bound_nodes_become_handles():
    node = serve.deployment(Node)
    built = build(node.options(name="top").bind(node.bind(), key=node.bind()), name="app")
    top = built.deployments[-1]
    assert isinstance(top.init_args[0], handle.DeploymentHandle)
    assert top.init_args[0].deployment_name == "Node"
    assert top.init_args[0].app_name == "app"
    assert top.init_kwargs["key"].deployment_name == "Node_1"


@dataclass
class Holder:
    inside: object


def test_nodes_are_found_in_containers_and_objects():
    node = serve.deployment(Node)
    built = build(
        node.options(name="top").bind([node.bind()], {"k": (node.bind(),)}, Holder(node.bind()))
    )
    args = built.deployments[-1].init_args
    assert args[0][0].deployment_name == "Node"
    assert args[1]["k"][0].deployment_name == "Node_1"
    assert args[2].inside.deployment_name == "Node_2"


def test_the_same_node_twice_in_one_call_is_one_handle_each():
    node = serve.deployment(Node)
    shared = node.bind()
    built = build(node.options(name="top").bind(shared, [shared]))
    args = built.deployments[-1].init_args
    assert args[0].deployment_name == args[1][0].deployment_name == "Node"
    assert names(built) == ["Node", "top"]


def test_arguments_are_copies():
    given = [1, 2]
    built = build(serve.deployment(Node).bind(given))
    given.append(3)
    assert built.deployments[0].init_args[0] == [1, 2]


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("x", "must start with a forward slash"),
        ("", "must start with a forward slash"),
        ("/x/", "may not end with a trailing"),
        ("/{x}", "may not contain wildcards"),
    ],
)
def test_route_prefix_is_refused(prefix, message):
    with pytest.raises(ValueError, match=message):
        run(serve.deployment(Node).bind(), route_prefix=prefix)


@pytest.mark.parametrize("prefix", [None, "/", "/x", "/x/y"])
def test_route_prefix_is_taken(prefix):
    run(serve.deployment(Node).bind(), route_prefix=prefix)


def test_run_wants_an_application():
    for wrong in (serve.deployment(Node), Node, None):
        with pytest.raises(TypeError, match="expects an `Application` returned by"):
            run(wrong)


def test_run_wants_a_name():
    with pytest.raises(exceptions.RayServeException, match="non-empty string"):
        run(serve.deployment(Node).bind(), name="")


def test_run_many_wants_targets():
    with pytest.raises(ValueError, match="No applications provided"):
        serve.run_many([], _local_testing_mode=True)


def test_run_target_has_the_defaults_of_run():
    target = serve.RunTarget(serve.deployment(Node).bind())
    assert (target.name, target.route_prefix) == ("default", "/")
    assert (target.logging_config, target.external_scaler_enabled) == (None, False)
    with pytest.raises(AttributeError):
        target.name = "x"


def test_run_many_gives_a_handle_for_each():
    node = serve.deployment(Node)
    targets = [
        serve.RunTarget(node.options(name=name).bind(), name=name, route_prefix=f"/{name}")
        for name in ("a", "b")
    ]
    handles = serve.run_many(targets, _local_testing_mode=True)
    assert [h.deployment_name for h in handles] == ["a", "b"]
    assert [h.app_name for h in handles] == ["a", "b"]
