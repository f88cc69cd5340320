# SPDX-License-Identifier: Apache-2.0
"""What became of every request of a load (open_loop.c), and what that adds up to."""

import collections
import dataclasses
import subprocess

BROKEN, REFUSED, UNANSWERED = 0, -1, -2
WORDS = {BROKEN: "broken off", REFUSED: "refused", UNANSWERED: "never answered"}
MS = 1e6

Request = collections.namedtuple("Request", "due sent done outcome born word")


@dataclasses.dataclass
class Moment:
    """What was done to the system while the load ran; times are CLOCK_MONOTONIC's nanoseconds."""

    begin_ns: int
    gone_ns: int = 0  # of a kill: when the process had ended
    end_ns: int = 0  # when it was over: a new version serves, who stood still goes on
    facts: dict = dataclasses.field(default_factory=dict)


class Load:
    """A running load; `with Load(...) as load`, then load.end() and load.requests."""

    def __init__(self, program, port, rate, out, patience=8):
        command = [program, "--port", port, "--rate", rate, "--seconds", 120, "--patience", patience, "--out", out]
        self.out = out
        self.rate = rate
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.began_ns = int(self.process.stdout.readline().split()[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def end(self):
        """Stops sending, waits for what is out, and returns every request."""
        self.process.terminate()
        if self.process.wait(60) != 0:
            raise RuntimeError(f"the load ended with status {self.process.returncode}")
        return [self._read(line) for line in self.out.read_text().splitlines() if not line.startswith("0 ")]

    @staticmethod
    def _read(line):
        *numbers, word = line.split()
        return Request(*(int(number) for number in numbers), word)


def latency_ms(request):
    return (request.done - request.due) / MS


def percentile(numbers, percent):
    return sorted(numbers)[min(len(numbers) - 1, len(numbers) * percent // 100)] if numbers else 0.0


def longest_gap_ms(requests, moment):
    """Between two good answers that follow each other, from a moment before the event to the end of the sending."""
    begin, end = moment.begin_ns - 200 * MS, max(request.due for request in requests)
    times = sorted(request.done for request in requests if request.outcome == 200 and begin <= request.done <= end)
    return max((later - earlier for earlier, later in zip(times, times[1:])), default=end - begin) / MS


def was_inside(request, moment):
    """It was sent while the process that was killed still lived, so it may have been in there."""
    return request.sent <= (moment.gone_ns or moment.begin_ns)


def account(requests, moment, late_ms=500):
    """The figures of one scenario."""
    good = [request for request in requests if request.outcome == 200]
    lost = [request for request in requests if request.outcome != 200]
    late = [request for request in good if latency_ms(request) > late_ms]
    latencies = [latency_ms(request) for request in good]
    outcomes = collections.Counter(WORDS.get(request.outcome, str(request.outcome)) for request in lost)
    return {
        "sent": len(requests),
        "good": len(good),
        "lost": len(lost),
        "lost_outside": sum(not was_inside(request, moment) for request in lost),
        "outcomes": dict(outcomes),
        "gap_ms": round(longest_gap_ms(requests, moment), 1),
        "p50_ms": round(percentile(latencies, 50), 2),
        "p99_ms": round(percentile(latencies, 99), 2),
        "worst_ms": round(max(latencies, default=0), 1),
        "late": len(late),
        "last_late_ms": round(max(((request.sent - moment.begin_ns) / MS for request in late), default=0)),
        "took_ms": round((moment.end_ns - moment.begin_ns) / MS) if moment.end_ns else None,
    } | moment.facts
