# SPDX-License-Identifier: Apache-2.0
"""The environment variables of Ray Serve: each is honoured, refused, or known not to apply."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from manta._private import environment

RAY = json.loads((Path(__file__).parent / "ray_names.json").read_text())["environment"]
PACKAGE = Path(__file__).resolve().parents[2] / "python"


def told(code, **variables):
    """What a fresh interpreter with these variables prints."""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(PACKAGE), "PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return run.stdout.strip() if run.returncode == 0 else run.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("name", RAY)
def test_every_variable_of_ray_serve_has_its_row(name):
    rows = [
        name in table or (name.startswith("HAPROXY_") and "HAPROXY_*" in table)
        for table in (environment.HONOURED, environment.REFUSED, environment.NOT_APPLICABLE)
    ]
    assert rows.count(True) == 1


CONSTANTS = [
    ("DEFAULT_HTTP_HOST", "0.0.0.0", "DEFAULT_HTTP_HOST", "0.0.0.0"),
    ("FORCE_LOCAL_TESTING_MODE", "1", "FORCE_LOCAL_TESTING_MODE", "True"),
    ("FREEZE_GC_ON_STARTUP", "0", "FREEZE_GC_ON_STARTUP", "False"),
    ("LOG_TO_STDERR", "0", "LOG_TO_STDERR", "False"),
    ("ROUTER_RETRY_INITIAL_BACKOFF_S", "0.5", "ROUTER_INITIAL_BACKOFF_S", "0.5"),
    ("ROUTER_RETRY_BACKOFF_MULTIPLIER", "3", "ROUTER_BACKOFF_MULTIPLIER", "3.0"),
    ("ROUTER_RETRY_MAX_BACKOFF_S", "7", "ROUTER_MAX_BACKOFF_S", "7.0"),
    ("RUN_SYNC_IN_THREADPOOL", "0", "RUN_SYNC_IN_THREADPOOL", "False"),
    ("SESSION_ID_HEADER_KEY", "X-Mine", "SESSION_ID_HEADER", "x-mine"),
    ("TRACING_EXPORTER_IMPORT_PATH", "a:b", "TRACING_EXPORTER_IMPORT_PATH", "a:b"),
    ("TRACING_SAMPLING_RATIO", "0.5", "TRACING_SAMPLING_RATIO", "0.5"),
    ("USE_GRPC_BY_DEFAULT", "1", "HANDLES_BY_REFERENCE", "False"),
]


@pytest.mark.parametrize("prefix", ["RAY_SERVE_", "MANTA_SERVE_"])
@pytest.mark.parametrize(("name", "text", "constant", "value"), CONSTANTS)
def test_a_variable_is_honoured_under_both_names(prefix, name, text, constant, value):
    code = f"from manta._private import constants; print(constants.{constant})"
    assert told(code, **{prefix + name: text}) == value


def test_what_is_honoured_is_tried_or_turns_a_setting():
    tried = {name for name, *_ in CONSTANTS} | {"HTTP_KEEP_ALIVE_TIMEOUT_S"}
    settings = {name for name, row in environment.HONOURED.items() if row.setting}
    assert tried | settings == set(environment.HONOURED)


def test_mantas_name_goes_over_rays():
    code = "from manta._private import constants; print(constants.DEFAULT_HTTP_HOST)"
    both = {"RAY_SERVE_DEFAULT_HTTP_HOST": "1.1.1.1", "MANTA_SERVE_DEFAULT_HTTP_HOST": "2.2.2.2"}
    assert told(code, **both) == "2.2.2.2"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RAY_SERVE_ROUTER_RETRY_MAX_BACKOFF_S": "0"}, "RAY_SERVE_ROUTER_RETRY_MAX_BACKOFF_S"),
        ({"MANTA_SERVE_TRACING_SAMPLING_RATIO": "x"}, "MANTA_SERVE_TRACING_SAMPLING_RATIO is 'x'"),
    ],
)
def test_a_wrong_value_is_told_with_the_variables_name(variables, words):
    line = told("import manta.serve", **variables)
    assert line.startswith("ValueError")
    assert words in line


@pytest.fixture
def variables(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("MANTA_", "RAY_SERVE_")):
            monkeypatch.delenv(name)
    return monkeypatch


SETTINGS = [
    ("MAX_PER_REPLICA_RETRY_COUNT", "7", "MANTA_START_RETRY_LIMIT", "7"),
    ("MULTIPLEXED_MODEL_ID_MATCHING_TIMEOUT_S", "0.25", "MANTA_MODEL_MATCHING_TIMEOUT_MS", "250"),
    ("PROXY_GRACEFUL_SHUTDOWN_TIMEOUT_S", "5", "MANTA_DRAIN_TIMEOUT_MS", "5000"),
    ("SLOW_STARTUP_WARNING_S", "1.5", "MANTA_START_SLOW_MS", "1500"),
]


@pytest.mark.parametrize(("name", "text", "setting", "value"), SETTINGS)
def test_a_variable_of_an_instance_becomes_its_setting_while_it_starts(
    variables, name, text, setting, value
):
    variables.setenv(f"RAY_SERVE_{name}", text)
    with environment.settings():
        assert os.environ[setting] == value
    assert setting not in os.environ


def test_every_setting_that_a_variable_turns_is_tried_and_exists():
    assert {row.setting for row in environment.HONOURED.values() if row.setting} == {
        setting for _, _, setting, _ in SETTINGS
    }
    page = (PACKAGE.parent / "docs/reference/settings.md").read_text()
    assert all(f"`{setting}`" in page for _, _, setting, _ in SETTINGS)


def test_a_setting_by_its_own_name_stays(variables):
    variables.setenv("RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT", "7")
    variables.setenv("MANTA_START_RETRY_LIMIT", "2")
    with environment.settings():
        assert os.environ["MANTA_START_RETRY_LIMIT"] == "2"
    assert os.environ["MANTA_START_RETRY_LIMIT"] == "2"


def test_a_setting_below_its_least_is_refused(variables):
    variables.setenv("RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT", "0")
    with pytest.raises(ValueError, match="RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT is 0; the least"):
        with environment.settings():
            raise AssertionError("it was taken")


@pytest.mark.parametrize("name", sorted(environment.REFUSED))
def test_a_refused_variable_says_what_to_do_instead(variables, name):
    environment.check_refused()
    variables.setenv(f"RAY_SERVE_{name}", "module:function")
    with pytest.raises(ValueError, match=f"RAY_SERVE_{name} is set, but the .* is not a Python"):
        environment.check_refused()
