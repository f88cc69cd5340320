# SPDX-License-Identifier: Apache-2.0
"""What kind of file is this?  Magika's pretrained network as a service, in batches.

    manta run --app-dir examples/python/filetypes filetypes:app
    curl --data-binary @README.md http://127.0.0.1:8000/     # {"label":"markdown", ...}

Requests that come together go through the network together.  Magika forms batches of paths only, so each
body is lent to it under a name in memory: nothing is written to a disk.
"""

import contextlib
import os

from magika import Magika
from manta import serve
from starlette.requests import Request
from starlette.responses import JSONResponse


@contextlib.contextmanager
def named(body: bytes):
    """A path under which the body can be read while the block runs."""
    descriptor = os.memfd_create("body")
    try:
        left = memoryview(body)
        while left:
            left = left[os.write(descriptor, left) :]
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@serve.deployment(max_ongoing_requests=64)
class FileTypes:
    def __init__(self):
        self.magika = Magika()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002)
    async def identify(self, bodies: list[bytes]) -> list[dict]:
        with contextlib.ExitStack() as stack:
            paths = [stack.enter_context(named(body)) for body in bodies]
            results = self.magika.identify_paths(paths)
        return [
            {
                "label": result.output.label,
                "description": result.output.description,
                "mime_type": result.output.mime_type,
                "group": result.output.group,
                "score": round(result.score, 3),
            }
            for result in results
        ]

    async def __call__(self, request: Request):
        if request.method not in ("POST", "PUT"):
            return JSONResponse({"detail": "send a file as the body of a POST"}, 405, {"allow": "POST, PUT"})
        return await self.identify(await request.body())


app = FileTypes.bind()
