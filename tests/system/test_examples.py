# SPDX-License-Identifier: Apache-2.0
"""Every example, end to end: served by `manta run`, asked over HTTP, ended by Ctrl-C.

These are the first programs that a user copies, so what their pages promise is checked here: answers,
composition, streaming, batching, clear errors, and an end that leaves nothing behind.
"""

import concurrent.futures
import http.client
import json
import pathlib
import signal
import socket
import struct
import subprocess
import time
import zlib

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent.parent / "examples"


def end_cleanly(running):
    assert running.end() == 0, running.stderr[-20:]
    assert running.leftovers() == []


def at_once(count, function):
    """The results of `count` calls in as many threads."""
    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        return list(threads.map(function, range(count)))


# ---- noop


@pytest.mark.quick
def test_noop_says_hello_and_ends_cleanly(manta_run):
    with manta_run("examples/libnoop.so:noop") as noop:
        answer = noop.get("/")
        assert (answer.status, answer.body) == (200, b"Hello, world!")
        assert answer.headers["content-type"] == "text/plain"
        assert answer.headers["content-length"] == "13"
        end_cleanly(noop)


def test_noop_answers_many_requests_of_one_connection(manta_run):
    with manta_run("examples/libnoop.so:noop") as noop:
        connection = noop.connect()
        for _ in range(200):
            connection.request("GET", "/any/path?and=query")
            assert connection.getresponse().read() == b"Hello, world!"
        connection.close()
        end_cleanly(noop)


# ---- math


@pytest.mark.quick
def test_math_composes_two_deployments(manta_run):
    with manta_run("examples/libmath.so:math") as math:
        answer = math.get("/?x=4")
        assert (answer.status, answer.json()) == (200, {"result": 11})
        assert answer.headers["content-type"] == "application/json"
        assert math.post_json("/", {"x": 20}).json() == {"result": 43}
        assert math.get("/?a=1&x=-2").json() == {"result": -1}
        assert len(math.processes("manta-replica")) == 4  # two of each
        end_cleanly(math)


def test_math_takes_its_numbers_from_the_command_line(manta_run):
    with manta_run("examples/libmath.so:math", "factor=-10", "increment=1") as math:
        assert math.get("/?x=4").json() == {"result": -39}


def test_math_answers_many_clients_at_once(manta_run):
    with manta_run("examples/libmath.so:math") as math:

        def ask(number):
            connection, found = math.connect(), []
            for x in range(number * 50, number * 50 + 50):
                connection.request("GET", f"/?x={x}")
                found.append(json.loads(connection.getresponse().read())["result"] == x * 2 + 3)
            connection.close()
            return all(found)

        assert all(at_once(12, ask))
        end_cleanly(math)


@pytest.mark.parametrize(
    "path, body, expected",
    [
        ("/", None, "x=4"),
        ("/?y=4", None, "x=4"),
        ("/?x=four", None, "whole number"),
        ("/?x=99999999999999999999", None, "whole number"),
        ("/", '{"x": 4.5}', "not an int"),
        ("/", '{"y": 4}', "no 'x'"),
        ("/", '{"x": ', "line 1"),
        ("/", "[1]", "not a map"),
        ("/?x=9223372036854775807", None, "64 bits"),
        ("/?x=4611686018427387903", None, "64 bits"),
    ],
)
def test_math_says_what_is_wrong(shared_math, path, body, expected):
    answer = shared_math.request("POST" if body else "GET", path, body)
    assert answer.status == 400
    assert expected in answer.text


@pytest.fixture(scope="module")
def shared_math(manta_start):
    with manta_start("examples/libmath.so:math") as math:
        yield math
        end_cleanly(math)


def test_math_that_makes_no_sense_is_not_deployed(manta_world):
    target = f"{manta_world.build}/examples/libmath.so:math"
    done = manta_world.command("run", "--port", "0", target, "factor=two")
    assert done.returncode == 1
    assert "factor=two is not a whole number" in done.stderr
    assert manta_world.processes() == {}
    assert manta_world.instances() == []


# ---- text_stream


def words_of(answer):
    assert answer.status == 200
    return answer.text.split()


@pytest.mark.quick
def test_text_stream_writes_the_words_that_were_asked_for(manta_run):
    with manta_run("examples/libtext_stream.so:text_stream") as stream:
        first = stream.get("/?n=30&seed=7&prompt=In%20the")
        words = words_of(first)
        assert first.headers["transfer-encoding"] == "chunked"
        assert first.headers["x-seed"] == "7"
        assert len(words) == 30
        # The page of the example shows these words.
        assert " ".join(words) in (EXAMPLES / "text_stream/README.md").read_text()
        assert words_of(stream.get("/?n=30&seed=7&prompt=In+the")) == words
        assert words_of(stream.get("/?n=30&seed=8&prompt=In+the")) != words
        assert len(words_of(stream.get("/"))) == 60
        # A word follows another only where it does so in the text.
        text = (EXAMPLES / "text_stream/harbour.txt").read_text().split()
        pairs = set(zip(text, text[1:] + text[:1]))
        assert set(zip(words, words[1:])) <= pairs
        end_cleanly(stream)


def test_text_stream_learns_another_text(manta_run, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("one two three four")
    with manta_run("examples/libtext_stream.so:text_stream", f"text={text}") as stream:
        assert words_of(stream.get("/?n=5&prompt=two")) == ["three", "four", "one", "two", "three"]


@pytest.mark.parametrize("query", ["n=0", "n=-1", "n=many", "n=10000001", "n=5x", "pause_ms=-1", "seed=z"])
def test_text_stream_refuses_what_makes_no_sense(shared_stream, query):
    answer = shared_stream.get(f"/?{query}")
    assert answer.status == 400
    assert query.split("=")[0] in answer.text


@pytest.fixture(scope="module")
def shared_stream(manta_start):
    with manta_start("examples/libtext_stream.so:text_stream") as stream:
        yield stream
        end_cleanly(stream)


def begin_stream(running, query):
    connection = running.connect(timeout_s=30)
    connection.request("GET", f"/?{query}")
    return connection, connection.getresponse()


def test_the_first_word_comes_long_before_the_second(shared_stream):
    # Ten seconds lie between two words, and the end is hours away.
    connection, response = begin_stream(shared_stream, "n=10000&pause_ms=10000")
    connection.sock.settimeout(5)
    assert response.read1(100).strip()
    connection.close()


def test_a_stream_is_written_as_fast_as_it_is_read(shared_stream):
    # Ten million words, some 50 MB, are more than all buffers on the way hold.
    connection, response = begin_stream(shared_stream, "n=10000000")
    [replica] = shared_stream.processes("manta-replica")
    # Nobody reads, so the writer comes to rest; without back-pressure it would do so only at the end.
    ticks = [-1, -2]
    while ticks[-1] != ticks[-2]:
        time.sleep(0.2)
        ticks.append(processor_ticks(replica))
    for pid in [replica, *shared_stream.processes("manta-proxy")]:
        assert resident_bytes(pid) < 32 << 20
    read = 0
    while read < 8 << 20:
        part = response.read1(65536)
        assert part
        read += len(part)
    connection.close()


def processor_ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def resident_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no VmRSS")


def test_streams_whose_readers_left_make_room_for_others(shared_stream):
    # 16 streams are all that the replica writes at once; every one of these would take a day.
    streams = [begin_stream(shared_stream, "n=10000000&pause_ms=10000") for _ in range(16)]
    for connection, response in streams:
        assert response.read1(10)
        connection.close()
        response.close()
    assert len(words_of(shared_stream.get("/?n=3"))) == 3


def test_many_streams_at_once_are_whole(shared_stream):
    expected = [words_of(shared_stream.get(f"/?n=2000&seed={seed}")) for seed in range(16)]
    assert at_once(16, lambda seed: words_of(shared_stream.get(f"/?n=2000&seed={seed}"))) == expected


# ---- embedded


def test_a_program_brings_its_own_instance(manta_world):
    examples = manta_world.build / "examples"
    if not (examples / "embedded").exists():
        pytest.skip("not built")
    done = subprocess.run(
        [examples / "embedded", examples / "libmath.so", examples / "libtext_stream.so"],
        env=manta_world.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "2000 calls from 4 threads: the results add up to 4004000" in done.stdout
    stream = next(line for line in done.stdout.splitlines() if line.startswith("a stream: "))
    assert len(stream.removeprefix("a stream: ").split()) == 12
    assert stream in (EXAMPLES / "embedded/README.md").read_text()
    assert manta_world.processes() == {}
    assert manta_world.instances() == []


# ---- xgboost


@pytest.fixture(scope="module")
def digits_model(manta_build, tmp_path_factory):
    """The path of a trained model, and the images that were held out: [(64 pixels, digit), ...]."""
    trainer = manta_build / "examples/train_digits"
    if not trainer.exists():
        pytest.skip("built without XGBoost")
    folder = tmp_path_factory.mktemp("digits")
    model, held_out = folder / "digits.ubj", folder / "held_out.csv"
    subprocess.run([trainer, EXAMPLES / "xgboost/digits.csv", model, held_out], check=True, timeout=60)
    rows = [[int(text) for text in line.split(",")] for line in held_out.read_text().split()]
    return model, [(row[:-1], row[-1]) for row in rows]


@pytest.fixture(scope="module")
def shared_digits(manta_start, digits_model):
    with manta_start("examples/libdigits.so:digits", f"model={digits_model[0]}") as digits:
        yield digits
        end_cleanly(digits)


def rows_of(images):
    return {"rows": [pixels for pixels, _ in images]}


def test_digits_are_recognised(shared_digits, digits_model):
    images = digits_model[1]
    right = 0
    for first in range(0, len(images), 100):
        chunk = images[first : first + 100]
        answer = shared_digits.post_json("/predict", rows_of(chunk))
        assert answer.status == 200, answer
        value = answer.json()
        assert len(value["predictions"]) == len(value["probabilities"]) == len(chunk)
        for found, shares, (_, digit) in zip(value["predictions"], value["probabilities"], chunk):
            assert len(shares) == 10 and abs(sum(shares) - 1) < 1e-4
            assert shares[found] == max(shares)
            right += found == digit
    assert right / len(images) > 0.94


def test_requests_of_several_connections_are_answered_together(shared_digits, digits_model):
    images = digits_model[1][:64]
    alone = shared_digits.post_json("/predict", rows_of(images)).json()
    found, sizes = {}, []

    def ask(number):
        connection = shared_digits.connect()
        for index in range(number, len(images), 16):
            connection.request("POST", "/predict", json.dumps(rows_of([images[index]])))
            response = connection.getresponse()
            sizes.append(int(response.headers["x-batch-size"]))
            value = json.loads(response.read())
            found[index] = value["predictions"][0], value["probabilities"][0]
        connection.close()

    while not any(size > 1 for size in sizes):  # which batches form is chance; that they form is not
        at_once(16, ask)
    assert max(sizes) <= 64
    # Everybody got the answer to their own image.
    for index in range(len(images)):
        assert found[index] == (alone["predictions"][index], alone["probabilities"][index])


ROW = [0] * 64


@pytest.mark.parametrize(
    "body, expected",
    [
        ("", "JSON"),
        ("{", "line 1"),
        ("[]", "rows"),
        ("{}", "rows"),
        ('{"rows": 5}', "rows"),
        ('{"rows": []}', "1 to 256 rows"),
        (json.dumps({"rows": [ROW] * 257}), "1 to 256 rows, not 257"),
        (json.dumps({"rows": [ROW, [1, 2, 3]]}), "row 1 has not exactly 64 pixels"),
        (json.dumps({"rows": [ROW, ROW + [0]]}), "row 1 has not exactly 64 pixels"),
        (json.dumps({"rows": [["0"] * 64]}), "row 0 is no array of numbers"),
        (json.dumps({"rows": [5]}), "row 0 is no array of numbers"),
        (json.dumps({"rows": [ROW[:63] + [17]]}), "pixel 63 is not 0 to 16"),
        (json.dumps({"rows": [[-0.5] + ROW[:63]]}), "pixel 0 is not 0 to 16"),
    ],
)
def test_digits_say_what_is_wrong(shared_digits, body, expected):
    answer = shared_digits.request("POST", "/predict", body)
    assert answer.status == 400, answer
    assert expected in answer.text


def test_a_body_beyond_all_limits_is_too_large(shared_digits):
    # A million numbers can be parsed, and are too many rows; JSON beyond 16 MiB is not looked at.
    row = "[" + ",".join(["0.25"] * 64) + "]"
    answer = shared_digits.request("POST", "/predict", '{"rows": [' + ",".join([row] * 16000) + "]}")
    assert answer.status == 400
    assert "1 to 256 rows, not 16000" in answer.text
    answer = shared_digits.request("POST", "/predict", b" " * (17 << 20))
    assert answer.status == 413
    assert "at most 16 MiB" in answer.text


def test_a_bad_request_does_not_disturb_its_batch(shared_digits):
    def ask(number):
        return shared_digits.post_json("/predict", {"rows": [ROW if number % 2 else [1]]}).status

    for _ in range(4):
        assert at_once(12, ask) == [200 if number % 2 else 400 for number in range(12)]


def test_digits_have_one_route(shared_digits):
    assert shared_digits.get("/").status == 404
    refused = shared_digits.get("/predict")
    assert refused.status == 405
    assert refused.headers["allow"] == "POST"


def test_digits_below_a_prefix_and_with_two_replicas(manta_run, digits_model):
    model, images = digits_model
    with manta_run(
        "examples/libdigits.so:digits", f"model={model}", "replicas=2", options=["--route-prefix", "/digits"]
    ) as digits:
        assert len(digits.processes("manta-replica")) == 2
        assert digits.post_json("/digits/predict", rows_of(images[:3])).status == 200
        assert digits.post_json("/predict", rows_of(images[:3])).status == 404
        end_cleanly(digits)


def test_digits_without_a_model_do_not_start(manta_world, tmp_path):
    target = f"{manta_world.build}/examples/libdigits.so:digits"
    if not (manta_world.build / "examples/libdigits.so").exists():
        pytest.skip("built without XGBoost")
    broken = tmp_path / "broken.ubj"
    broken.write_text("no model")
    for arguments, expected in [
        ([], "say where the model is"),
        ([f"model={tmp_path}/missing"], "there is no model"),
        ([f"model={broken}"], "this model cannot be loaded"),
    ]:
        done = manta_world.command("run", "--port", "0", target, *arguments)
        assert done.returncode == 1
        assert expected in done.stderr
        assert manta_world.processes() == {}
        assert manta_world.instances() == []


def test_the_demo_ends_well(manta_world, digits_model):
    done = subprocess.run(
        [EXAMPLES / "xgboost/demo", "--seconds", "1"],
        env={**manta_world.environment, "MANTA_BUILD": str(manta_world.build)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy 96." in done.stdout
    assert "the server has drained and ended" in done.stdout
    assert manta_world.processes() == {}
    assert manta_world.instances() == []


# ---- the end


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_run_that_is_ended_answers_what_it_has_accepted(manta_run, name):
    with manta_run("examples/libtext_stream.so:text_stream") as stream:
        connection, response = begin_stream(stream, "n=6&pause_ms=100")
        begun = response.read1(10)
        stream.process.send_signal(getattr(signal, name))
        assert len((begun + response.read()).split()) == 6
        connection.close()
        assert stream.wait() == 0
        assert stream.leftovers() == []


def test_nobody_listens_after_the_end(manta_run):
    with manta_run("examples/libnoop.so:noop") as noop:
        end_cleanly(noop)
        with pytest.raises((ConnectionRefusedError, http.client.HTTPException)):
            noop.get("/")
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((noop.host, noop.port))


# ---- pictures


def png_of(rows):
    """A grey PNG, as RFC 2083 has it: no filters, one chunk of data."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    data = b"".join(b"\0" + bytes(row) for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data, 1)) + chunk(b"IEND", b"")


def drawn(pixels, scale):
    """An image of 8 by 8 fields, 0 white to 16 black, enlarged."""
    rows = []
    for y in range(8):
        row = b"".join(bytes([255 - pixel * 255 // 16]) * scale for pixel in pixels[8 * y : 8 * y + 8])
        rows += [row] * scale
    return png_of(rows)


@pytest.fixture(scope="module")
def shared_pictures(manta_start, manta_build, digits_model):
    if not (manta_build / "examples/libpictures.so").exists():
        pytest.skip("built without libpng")
    with manta_start("examples/libpictures.so:pictures", f"model={digits_model[0]}") as pictures:
        yield pictures
        end_cleanly(pictures)


def test_pictures_go_through_the_pipeline(shared_pictures, digits_model):
    images = digits_model[1][:60]
    right = 0
    for pixels, digit in images:
        answer = shared_pictures.request("POST", "/", drawn(pixels, 25))
        assert answer.status == 200, answer
        assert answer.json()["size"] == [200, 200]
        right += answer.json()["digit"] == digit
    assert right >= 0.9 * len(images)


def test_large_pictures_of_several_clients_arrive_whole(shared_pictures, digits_model):
    def ask(number):
        pixels, _ = digits_model[1][number]
        small = shared_pictures.request("POST", "/", drawn(pixels, 2)).json()
        large = shared_pictures.request("POST", "/", drawn(pixels, 300)).json()
        return large["size"] == [2400, 2400] and large["digit"] == small["digit"]

    assert all(at_once(6, ask))


def test_what_is_no_picture_is_said_to_be_none(shared_pictures, digits_model):
    whole = drawn(digits_model[1][0][0], 20)
    for body, words in [(b"", "no PNG"), (b"GIF89a", "no PNG"), (whole[: len(whole) // 2], "damaged")]:
        answer = shared_pictures.request("POST", "/", body)
        assert answer.status == 400 and words in answer.text, answer
    answer = shared_pictures.request("POST", "/", png_of([b"\0" * 7] * 7))
    assert answer.status == 400 and "at least 8 x 8" in answer.text
    assert shared_pictures.get("/").status == 405
