# SPDX-License-Identifier: Apache-2.0
"""A real browser for the system tests: headless Chromium, spoken to over its debugging pipe.

    with browser.opened(tmp_path) as chromium:
        page = chromium.page(f"http://127.0.0.1:{port}/docs")
        page.wait_for("document.querySelectorAll('.opblock').length == 2")
        page.evaluate("document.querySelector('button').click()")
        assert page.complaints == []

Every wait has a limit and says what it waited for.  `missing()` says why there is no browser here.
The protocol is Chrome's DevTools protocol (https://chromedevtools.github.io/devtools-protocol/): JSON
documents, each with a NUL behind it, on two descriptors.
"""

import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

import pytest

PATIENCE_S = 60
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage --disable-extensions --mute-audio
    --remote-debugging-pipe""".split()


def find_chromium():
    named = os.environ.get("MANTA_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def missing():
    """Why no browser can be opened, or None."""
    return None if find_chromium() else "there is no chromium (./dev test installs it; MANTA_CHROMIUM names another)"


class Page:
    """One tab."""

    def __init__(self, browser, session):
        self.browser, self.session = browser, session
        self.complaints = []  # what the page logged as an error, threw, or failed to load
        self.loaded = []  # addresses that were asked for

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def evaluate(self, script):
        """The value of an expression; a promise is waited for."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            pytest.fail(f"{script}: {told['exceptionDetails']}")
        return told["result"].get("value")

    def wait_for(self, script, patience_s=PATIENCE_S):
        """The first true value of an expression."""
        limit = time.monotonic() + patience_s
        while True:
            value = self.evaluate(script)
            if value:
                return value
            if time.monotonic() > limit:
                text = self.evaluate("document.body ? document.body.innerText : ''")
                pytest.fail(f"not within {patience_s} s: {script}\n{self.complaints}\nthe page says:\n{text}")
            self.browser.turn(0.05)

    def text(self):
        return self.evaluate("document.body.innerText")

    def told(self, method, parameters):
        """An event of this tab."""
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"].get("exception", parameters)))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            self.complaints.append(str([argument.get("value", argument.get("description")) for argument in parameters["args"]]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(f"{parameters['entry']['text']} ({parameters['entry'].get('url', '')})")
        elif method == "Network.requestWillBeSent":
            self.loaded.append(parameters["request"]["url"])


class Browser:
    """One Chromium with a profile of its own."""

    def __init__(self, process, requests, answers):
        self.process, self.requests, self.answers = process, requests, answers
        self.rest = b""
        self.last = 0
        self.results = {}  # number of a call -> its answer
        self.pages = {}  # session -> Page

    def page(self, address):
        """A new tab that goes to the address."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        for domain in ("Runtime", "Log", "Network", "Page"):
            page.call(f"{domain}.enable")
        told = page.call("Page.navigate", url=address)
        if told.get("errorText"):
            pytest.fail(f"{address}: {told['errorText']}")
        return page

    def call(self, method, session=None, **parameters):
        self.last += 1
        document = {"id": self.last, "method": method, "params": parameters}
        if session:
            document["sessionId"] = session
        left = json.dumps(document).encode() + b"\0"
        while left:
            left = left[os.write(self.requests, left) :]
        limit = time.monotonic() + PATIENCE_S
        while self.last not in self.results:
            if time.monotonic() > limit:
                pytest.fail(f"the browser did not answer {method} within {PATIENCE_S} s")
            self.turn(0.5)
        answer = self.results.pop(self.last)
        if "error" in answer:
            pytest.fail(f"{method}: {answer['error']}")
        return answer["result"]

    def turn(self, seconds):
        """Takes what the browser tells within so much time."""
        if not select.select([self.answers], [], [], seconds)[0]:
            return
        got = os.read(self.answers, 1 << 20)
        if not got:
            pytest.fail(f"the browser ended with {self.process.wait()}")
        *documents, self.rest = (self.rest + got).split(b"\0")
        for document in map(json.loads, documents):
            if "id" in document:
                self.results[document["id"]] = document
            elif document.get("sessionId") in self.pages:
                self.pages[document["sessionId"]].told(document["method"], document["params"])


def high_pipe():
    """A pipe whose descriptors are none of those that the shell will set."""
    low = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low)
    for end in low:
        os.close(end)
    return high


@contextlib.contextmanager
def opened(folder):
    """A browser whose profile and log lie in the folder; skips the test where there is none."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    told_to, we_say = high_pipe()
    we_hear, it_says = high_pipe()
    # Chromium reads its descriptor 3 and writes its descriptor 4; the shell moves ours there.
    command = [find_chromium(), *FLAGS, f"--user-data-dir={folder}/profile", "about:blank"]
    shell = ["bash", "-c", f'exec "$@" 3<&{told_to} 4>&{it_says}', "bash", *command]
    log = (folder / "chromium.log").open("wb")
    process = subprocess.Popen(
        shell, pass_fds=(told_to, it_says), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    os.close(told_to)
    os.close(it_says)
    try:
        browser = Browser(process, we_say, we_hear)
        browser.call("Browser.getVersion")
        yield browser
        browser.call("Browser.close")
        process.wait(PATIENCE_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
        os.close(we_say)
        os.close(we_hear)
        log.close()
        tail = (folder / "chromium.log").read_text(errors="replace").splitlines()[-30:]
        print("---- chromium", *tail, sep="\n")
