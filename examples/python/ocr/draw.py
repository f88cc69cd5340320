# SPDX-License-Identifier: Apache-2.0
"""Draws a picture with lines of text, so that there is something to read.

python draw.py picture.png 'Harbour street 12' 'Open 9 to 17'
"""

import sys

from PIL import Image, ImageDraw, ImageFont


def draw(lines: list[str]) -> Image.Image:
    """A white picture with the lines below each other."""
    picture = Image.new("RGB", (640, 40 + 60 * len(lines)), "white")
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        pen.text((30, 10 + 60 * number), line, fill="black", font=ImageFont.load_default(size=40))
    return picture


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    draw(sys.argv[2:]).save(sys.argv[1])
