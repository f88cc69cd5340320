# SPDX-License-Identifier: Apache-2.0
"""docs/first-steps.md, done to the letter: its files are written, its commands run, its answers compared.

What the page may hold: `python` is a file, named by the words before it; `sh` are commands, in the folder where those
before them ended; `sh server` stays until the next such; `text` is what the commands before it have written, or
a part of it.
"""

import re
import subprocess

import pytest
from conftest import PATIENCE_S, ROOT, World, wait_until
from test_packaging import BUILD_PATIENCE_S, package_index  # noqa: F401  (a fixture)

PAGE = ROOT / "docs/first-steps.md"
FENCE = re.compile(r"^```([a-z ]+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def steps_of(page):
    """(kind, text, the words before it) of each fenced part."""
    steps, end = [], 0
    for match in FENCE.finditer(page):
        steps.append((match[1], match[2], page[end : match.start()]))
        end = match.end()
    return steps


class Walker:
    """Somebody who does what the page says."""

    def __init__(self, world, home, port):
        self.world, self.home, self.port = world, home, port
        self.world.environment |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
        self.folder = ROOT
        self.server = None
        self.output = ""

    def shell(self, text):
        """The words for bash: in the folder, with the environment that was activated before."""
        activate = self.home / "try-manta/bin/activate"
        begin = f"cd '{self.folder}'\n" + (f". '{activate}'\n" if activate.exists() else "")
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}").replace("manta run ", f"manta run --port {self.port} ")
        return ["bash", "-ec", begin + text.replace("curl ", "curl -sS --max-time 60 ")]

    def take(self, kind, text, before):
        if kind == "python":
            name = re.findall(r"`([a-z_]+\.py)`", before)[-1]
            (self.folder / name).write_text(text)
        elif kind == "sh server":
            self.end_server()
            self.start_server(text)
        elif kind == "sh":
            self.run(text)
        else:
            assert kind == "text", f"the page has a part of a kind that this test does not know: {kind}"
            assert text.strip() in self.output, f"it shows\n{text}\nbut it was\n{self.output}"

    def run(self, text):
        pwd = self.home / "pwd"
        done = subprocess.run(
            self.shell(f"{text}pwd >'{pwd}'\n"),
            env=self.world.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_PATIENCE_S,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        self.output = done.stdout
        self.folder = self.folder.__class__(pwd.read_text().strip())

    def start_server(self, text):
        log = self.home / "server.log"
        with log.open("w") as stderr:
            self.server = subprocess.Popen(
                self.shell(f"exec {text}"), env=self.world.environment, stdin=subprocess.DEVNULL, stderr=stderr, start_new_session=True
            )
        wait_until(lambda: " is running at " in log.read_text() or self.server.poll() is not None, f"`{text.strip()}` serves")
        assert self.server.poll() is None, log.read_text()

    def end_server(self):
        """Ctrl-C."""
        if self.server:
            self.server.send_signal(2)
            assert self.server.wait(PATIENCE_S) == 0
            wait_until(lambda: not self.world.processes(), "everything has ended with the command")
            self.server = None


@pytest.mark.slow
def test_the_first_steps_lead_where_the_page_says(package_index, manta_build, tmp_path, free_port):  # noqa: F811
    page = PAGE.read_text()
    steps = steps_of(page)
    assert page.count("```") == 2 * len(steps) and {"python", "sh", "sh server", "text"} == {kind for kind, _, _ in steps}
    world = World(manta_build)
    walker = Walker(world, tmp_path, free_port)
    try:
        for number, (kind, text, before) in enumerate(steps):
            # Where a server is of no more use, the page says to end it.
            if "End it with Ctrl-C" in before and walker.server and kind != "sh server":
                walker.end_server()
            walker.take(kind, text, before)
            print(f"step {number + 1} of {len(steps)}: {kind}")
        walker.end_server()
    finally:
        if walker.server:
            walker.server.kill()
            walker.server.wait()
        world.clear()
