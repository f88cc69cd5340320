# SPDX-License-Identifier: Apache-2.0
"""Text in pictures: find the lines, then read them, with a deployment for each.

    manta run --app-dir examples/python/ocr ocr:app
    curl --data-binary @picture.png http://127.0.0.1:8000/read

Pictures travel between the deployments as numpy arrays, large ones by reference.  The networks are those that come with the package
rapidocr-onnxruntime.
"""

import asyncio
import io

import cv2
import numpy as np
from fastapi import FastAPI, HTTPException, Request
from manta import serve
from PIL import Image, UnidentifiedImageError
from rapidocr_onnxruntime.ch_ppocr_det import TextDetector
from rapidocr_onnxruntime.ch_ppocr_rec import TextRecognizer
from rapidocr_onnxruntime.main import DEFAULT_CFG_PATH
from rapidocr_onnxruntime.utils import read_yaml, update_model_path

LARGEST_PIXELS = 20_000_000  # of a picture that is accepted

api = FastAPI(title="Text in pictures")


def settings_of(part: str) -> dict:
    """What the package says about one of its networks; one thread each, because replicas are the parallel part."""
    settings = update_model_path(read_yaml(DEFAULT_CFG_PATH))[part]
    return {**settings, "intra_op_num_threads": 1, "inter_op_num_threads": 1}


@serve.deployment(max_ongoing_requests=4)
class Detector:
    """Where is text?  A picture in, the corners of every line out."""

    def __init__(self):
        self.network = TextDetector(settings_of("Det"))

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        corners, _ = self.network(picture)
        if corners is None or len(corners) == 0:
            return np.empty((0, 4, 2), np.float32)
        # As people read: from above to below, from left to right.
        return corners[np.lexsort((corners[:, 0, 0], corners[:, 0, 1] // 10))]


@serve.deployment(max_ongoing_requests=32)
class Recogniser:
    """What does it say?  The picture of one line in, its text and a score out.  Lines are read in batches."""

    def __init__(self):
        self.network = TextRecognizer(settings_of("Rec"))

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.01)
    async def __call__(self, lines: list[np.ndarray]) -> list[tuple[str, float]]:
        found, _ = self.network(lines)
        return [(text, float(score)) for text, score in found]


def cut_out(picture: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The line between four corners, turned so that it lies flat."""
    left_above, right_above, right_below, left_below = corners
    width = int(max(np.linalg.norm(left_above - right_above), np.linalg.norm(left_below - right_below)))
    height = int(max(np.linalg.norm(left_above - left_below), np.linalg.norm(right_above - right_below)))
    flat = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    turned = cv2.getPerspectiveTransform(corners.astype(np.float32), flat)
    return cv2.warpPerspective(picture, turned, (width, height), borderMode=cv2.BORDER_REPLICATE)


def picture_of(body: bytes) -> np.ndarray:
    """The body as rows of pixels, blue first, as the networks were trained."""
    try:
        with Image.open(io.BytesIO(body)) as picture:
            if picture.width * picture.height > LARGEST_PIXELS:
                raise HTTPException(413, f"a picture has at most {LARGEST_PIXELS} pixels")
            pixels = np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise HTTPException(422, f"not a picture: {error}") from error
    return np.ascontiguousarray(pixels[:, :, ::-1])


@serve.deployment
@serve.ingress(api)
class Reader:
    def __init__(self, detector, recogniser):
        self.detector = detector
        self.recogniser = recogniser

    @api.post("/read")
    async def read(self, request: Request) -> dict:
        picture = picture_of(await request.body())
        places = await self.detector.remote(picture)
        calls = [self.recogniser.remote(cut_out(picture, place)) for place in places]
        texts = await asyncio.gather(*calls)
        lines = [
            {"text": text, "score": round(score, 3), "corners": place.astype(int).tolist()}
            for (text, score), place in zip(texts, places)
        ]
        return {"lines": lines}


app = Reader.bind(Detector.bind(), Recogniser.bind())
