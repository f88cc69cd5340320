# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, what it refuses, how it exits, and the shape of what programs read."""

import re
import signal
import subprocess

import pytest
from conftest import PATIENCE_S, wait_until
from plain_http import get

MIRROR = "tests/objects/libmirror.so:mirror"

pytestmark = pytest.mark.quick


# ---- help, version and misuse


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_names_every_command(manta_world, word):
    done = manta_world.command(word)
    assert (done.returncode, done.stderr) == (0, "")
    commands = re.findall(r"^  (\w+) +\w", done.stdout.partition("commands:")[2].partition("\n\n")[0], re.MULTILINE)
    assert commands == ["run", "start", "deploy", "status", "delete", "shutdown"]
    for variable in ("MANTA_INSTANCE", "MANTA_LIBEXEC", "MANTA_<SETTING>"):
        assert variable in done.stdout


@pytest.mark.parametrize("command", ["run", "start", "deploy", "status", "delete", "shutdown"])
@pytest.mark.parametrize("before", [[], ["--port"], ["whatever", "more"]])
def test_every_command_explains_itself(manta_world, command, before):
    done = manta_world.command(command, *before, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: manta {command}")
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_every_option_that_help_names_is_taken(manta_world):
    """Each option of `manta run --help` is known to the parser: what is complained of is the missing target."""
    text = manta_world.command("run", "--help").stdout
    options = re.findall(r"^  (--[a-z-]+)( [A-Z]+)?", text, re.MULTILINE)
    assert len(options) >= 10
    values = {" N": "1", " PORT": "0", " S": "1", " LEVEL": "INFO", " DIRECTORY": "/tmp", " PREFIX": "/x"}
    for option, kind in options:
        done = manta_world.command("run", option, *([values.get(kind, "x")] if kind else []))
        assert done.returncode == 2
        assert "say what to run" in done.stderr, option


def test_version_is_three_numbers(manta_world):
    done = manta_world.command("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"manta \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "usage: manta COMMAND"),
        (["serve"], "there is no command 'serve'"),
        (["run"], "say what to run"),
        (["run", "--colour", "red", "x.so:a"], "unknown option"),
        (["run", "--port"], "missing value"),
        (["run", "--port", "http", "x.so:a"], "--port is 'http', not a number from -1 to 65535"),
        (["run", "--port", "65536", "x.so:a"], "--port is '65536'"),
        (["run", "--port", "-2", "x.so:a"], "--port is '-2'"),
        (["run", "--port", "80x", "x.so:a"], "--port is '80x'"),
        (["run", "--port", "", "x.so:a"], "--port is ''"),
        (["run", "--proxies", "65", "x.so:a"], "--proxies is '65', not a number from 0 to 64"),
        (["run", "--request-timeout-s", "-1", "x.so:a"], "--request-timeout-s is '-1'"),
        (["run", "x.so:a", "key"], "'key' is not key=value"),
        (["status", "--yaml"], "unknown argument '--yaml'"),
        (["status", "house"], "unknown argument 'house'"),
        (["shutdown", "--now"], "unknown argument '--now'"),
    ],
)
def test_arguments_that_make_no_sense_are_named_and_exit_with_2(manta_world, arguments, complaint):
    done = manta_world.command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert "--help" in done.stderr
    assert manta_world.instances() == [] and manta_world.processes() == {}


@pytest.mark.parametrize(
    "setting, value, complaint",
    [
        ("MANTA_HTTP_HEAD_TIMEOUT_MS", "soon", "MANTA_HTTP_HEAD_TIMEOUT_MS"),
        ("MANTA_REQUEST_LIMIT", "0", "MANTA_REQUEST_LIMIT"),
        ("MANTA_WIRE_PART_SIZE", "99999999999999999999", "MANTA_WIRE_PART_SIZE"),
    ],
)
def test_a_setting_that_is_not_allowed_is_named_and_nothing_starts(manta_world, setting, value, complaint):
    done = manta_world.command("run", "--port", "0", f"{manta_world.build}/{MIRROR}", **{setting: value})
    assert done.returncode == 1
    assert complaint in done.stderr and value in done.stderr
    assert manta_world.instances() == [] and manta_world.processes() == {}


@pytest.mark.parametrize("level", ["LOUD", ""])
def test_a_log_level_that_is_none_is_named(manta_world, level):
    done = manta_world.command("run", "--port", "0", "--log-level", level, f"{manta_world.build}/{MIRROR}")
    assert done.returncode in (1, 2)
    assert "log-level" in done.stderr
    assert manta_world.processes() == {}


# ---- without an instance


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["shutdown", "--yes"]])
def test_without_an_instance_commands_say_so(manta_world, arguments):
    done = manta_world.command(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no instance 'default' is running" in done.stderr


def test_an_instance_that_is_named_must_run(manta_world):
    done = manta_world.command("run", f"{manta_world.build}/{MIRROR}", MANTA_INSTANCE="elsewhere")
    assert done.returncode == 1
    assert "no instance 'elsewhere' is running" in done.stderr
    done = manta_world.command("status", MANTA_INSTANCE="../etc")
    assert done.returncode == 1
    assert '"../etc" is no instance name' in done.stderr


def test_non_blocking_needs_an_instance_that_stays(manta_world):
    done = manta_world.command("run", "--non-blocking", f"{manta_world.build}/{MIRROR}")
    assert done.returncode == 1
    assert "--non-blocking needs a running instance" in done.stderr


# ---- run


def test_run_says_where_it_serves_and_goes_quietly(manta_run):
    with manta_run(MIRROR, options=["--route-prefix", "/here", "--name", "mine"]) as run:
        assert run.said(f"application 'mine' is running at http://127.0.0.1:{run.port}/here")
        assert run.get("/here/x").headers["x-path"] == "/here/x"
        assert list(run.status()["applications"]) == ["mine"]
        assert run.end() == 0
        assert run.leftovers() == []


def test_run_without_http_says_so(manta_run):
    with manta_run(MIRROR, options=["--port", "-1"]) as run:
        assert run.said("application 'default' is running, not reachable over HTTP")
        assert run.processes("manta-proxy") == []
        assert run.status()["applications"]["default"]["status"] == "RUNNING"
        assert run.end() == 0


def test_an_application_without_a_route_is_not_routed(manta_run):
    with manta_run(MIRROR, options=["--route-prefix", ""]) as run:
        assert run.said("application 'default' is running, not reachable over HTTP")
        assert run.status()["applications"]["default"]["status"] == "RUNNING"


def test_as_many_proxies_as_asked_for(manta_run):
    with manta_run(MIRROR, options=["--proxies", "3"]) as run:
        assert len(run.processes("manta-proxy")) == 3
        wait_until(lambda: len(run.status()["proxies"]) == 3, "all of them report")
        assert [run.get("/").status for _ in range(50)] == [200] * 50


def test_a_joined_run_takes_its_application_with_it_and_leaves_the_others(manta_service):
    with manta_service() as service:
        service.deploy("stays", "/", MIRROR)
        run = subprocess.Popen(
            [service.world.build / "src/cli/manta", "run", "--name", "goes", "--route-prefix", "/goes"]
            + [f"{service.world.build}/{MIRROR}"],
            env={**service.world.environment, "MANTA_INSTANCE": service.NAME},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert any(" is running" in line for line in run.stderr)  # up to there it is read
        wait_until(lambda: service.routes().get("/goes") == "goes", "the proxy knows it")
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=PATIENCE_S)
        assert run.returncode == 0, said
        wait_until(lambda: "/goes" not in service.routes(), "its route is gone")
        assert list(service.status()["applications"]) == ["stays"]
        assert get(service.port, "/goes").field("x-prefix") == "/"


# ---- status


def is_status(status):
    """Checks every key and type of `manta status --json`."""
    words = {
        "application": {"NOT_STARTED", "DEPLOYING", "DEPLOY_FAILED", "RUNNING", "UNHEALTHY", "DELETING"},
        "deployment": {"UPDATING", "HEALTHY", "UNHEALTHY", "DEPLOY_FAILED", "UPSCALING", "DOWNSCALING"},
        "replica": {"STARTING", "RUNNING", "STOPPING", "STOPPED"},
    }
    assert set(status) == {"applications", "proxies", "store"}
    assert set(status["store"]) == {"path", "notice", "trouble"}
    assert all(isinstance(text, str) for text in status["store"].values())
    assert all(re.fullmatch(r"proxy-\d+", name) for name in status["proxies"])
    assert set(status["proxies"].values()) <= {"STARTING", "HEALTHY", "UNHEALTHY", "DRAINING", "DRAINED"}
    for application in status["applications"].values():
        assert application["status"] in words["application"]
        assert isinstance(application["message"], str)
        assert application["route_prefix"] is None or application["route_prefix"].startswith("/")
        assert isinstance(application["last_deployed_time_s"], float)
        for deployment in application["deployments"].values():
            assert deployment["status"] in words["deployment"]
            assert re.fullmatch(r"[A-Z_]+", deployment["status_trigger"])
            assert isinstance(deployment["message"], str)
            assert set(deployment["replica_states"]) <= words["replica"]
            assert all(isinstance(count, int) and count > 0 for count in deployment["replica_states"].values())
    return True


def test_status_as_json_has_its_documented_shape(manta_house):
    status = manta_house.status()
    assert is_status(status)
    assert set(status["applications"]) == {"mirror", "replies", "puppet", "reader"}
    mirror = status["applications"]["mirror"]
    assert (mirror["status"], mirror["route_prefix"], mirror["message"]) == ("RUNNING", "/", "")
    deployment = mirror["deployments"]["mirror"]
    assert (deployment["status"], deployment["replica_states"]) == ("HEALTHY", {"RUNNING": 1})
    assert status["proxies"] == {"proxy-1": "HEALTHY"}


def test_status_for_people_says_the_same(manta_house):
    text = manta_house.command("status").stdout
    assert text.startswith("applications:\n  mirror:\n    status: \"RUNNING\"\n")
    assert text.count("status: \"HEALTHY\"") == 4
    assert "proxies:\n  proxy-1: \"HEALTHY\"\n" in text


def test_status_of_an_empty_instance_is_empty(manta_service):
    with manta_service() as service:
        status = wait_until(lambda: service.status()["proxies"] and service.status(), "the proxy reports")
        assert is_status(status)
        assert status["applications"] == {}


def test_status_shows_a_failed_application(manta_service):
    with manta_service() as service:
        target = f"{service.world.build}/tests/objects/liblife.so:open_fails"
        assert service.command("run", "--non-blocking", "--name", "bad", target).returncode == 1
        status = service.status()
        assert is_status(status)
        assert status["applications"]["bad"]["status"] == "DEPLOY_FAILED"
        assert "no model today" in status["applications"]["bad"]["message"]


# ---- shutdown


def test_shutdown_ends_the_instance_that_is_named_and_only_that(manta_service):
    with manta_service() as one, manta_service() as other:
        one.deploy("mirror", "/", MIRROR)
        other.deploy("mirror", "/", MIRROR)
        refused = one.command("shutdown")
        assert refused.returncode == 1 and "say --yes" in refused.stderr
        assert get(one.port, "/").status == 200
        done = one.command("shutdown", "--yes")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert one.process.wait(PATIENCE_S) == 0
        assert one.world.processes() == {} and one.world.instances() == []
        assert get(other.port, "/").status == 200
        assert one.command("status").returncode == 1
