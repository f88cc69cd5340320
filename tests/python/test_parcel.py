# SPDX-License-Identifier: Apache-2.0
"""Deployments on their way to another process: by import where that is possible."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from manta import serve
from manta._private import parcel

PACKAGE = Path(__file__).resolve().parents[2] / "python"


@serve.deployment
class Importable:
    def __init__(self, value=1):
        self.value = value


@serve.deployment
def function(x):
    return x


class Bare:
    pass


bound = serve.deployment(Bare).options(name="other").bind()


def how(made):
    import pickle

    return pickle.loads(parcel.pack(made))[1:3]


def test_a_decorated_class_is_imported():
    assert how(Importable) == ("import", f"{__name__}:Importable")
    program = parcel.unpack(parcel.pack(Importable.bind(5)._bound_deployment))
    assert program.func_or_class is Importable.func_or_class
    assert program.init_args == (5,)


def test_a_function_is_imported():
    assert how(function) == ("import", f"{__name__}:function")
    assert parcel.unpack(parcel.pack(function)).func_or_class is function.func_or_class


def test_a_class_by_its_own_name_is_imported():
    assert how(bound._bound_deployment) == ("import", f"{__name__}:Bare")
    assert parcel.unpack(parcel.pack(bound._bound_deployment)).func_or_class is Bare


def test_a_local_class_is_sent_by_value():
    def make(value):
        @serve.deployment
        class Local:
            def get(self):
                return value

        return Local

    assert how(make(3))[0] == "value"
    program = parcel.unpack(parcel.pack(make(3)))
    assert program.func_or_class().get() == 3


def test_a_local_class_with_batches_is_sent_by_value():
    @serve.deployment
    class Local:
        @serve.batch
        async def __call__(self, items):
            return items

        @serve.multiplexed
        async def load(self, model_id):
            return model_id

    made = parcel.unpack(parcel.pack(Local)).func_or_class
    assert made.__call__._get_max_batch_size() == 10


def test_handles_travel_as_names():
    from manta._private import graph

    built = graph.build_app(Importable.bind(Importable.bind(), [function.bind()]), name="a")
    top = parcel.unpack(parcel.pack(built.deployments[-1]))
    assert top.init_args[0].deployment_name == "Importable"
    assert top.init_args[1][0].app_name == "a"


SCRIPT = """
import sys, threading
from manta import serve
from manta._private import parcel

lock = threading.Lock()

@serve.deployment
class {name}:
    {body}

if __name__ == "__main__":
    open(sys.argv[1], "wb").write(parcel.pack({name}.bind(7)._bound_deployment))
"""
UNPACK = """
import sys
from manta._private import parcel
program = parcel.unpack(open(sys.argv[1], "rb").read())
print(program.func_or_class(*program.init_args).get())
"""
CONSTRUCTOR = "def __init__(self, value): self.value = value\n    "


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (CONSTRUCTOR + "def get(self): return self.value", "7"),
        (CONSTRUCTOR + "def get(self, at=lock): return self.value + 1", "8"),
    ],
    ids=["by value", "by running the script again"],
)
def test_a_script_in_another_process(tmp_path, body, answer):
    script, data = tmp_path / "script.py", tmp_path / "parcel"
    script.write_text(SCRIPT.format(name="Model", body=body))
    env = {"PYTHONPATH": str(PACKAGE), "PATH": os.environ.get("PATH", "")}
    subprocess.run([sys.executable, script, data], env=env, check=True)
    run = subprocess.run(
        [sys.executable, "-c", UNPACK, data],
        env=env,
        check=True,
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert run.stdout.strip() == answer


def test_what_cannot_travel_says_so():
    import threading

    lock = threading.Lock()

    class Local:
        def get(self):
            return lock

    made = serve.deployment(Bare).options(func_or_class=Local)
    with pytest.raises(TypeError, match="Could not serialize the deployment"):
        parcel.pack(made)


def test_an_ingress_made_without_a_class_is_imported():
    pytest.importorskip("fastapi")
    made = app_of_a_module()
    assert how(made) == ("import", f"{__name__}:anonymous")
    assert parcel.unpack(parcel.pack(made)).func_or_class is made.func_or_class


async def asgi(scope, receive, send):
    pass


anonymous = serve.deployment(serve.ingress(lambda: asgi)())


def app_of_a_module():
    return anonymous
