# SPDX-License-Identifier: Apache-2.0
"""runtime_env and ray_actor_options: where a replica lives, and what is refused."""

from test_python import drive  # noqa: F401 (a fixture)

FOLDERS = """
import pathlib
home = pathlib.Path(__file__).resolve().parent
(home / "work").mkdir()
(home / "work/beside.py").write_text("VALUE = 'beside'")
(home / "work/text.txt").write_text("a text")
(home / "libs/package").mkdir(parents=True)
(home / "libs/package/__init__.py").write_text("VALUE = 'in a package'")
(home / "single.py").write_text("VALUE = 'single'")

class Looks:
    def __init__(self):
        import beside, package, single
        self.found = [beside.VALUE, package.VALUE, single.VALUE]
    async def __call__(self):
        return os.getcwd(), open("text.txt").read(), self.found, os.environ.get("FLAVOUR"), os.getpid()

def deployed(**env):
    return serve.deployment(ray_actor_options={"runtime_env": env})(Looks).bind()
"""


def test_working_dir_and_py_modules_are_where_replicas_start_and_import(drive):
    drive(
        FOLDERS
        + """
env = {
    "working_dir": str(home / "work"),
    "py_modules": [str(home / "libs/package"), str(home / "single.py")],
    "env_vars": {"FLAVOUR": "sweet", "MORE": "${FLAVOUR}er"},
}
handle = serve.run(deployed(**env))
cwd, text, found, flavour, pid = handle.remote().result()
assert (cwd, text, flavour) == (str(home / "work"), "a text", "sweet")
assert found == ["beside", "in a package", "single"]
handle = serve.run(deployed(**env))
assert handle.remote().result()[-1] == pid  # nothing changed
(home / "work/text.txt").write_text("another text")
handle = serve.run(deployed(**env))
until(lambda: handle.remote().result()[1] == "another text", "changed files")
assert handle.remote().result()[-1] != pid  # by new replicas
(home / "work/beside.py").write_text("VALUE = 'changed'")
handle = serve.run(deployed(**env))
until(lambda: handle.remote().result()[2][0] == "changed", "a changed module")
"""
    )


def test_what_is_not_there_or_not_here_is_refused_before_anything_starts(drive):
    drive(
        FOLDERS
        + """
def refused(said, kind=ValueError, **env):
    try:
        serve.run(deployed(**env))
    except kind as error:
        assert said in str(error), error
    else:
        raise AssertionError(said)

refused("Deployment 'Looks': runtime_env['working_dir'] names '/no/such', which is not there.", working_dir="/no/such")
refused("which is no directory", working_dir=str(home / "single.py"))
refused("which is not on this machine", working_dir="s3://bucket/app.zip")
refused("runtime_env['py_modules'] names '/no/such.py', which is not there", py_modules=["/no/such.py"])
refused("neither a package's directory nor a .py", py_modules=[str(home / "work/text.txt")])
for part, value in (("pip", ["x"]), ("conda", "x"), ("container", {}), ("image_uri", "x"), ("uv", ["x"])):
    refused(f"runtime_env['{part}'] is not supported", **{part: value})
refused("must be of type Dict[str, str]", TypeError, env_vars={"A": 1})
assert serve.status().applications == {}
"""
    )


def test_quantities_are_accepted_and_devices_are_left_alone(drive):
    drive("""
        @serve.deployment(ray_actor_options={"num_cpus": 0.5, "memory": 1000, "resources": {"special": 1}})
        class Modest:
            async def __call__(self):
                return os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS")
        assert serve.run(Modest.bind()).remote().result() == (None, os.environ.get("OMP_NUM_THREADS", "1"))
        for options, kind, said in (
            ({"num_cpus": -1}, ValueError, "cannot be negative"),
            ({"num_gpus": 0.00001}, ValueError, "precision"),
            ({"resources": {"CPU": 1}}, ValueError, "Use the 'num_cpus'"),
            ({"memory": "much"}, TypeError, "memory"),
            ({"max_concurrency": 3}, ValueError, "is not allowed"),
        ):
            try:
                Modest.options(ray_actor_options=options)
            except kind as error:
                assert said in str(error), error
            else:
                raise AssertionError(options)
        """)
