# SPDX-License-Identifier: Apache-2.0
"""Values between Python processes, and between Python and C: arrays, large bytes, tensors.

Each test is a driver with the prelude of test_python.py, run in a world of its own.
"""

import contextlib
import http.client
import re
import subprocess

import pytest
from conftest import PATIENCE_S, Service
from test_python import PRELUDE, drive  # noqa: F401  (the latter is a fixture)

VALUES = """
import numpy as np

@serve.deployment(max_ongoing_requests=100)
class Values:
    kept = ()

    async def echo(self, value):
        return value

    async def look(self, array):
        return [str(array.dtype), list(array.shape), array.flags.writeable, array.flags.f_contiguous]

    async def nested(self, value):
        return value["array"].flags.writeable, type(value["bytes"]).__name__, float(value["array"].sum())

    async def arguments(self, *args, **kwargs):
        return args, kwargs

    async def same(self, first, second):
        return first is second

    async def keep(self, array):
        self.kept = (*self.kept, array)

    async def sums(self):
        return [float(array.sum()) for array in self.kept]

    async def arrays(self, count, size):
        for i in range(count):
            yield np.full(size, i, dtype="u1")

    async def add_one(self, array):
        array += 1

    async def make(self, size):
        import manta.tensor
        made = manta.tensor.empty(size, "u1")
        made[:] = 7
        return made

values = serve.run(Values.bind(), name="python", route_prefix=None)
"""


def test_arrays_of_every_type_and_shape_come_back_equal(drive):  # noqa: F811
    drive(VALUES + """
for letter in "bhiqlBHIQLefdFD?":
    for shape in ((), (3,), (2, 3), (0,), (0, 5), (100, 1000)):
        array = np.ones(shape, letter)
        back = values.echo.remote(array).result()
        assert type(back) is np.ndarray and back.dtype == array.dtype and back.shape == shape, (letter, shape)
        assert (back == array).all()
others = [np.arange(60000.0).reshape(200, 300).T, np.arange(200_000)[::-2], np.arange(100)[::3], np.array(["a", "bc"]),
          np.array([1, None], object), np.zeros(3, "M8[s]"), np.zeros(9000, ">f8"), np.zeros(5, [("x", "i4")]),
          np.zeros((1,) * 20), np.float32(2.5), np.ma.array([1, 2], mask=[0, 1])]
for array in others:
    back = values.echo.remote(array).result()
    assert type(back) is type(array) and back.dtype == array.dtype and back.shape == array.shape, array.dtype
    assert np.array_equal(back, array), array.dtype
""")


def test_arrays_arrive_read_only_whatever_their_size_and_strided_ones_as_copies(drive):  # noqa: F811
    drive(VALUES + """
for count in (10, 5000, 500_000):
    assert values.look.remote(np.zeros(count)).result() == ["float64", [count], False, True]
    assert values.nested.remote({"array": np.ones(count), "bytes": b"x" * count}).result() == (False, "bytes", count)
    assert not values.echo.remote(np.zeros(count)).result().flags.writeable
assert values.look.remote(np.asfortranarray(np.zeros((300, 400)))).result() == ["float64", [300, 400], False, True]
assert values.look.remote(np.zeros((600, 400))[::2, ::2]).result() == ["float64", [300, 200], True, False]
try:
    values.add_one.remote(np.zeros(100_000)).result()
except ValueError as error:
    assert "read-only" in str(error)
else:
    raise AssertionError("a received array was written")
""")


def test_large_values_of_any_kind_keep_their_type(drive):  # noqa: F811
    drive(VALUES + """
import collections, dataclasses
Pair = collections.namedtuple("Pair", "left right")

@dataclasses.dataclass
class Record:
    array: object
    name: str

for value in (b"x" * 70_000, bytearray(70_000), "x" * 70_000, (b"y" * 100_000,), [b"z" * 65_536, b"z" * 65_535]):
    back = values.echo.remote(value).result()
    assert back == value and type(back) is type(value), type(value)
big = np.arange(100_000)
record = values.echo.remote(Record(big, "r")).result()
assert (record.array == big).all() and not record.array.flags.writeable and record.name == "r"
pair = values.echo.remote(Pair(big, {"more": [big, big[:10]]})).result()
assert type(pair) is Pair and (pair.left == big).all() and (pair.right["more"][0] == big).all()
parts = values.echo.remote((big[1000:], big[:2000])).result()
assert (parts[0] == big[1000:]).all() and (parts[1] == big[:2000]).all()
again = values.echo.remote((record.array[500:], 1)).result()
assert (again[0] == big[500:]).all()
for many in ([np.ones(3)] * 1000, [np.ones(20_000)] * 200, {i: np.ones(20_000) for i in range(90)}, (np.ones(20_000),) * 90):
    back = values.echo.remote(many).result()
    assert len(back) == len(many) and type(back) is type(many)
assert bytes(values.echo.remote(memoryview(b"m" * 100_000)).result()) == b"m" * 100_000
""")


def test_arguments_arrive_one_by_one_and_by_name(drive):  # noqa: F811
    drive(VALUES + """
big = np.ones(100_000)
call = lambda *args, **kwargs: values.arguments.remote(*args, **kwargs).result()
assert call() == ((), {})
assert call(1, (2,), a=1, b=(3,), c=b"z" * 100_000) == ((1, (2,)), {"a": 1, "b": (3,), "c": b"z" * 100_000})
assert call(a=None) == ((), {"a": None}) and call([], {}) == (([], {}), {})
args, kwargs = call(big, {1}, x=big, y=[big, "t"])
assert (args[0] == big).all() and args[1] == {1} and (kwargs["x"] == big).all() and (kwargs["y"][0] == big).all()
assert call(*range(500))[0] == tuple(range(500))
assert values.same.remote(big, big).result() is False
for wrong in (threading.Lock(), [threading.Lock()]):
    try:
        call(1, wrong)
    except TypeError as error:
        assert "lock" in str(error)
    else:
        raise AssertionError("a lock was sent")
assert call(2) == ((2,), {})
""")


def test_streamed_arrays_come_in_order(drive):  # noqa: F811
    drive(VALUES + """
stream = values.options(stream=True)
for size in (10, 70_000, 1_000_000):
    got = [(int(array[0]), int(array[-1]), array.size) for array in stream.arrays.remote(20, size)]
    assert got == [(i, i, size) for i in range(20)], size
""")


def test_an_array_lives_as_long_as_somebody_keeps_it(drive):  # noqa: F811
    drive(VALUES + """
for i in range(20):
    values.keep.remote(np.full(100_000, i, dtype="f8")).result()
mine = [values.echo.remote(np.full(100_000, i, dtype="f8")).result() for i in range(20)]
for i in range(50):
    values.echo.remote(np.full(100_000, 99, dtype="f8")).result()
assert values.sums.remote().result() == [i * 100_000.0 for i in range(20)]
assert [float(array.sum()) for array in mine] == [i * 100_000.0 for i in range(20)]
part = mine[3][10:20]
del mine
for i in range(50):
    values.echo.remote(np.full(100_000, 99, dtype="f8")).result()
assert part.tolist() == [3.0] * 10
""")


def test_memory_is_flat_but_for_the_small_arrays_that_are_kept(drive):  # noqa: F811
    drive(VALUES + """
import pathlib, resource
pid = instance.must_join().status()["applications"]["python"]["deployments"]["Values"]["replicas"][0]["pid"]
def resident(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
values.keep.remote(np.ones(128)).result()
before = resident(pid), resident(os.getpid())
mine = []
for i in range(3000):
    values.keep.remote(np.full(128, i, dtype="f8")).result()
    mine.append(values.echo.remote(np.full(128, i, dtype="f8")).result())
assert resident(pid) - before[0] < (24 << 20) and resident(os.getpid()) - before[1] < (24 << 20)
assert mine[7][0] == 7 and not mine[7].flags.writeable
""")


def test_an_array_born_in_shared_memory_is_sent_as_it_is_and_written_no_more(drive):  # noqa: F811
    drive(VALUES + """
import manta.tensor
made = manta.tensor.empty((1000, 300), "f4")
made[:] = 2
back = values.echo.remote(made).result()
assert (back == 2).all() and not made.flags.writeable and back.shape == (1000, 300)
back = values.echo.remote(made[10:500]).result()
assert back.shape == (490, 300) and (back == 2).all()
assert (values.make.remote(3_000_000).result() == 7).all()
assert manta.tensor.empty(0).shape == (0,) and manta.tensor.empty((), "i8").shape == ()
for shape, kind in (((-1, 2), "f8"), (3, object)):
    try:
        manta.tensor.empty(shape, kind)
    except ValueError:
        pass
    else:
        raise AssertionError(shape)
""")


def test_damaged_documents_are_refused_or_read_and_nothing_else(interpreter, python_world):
    """Every byte of every kind of value changed, cut or doubled; no place in memory is made up."""
    code = """
import random, struct
from manta import _native as native

chance = random.Random(5)
values = [None, True, -5, 2**40, -2**63, 2**64 - 1, 1.5, "text", "x" * 300, b"bytes", b"b" * 70_000, [1, [2, [3]]], [None] * 40,
          {"a": {1: [2.0]}}, {i: str(i) for i in range(20)}, "\\u00fc\\U0001f600"]
corpus = [native.encode(value) for value in values]
assert [native.decode(document) for document in corpus] == values
mark = bytes([0x92, 0xd4, 83, 0])
corpus += [mark + b"\\x80", bytes([0x91]) + mark + b"\\x81\\xa1a\\x01", bytes([0x91, 0xc9, 0, 0, 0, 1, 82, 0x4e]),
           bytes([0x92, 0xc9, 0, 0, 0, 2, 82, 0x4e, 0x2e, 0xc0]), bytes([0xdc, 0, 2, 0xc9, 0, 0, 0, 2, 82, 0x4e, 0x2e, 0xc4, 1, 7])]
corpus += [bytes([0xc7, size, kind]) + bytes(size) for kind in (1, 2, 3, 4) for size in (0, 1, 32, 40, 72)]
corpus += [struct.pack(">BBb4Q", 0xc7, 32, kind, 1, id(corpus), 0, 100) for kind in (1, 3, 4)]
read = refused = 0
for document in corpus:
    for _ in range(400):
        damaged = bytearray(document[:2000])
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(damaged) or 1)
            way = chance.randrange(4)
            if way == 0 and damaged:
                damaged[at] = chance.randrange(256)
            elif way == 1:
                del damaged[at:]
            elif way == 2:
                damaged[at:at] = damaged[at : at + chance.randint(1, 8)]
            elif damaged:
                damaged[at] ^= 1 << chance.randrange(8)
        try:
            native.decode(bytes(damaged))
            read += 1
        except Exception:
            refused += 1
assert read > 1000 and refused > 1000, (read, refused)
"""
    done = subprocess.run([interpreter, "-c", code], env=python_world.environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr


def test_memory_stays_flat_after_many_large_values(drive):  # noqa: F811
    drive(VALUES + """
import pathlib, resource
def resident(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
def descriptors(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))
status = instance.must_join().status()["applications"]["python"]["deployments"]["Values"]
pids = [os.getpid(), status["replicas"][0]["pid"]]
big, small = np.ones(131_072), np.ones(100)
def load(count):
    for i in range(count):
        values.echo.remote(big).result()
        values.echo.remote((big, i)).result()
        values.echo.remote(b"x" * 100_000).result()
        values.echo.remote(small).result()
load(200)
before = [(resident(pid), descriptors(pid)) for pid in pids]
load(1500)
after = [(resident(pid), descriptors(pid)) for pid in pids]
for (memory, files), (memory_now, files_now) in zip(before, after):
    assert memory_now < memory + (8 << 20), (before, after)
    assert files_now <= files + 2, (before, after)
""")


@pytest.fixture
def mixed(python_world):
    """A service with the C applications of tests/objects/tensors.c; drivers join it by its name."""
    service = Service(python_world, [])
    python_world.environment["MANTA_INSTANCE"] = service.NAME
    yield service
    service.kill_node()


@pytest.fixture
def drive_mixed(mixed, python_world, interpreter):
    """drive_mixed(code): a driver that joins the service."""
    def run(code):
        script = python_world.directory / "driver.py"
        script.write_text(PRELUDE + code)
        done = subprocess.run([interpreter, script], env=python_world.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=PATIENCE_S)  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done

    return run


def test_python_calls_a_deployment_in_c(mixed, drive_mixed):
    mixed.deploy("c", "/c", "tests/objects/libtensors.so:tensors")
    drive_mixed("""
import numpy as np
from manta.exceptions import RayError
from manta.serve.exceptions import RayServeException
numbers = serve.get_deployment_handle("numbers", "c")
FLOAT, UINT = 2, 1
for size in (10, 100_000):
    array = np.arange(size, dtype="f8").reshape(2, -1)
    total = float(array.sum())
    assert numbers.remote(array).result() == [FLOAT, 64, True, total, 2, size // 2]
    assert numbers.remote(np.asfortranarray(array)).result() == [FLOAT, 64, False, total, 2, size // 2]
    assert numbers.remote(np.ones(size, "u1")).result() == [UINT, 8, True, size, size]
assert numbers.remote(np.float32(array[0, :5]).reshape(5, 1)).result() == [FLOAT, 32, True, 10.0, 5, 1]
assert numbers.remote(np.array(4.0)).result() == [FLOAT, 64, True, 4.0]
for value in (None, True, 2**40, -1, 1.5, "text", b"bytes", b"b" * 100_000, [1, ["x"]], {"k": [None]}, (1, 2), {3}):
    back = numbers.echo.remote(value).result()
    assert back == value and type(back) is type(value), value
back = numbers.echo.remote({"arrays": [array, np.ones(3)]}).result()
assert (back["arrays"][0] == array).all() and (back["arrays"][1] == 1).all()
NIL, BOOL, INT, FLOAT_, STRING, BINARY, ARRAY, MAP, HANDLE, EXTENSION, TENSOR = range(11)
assert numbers.types.remote(None, True, 1, 1.0, "", b"", [], {}, np.ones(2), b"x" * 80_000, (1,)).result() == [
    NIL, BOOL, INT, FLOAT_, STRING, BINARY, ARRAY, MAP, TENSOR, BINARY, EXTENSION]
items = list(numbers.options(stream=True).items.remote(5))
assert [(item.shape, float(item[0, 2])) for item in items] == [((1, 10000), 2.0 * i) for i in range(5)]
brain = numbers.brain.remote().result()
assert brain.shape == (2, 2) and brain.__dlpack_device__() == (1, 0)
assert numbers.types.remote(brain).result() == [TENSOR]
assert numbers.echo.remote(brain).result().shape == (2, 2)
for call, text in ((numbers.fail.remote(), "no numbers today"), (numbers.remote("no tensor"), "tensor"),
                   (numbers.remote(), "argument 0"), (numbers.nothing.remote(), "nothing")):
    try:
        call.result()
    except (RayError, RayServeException) as error:
        assert text in str(error), error
    else:
        raise AssertionError(text)
""")


def test_dlpack_tensors_of_other_libraries_are_sent(mixed, drive_mixed):
    mixed.deploy("c", "/c", "tests/objects/libtensors.so:tensors")
    drive_mixed("""
import numpy as np, manta.tensor
numbers = serve.get_deployment_handle("numbers", "c")
class Foreign:
    def __init__(self, array):
        self.array = array
    def __dlpack__(self, **options):
        return self.array.__dlpack__()
    def __dlpack_device__(self):
        return self.array.__dlpack_device__()
given = np.arange(20_000.0).reshape(100, 200)
tensor = manta.tensor.from_dlpack(Foreign(given))
assert numbers.remote(tensor).result() == [2, 64, True, float(given.sum()), 100, 200]
back = numbers.echo.remote(tensor).result()
assert (back == given).all()
strided = manta.tensor.from_dlpack(Foreign(given[::2, ::-1]))
assert numbers.remote(strided).result()[2:] == [False, float(given[::2].sum()), 50, 200]
try:
    manta.tensor.from_dlpack(object())
except AttributeError:
    pass
else:
    raise AssertionError("no tensor")
""")


def test_a_deployment_in_c_calls_python(mixed, drive_mixed):
    drive_mixed("""
import numpy as np

@serve.deployment
class Numbers:
    async def total(self, array, text, factor):
        assert array.shape == (2, 50000) and not array.flags.writeable and text == "x"
        return float(array.sum()) * factor
    def in_thread(self, array, text, factor):
        return {"first": array[0, :3].tolist(), "text": text}
    async def items(self, array, text, factor):
        for i in range(4):
            yield array[:, i : i + 1] + 1
    async def fail(self, array, text, factor):
        raise ValueError("not today")

serve.run(Numbers.bind(), name="python", route_prefix=None)
""")
    mixed.deploy("relay", "/relay", "tests/objects/libtensors.so:relay", "application=python", "deployment=Numbers")

    def get(method):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", mixed.port, timeout=PATIENCE_S)) as connection:
            connection.request("GET", f"/relay?{method}")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    assert get("total") == (200, "9999900000.0")
    assert get("in_thread") == (200, '{"first":[0.0,1.0,2.0],"text":"x"}')
    assert get("items") == (200, "10.0")
    status, text = get("fail")
    assert status == 500 and re.search("ValueError: not today", text)
