# SPDX-License-Identifier: Apache-2.0
"""A front in Python, and the work in C: the edges of a picture (edges.c).

    curl --data-binary @picture.png http://127.0.0.1:8000/pictures/edges >edges.png

The deployment in C is an application of its own in the same instance; README.md says how both are run.
"""

import io

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from manta import serve
from manta.exceptions import RayError
from PIL import Image, UnidentifiedImageError

api = FastAPI(title="Edges")


@serve.deployment
@serve.ingress(api)
class Pictures:
    def __init__(self, application: str = "edges"):
        # What is not bound to this application is found by its name.
        self.edges = serve.get_deployment_handle("edges", application)

    @api.post("/edges")
    async def find_edges(self, request: Request):
        try:
            with Image.open(io.BytesIO(await request.body())) as picture:
                grey = np.asarray(picture.convert("L"))
        except (UnidentifiedImageError, OSError) as error:
            raise HTTPException(422, f"not a picture: {error}") from error
        try:
            found = await self.edges.remote(grey)
        except RayError as error:
            # What the C code said with manta_request_fail.
            raise HTTPException(422, str(error)) from error
        answer = io.BytesIO()
        Image.fromarray(found).save(answer, "png")
        share = float((found > 64).mean())
        return Response(answer.getvalue(), media_type="image/png", headers={"x-edges": f"{share:.3f}"})


def build(args: dict):
    """edges=NAME is the application in C."""
    return Pictures.bind(args.get("edges", "edges"))
