# SPDX-License-Identifier: Apache-2.0
"""The echo that is measured: one Starlette application, as uvicorn runs it and as an ingress holds it."""

import os

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect


async def echo(websocket):
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


app = Starlette(routes=[WebSocketRoute("/", echo)])

if os.environ.get("BENCH_SERVE"):
    from manta import serve

    @serve.deployment(max_ongoing_requests=1000)
    @serve.ingress(app)
    class Echo:
        pass

    echo_app = Echo.bind()
