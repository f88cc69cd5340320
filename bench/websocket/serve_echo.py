# SPDX-License-Identifier: Apache-2.0
"""Serves websocket_apps.echo_app on the port of the first argument until its input ends."""

import sys

import websocket_apps
from manta import serve

serve.start(http_options={"port": int(sys.argv[1])})
serve.run(websocket_apps.echo_app, route_prefix="/")
print("ready", flush=True)
sys.stdin.read()
serve.shutdown()
