# SPDX-License-Identifier: Apache-2.0
"""What is started for the time to the first answer: a plain handler."""

from manta import serve


@serve.deployment
class Async:
    async def __call__(self):
        return b"hello"


app = Async.bind()
