# SPDX-License-Identifier: Apache-2.0
"""The C++ example, end to end: two classes as deployments, composed, batched, configured; and what the C++ layer
costs a request.
"""

import concurrent.futures
import csv
import json
import pathlib
import struct

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent.parent / "examples"
TARGET = "examples/libneighbours.so:neighbours"
HOLD_OUT = 5


def read_images():
    with open(EXAMPLES / "xgboost/digits.csv", encoding="ascii") as file:
        return [[int(field) for field in line] for line in csv.reader(file)]


@pytest.fixture(scope="module")
def images():
    """Those that the searcher leaves out: (pixels, digit)."""
    rows = read_images()
    return [(row[:-1], row[-1]) for row in rows[HOLD_OUT - 1 :: HOLD_OUT]]


@pytest.fixture(scope="module")
def neighbours(manta_start):
    with manta_start(TARGET, f"hold_out={HOLD_OUT}") as running:
        yield running
        assert running.end() == 0, running.stderr[-20:]
        assert running.leftovers() == []


def ask(running, rows):
    return running.post_json("/", {"rows": rows})


@pytest.mark.quick
def test_digits_it_has_not_seen_are_recognised(neighbours, images):
    right = 0
    for first in range(0, len(images), 100):
        part = images[first : first + 100]
        answer = ask(neighbours, [pixels for pixels, _ in part])
        assert answer.status == 200, answer
        predictions = answer.json()["predictions"]
        assert len(predictions) == len(part)
        right += sum(found == digit for found, (_, digit) in zip(predictions, part))
    assert right / len(images) > 0.97


def test_neighbours_are_the_nearest(neighbours, images):
    points = [row for number, row in enumerate(read_images(), 1) if number % HOLD_OUT]
    for pixels, _ in images[::60]:
        distances = sorted(
            sum((left - right) ** 2 for left, right in zip(pixels, point)) ** 0.5
            for point in points
        )
        answer = ask(neighbours, [pixels]).json()
        found = answer["neighbours"][0]
        assert [near["distance"] for near in found] == pytest.approx(distances[:5])
        labels = [near["label"] for near in found]
        assert answer["shares"] == [labels.count(answer["predictions"][0]) / 5]


def test_a_point_is_its_own_neighbour(manta_run, images):
    with manta_run(TARGET, "k=1") as everything:
        pixels, digit = images[0]
        assert ask(everything, [pixels]).json() == {
            "predictions": [digit],
            "shares": [1],
            "neighbours": [[{"label": digit, "distance": 0}]],
        }
        assert everything.end() == 0
        assert everything.leftovers() == []


def test_many_clients_get_their_own_answers(neighbours, images):
    some = images[:48]
    alone = [ask(neighbours, [pixels]).json() for pixels, _ in some]
    with concurrent.futures.ThreadPoolExecutor(12) as threads:
        together = list(threads.map(lambda image: ask(neighbours, [image[0]]).json(), some))
    assert together == alone


@pytest.mark.parametrize(
    "body, expected",
    [
        ("", "JSON"),
        ("{", "line 1"),
        ("[]", "not a map"),
        ("{}", "there is no 'rows'"),
        ('{"rows": 5}', "array"),
        ('{"rows": []}', "1 to 256 rows"),
        (json.dumps({"rows": [[0] * 64] * 257}), "1 to 256 rows"),
        (json.dumps({"rows": [[0] * 64, [0] * 63]}), "row 1 has not 64 numbers"),
        (json.dumps({"rows": [["0"] * 64]}), "row 0 has not 64 numbers"),
        (json.dumps({"rows": [[1e300] * 64]}), "row 0 has not 64 numbers"),
        (json.dumps({"rows": [[[0, 0]] * 32]}), "row 0 has not 64 numbers"),
    ],
)
def test_what_is_wrong_is_said(neighbours, body, expected):
    answer = neighbours.request("POST", "/", body)
    assert answer.status == 400, answer
    assert expected in answer.text


def test_a_bad_request_leaves_its_batch_alone(neighbours, images):
    def once(number):
        return ask(neighbours, [images[number][0] if number % 2 else [1]]).status

    for _ in range(4):
        with concurrent.futures.ThreadPoolExecutor(12) as threads:
            assert list(threads.map(once, range(12))) == [400, 200] * 6


def test_only_post_is_allowed(neighbours):
    refused = neighbours.get("/")
    assert refused.status == 405
    assert refused.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["k=0"], "k is 1 to 100"),
        (["k=many"], "k=many is not a whole number"),
        (["points=/nowhere.csv"], "/nowhere.csv cannot be opened"),
        (["points=/etc/passwd"], "/etc/passwd:1: not as many numbers"),
        (["hold_out=-1"], "argument 1"),
        (["hold_out=1"], "there are no points"),
    ],
)
def test_what_makes_no_sense_is_not_deployed(manta_world, arguments, expected):
    target = f"{manta_world.build}/{TARGET}"
    done = manta_world.command("run", "--port", "0", target, *arguments)
    assert done.returncode == 1
    assert expected in done.stderr
    assert manta_world.processes() == {}
    assert manta_world.instances() == []


@pytest.mark.parametrize("application", ["greetings", "batched_greetings"])
def test_a_request_through_a_class_allocates_nothing(
    manta_start, manta_build, tmp_path, application
):
    environment = {
        "LD_PRELOAD": str(manta_build / "tests/system/count_malloc.so"),
        "MANTA_COUNT_DIRECTORY": str(tmp_path),
    }
    target = f"tests/unit/cpp/libcpp_probe.so:{application}"
    with manta_start(target, environment=environment) as running:
        (replica,) = running.processes("manta-replica")
        connection = running.connect()

        def ask(count):
            for _ in range(count):
                connection.request("GET", "/")
                answer = connection.getresponse()
                assert (answer.read(), answer.headers["x-greeting"]) == (b"Hello, world!", "yes")

        def allocations():
            return struct.unpack("<QQ", (tmp_path / str(replica)).read_bytes()[:16])[0]

        def allocations_of_a_round():
            before = allocations()
            ask(1000)
            return allocations() - before

        # Not every round: what is kept for reuse may grow with a heartbeat that comes in between.
        assert any(allocations_of_a_round() == 0 for _ in range(20))
        connection.close()


# ---- many models


@pytest.fixture(scope="module")
def galleries(manta_start, tmp_path_factory):
    """Digits by their remainder: gallery "0" has 0, 3, 6 and 9."""
    folder = tmp_path_factory.mktemp("galleries")
    for remainder in range(3):
        rows = [row for row in read_images() if row[-1] % 3 == remainder]
        (folder / f"{remainder}.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    (folder / "broken.csv").write_text("1,2,x\n")
    with manta_start("examples/libgalleries.so:galleries", f"directory={folder}") as running:
        yield running
        assert running.end() == 0, running.stderr[-20:]


def ask_gallery(running, name, rows):
    headers = {"content-type": "application/json", "serve_multiplexed_model_id": name}
    return running.request("POST", "/", json.dumps({"rows": rows}), headers)


def test_each_gallery_answers_with_its_own(galleries, images):
    pixels = [pixels for pixels, _ in images[:20]]
    for name in ("0", "1", "2", "0"):  # the third one ends the first, which comes back
        answer = ask_gallery(galleries, name, pixels)
        assert answer.status == 200, answer
        told = answer.json()
        assert told["gallery"] == name and len(told["labels"]) == len(pixels)
        assert {label % 3 for label in told["labels"]} == {int(name)}


@pytest.mark.parametrize(
    "name, status, words",
    [("nowhere", 404, "nowhere.csv"), ("broken", 404, "broken.csv"), ("a/b", 400, "no '/'")],
)
def test_a_gallery_that_cannot_be_loaded_says_why(galleries, name, status, words):
    answer = ask_gallery(galleries, name, [[0] * 64])
    assert answer.status == status and words in answer.text, answer


def test_a_request_for_a_gallery_names_one(galleries):
    answer = galleries.post_json("/", {"rows": [[0] * 64]})
    assert answer.status == 400, answer
