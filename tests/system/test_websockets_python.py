# SPDX-License-Identifier: Apache-2.0
"""Websockets of Python applications from end to end, as ASGI tells them.

What is the same with Ray Serve stands in tests/conform/programs/websocket.py; here is what Manta does better, and
what must hold when something goes wrong.
"""

import subprocess
import textwrap

import pytest
from conftest import PATIENCE_S, wait_until
from test_python import PRELUDE

CLIENT = """
import websocket_apps as apps
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

serve.run(apps.Talker.bind())
BASE = f"ws://127.0.0.1:{PORT}"

async def end_of(path, say=None):
    async with connect(BASE + path) as ws:
        if say:
            await ws.send(say)
        try:
            while True:
                await asyncio.wait_for(ws.recv(), 60)
        except ConnectionClosed:
            return ws.close_code, ws.close_reason

def run(app, name):
    serve.run(app, name=name, route_prefix=f"/{name}")
    until(lambda: f"/{name}" in json.loads(get("/-/routes")[1]), "the proxy knows the route")

def told():
    return json.loads(get("/told")[1])
"""


@pytest.fixture
def talk(python_world, interpreter):
    """talk(code): runs a driver with the applications of websocket_apps.py; it must end well."""


    def run(code):
        script = python_world.directory / "driver.py"
        script.write_text(PRELUDE + CLIENT + textwrap.dedent(code))
        done = subprocess.run(
            [interpreter, script],
            env=python_world.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-8000:]}"
        wait_until(lambda: not python_world.processes(), "all processes of the driver end")
        return done

    return run


def test_every_end_has_its_code(talk):
    talk(
        """
        assert asyncio.run(end_of("/fails"))[0] == 1011
        assert asyncio.run(end_of("/returns")) == (1000, "")
        assert asyncio.run(end_of("/dies", "now"))[0] == 1011

        async def vanish():
            ws = await connect(BASE + "/echo")
            await ws.send("x")
            await ws.recv()
            ws.transport.abort()

        until(lambda: get("/told")[0] == 200, "the next replica serves")
        asyncio.run(vanish())
        until(lambda: told() == [[1006, ""]], "the application is told")
        """
    )


def test_a_rollout_is_1012_for_the_client_and_the_application(talk):
    talk(
        """
        async def roll():
            async with connect(BASE + "/echo") as ws:
                await ws.send("x")
                assert await ws.recv() == "x"
                deploy = asyncio.create_task(asyncio.to_thread(serve.run, apps.Talker.bind(2)))
                try:
                    await asyncio.wait_for(ws.recv(), 60)
                except ConnectionClosed:
                    assert (ws.close_code, ws.close_reason) == (1012, "service restart"), ws.close_code
                async with connect(BASE + "/echo") as other:
                    await other.send("y")
                    assert await other.recv() == "y"
                await deploy

        asyncio.run(roll())
        """
    )


def test_a_deployment_without_an_asgi_application_says_501(talk):
    talk(
        """
        run(apps.Plain.bind(), "plain")
        try:
            asyncio.run(end_of("/plain"))
        except InvalidStatus as refused:
            assert refused.response.status_code == 501
        else:
            raise AssertionError("accepted")
        assert get("/plain")[1] == b"plain"
        """
    )


def test_an_application_that_does_not_receive_stops_its_client_and_loses_nothing(talk):
    talk(
        """
        import tempfile
        name = tempfile.mktemp()

        async def push():
            before = json.loads(get("/memory")[1])
            async with connect(f"{BASE}/deaf?until={name}", compression=None) as ws:
                sent = 0
                async def send():
                    nonlocal sent
                    for _ in range(200):
                        await ws.send(bytes(1_000_000))
                        sent += 1
                sending = asyncio.create_task(send())
                last = -1
                while last != sent:  # until it stands still
                    last = sent
                    await asyncio.sleep(0.5)
                assert not sending.done() and sent < 60, sent
                grown = json.loads((await asyncio.to_thread(get, "/memory"))[1]) - before
                assert grown < 20_000, grown
                open(name, "w").close()
                await sending
            return 200_000_000

        whole = asyncio.run(push())
        until(lambda: told() == [whole], "everything arrives")
        os.unlink(name)
        """
    )


def test_what_is_sent_to_a_client_that_left_is_dropped(talk):
    talk(
        """
        async def leave():
            async with connect(BASE + "/talks_on") as ws:
                assert await ws.recv() == "go"
                await ws.close(1001)

        asyncio.run(leave())
        until(lambda: told() == ["sent", 1001], "the application goes on to its end")
        """
    )


def test_one_task_may_close_while_another_receives(talk):
    talk(
        """
        assert asyncio.run(end_of("/other_task"))[0] == 3002
        until(lambda: told() == ["Another task is receiving from this websocket.", 3002], "both are told")
        """
    )


def test_a_receive_that_is_given_up_loses_no_message(talk):
    talk(
        """
        async def tease():
            async with connect(BASE + "/impatient") as ws:
                for number in range(50):
                    await asyncio.sleep(0.003 * (number % 7))
                    await ws.send(str(number))
                heard = []
                while len(heard) < 50:
                    text = await asyncio.wait_for(ws.recv(), 60)
                    if text != "nothing yet":
                        heard.append(text)
                assert heard == [str(number) for number in range(50)]

        asyncio.run(tease())
        """
    )


def test_an_application_without_a_framework(talk):
    talk(
        """
        run(apps.Framework.bind(), "bare")

        async def converse():
            async with connect(BASE + "/bare") as ws:
                assert await ws.recv() == "once only"
                await ws.send(b"x")
                assert await ws.recv() == "['bytes', 'type']"
            try:
                await ws.recv()
            except ConnectionClosed:
                assert (ws.close_code, ws.close_reason) == (3001, "done")

        asyncio.run(converse())
        """
    )


def test_thirty_thousand_messages_leave_a_replica_as_it_was(talk):
    talk(
        """
        async def converse(count):
            async with connect(BASE + "/echo", compression=None) as ws:
                for _ in range(count // 200):
                    for _ in range(200):
                        await ws.send("x" * 100)
                    for _ in range(200):
                        await ws.recv()

        asyncio.run(converse(5_000))
        before = json.loads(get("/memory")[1])
        asyncio.run(converse(30_000))
        grown = json.loads(get("/memory")[1]) - before
        assert grown < 2_000, grown
        """
    )
