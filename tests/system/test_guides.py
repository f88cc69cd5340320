# SPDX-License-Identifier: Apache-2.0
"""The guides' programs run as they are written: each page's blocks, one after the other."""

import re
import subprocess

import pytest
from conftest import PATIENCE_S, ROOT

GUIDES = sorted(
    page.stem for page in (ROOT / "docs/guides").glob("*.md") if "serve.run(" in page.read_text()
)
PRELUDE = """from manta import serve
serve.start(http_options={"port": 0})
"""


@pytest.mark.parametrize("guide", GUIDES)
def test_the_blocks_of_a_guide_run_and_what_they_assert_is_so(python_world, interpreter, guide):
    page = (ROOT / f"docs/guides/{guide}.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert blocks
    script = python_world.directory / f"{guide}_guide.py"
    script.write_text(PRELUDE + "\n".join(blocks) + "\nprint('to the end')\n")
    done = subprocess.run(
        [interpreter, script],
        env=python_world.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.endswith("to the end\n")
