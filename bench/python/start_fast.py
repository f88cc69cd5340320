# SPDX-License-Identifier: Apache-2.0
"""What is started for the time to the first answer: a FastAPI application."""

from fastapi import FastAPI
from manta import serve

api = FastAPI()


@api.get("/")
async def hello():
    return {"hello": "world"}


@serve.deployment
@serve.ingress(api)
class Fast:
    pass


app = Fast.bind()
