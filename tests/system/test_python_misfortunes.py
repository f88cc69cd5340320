# SPDX-License-Identifier: Apache-2.0
"""What Python applications do wrong, and what becomes of it: nothing hangs, nobody else pays.

Each test is a driver, as in test_python.py; its classes travel by value.
"""

from test_python import drive  # noqa: F401 (a fixture)

SILENCE = """
os.environ["MANTA_PING_PERIOD_MS"] = "100"
os.environ["MANTA_SILENCE_LIMIT_MS"] = "600"
"""


def test_an_argument_that_cannot_be_pickled_is_named(drive):
    drive("""
        for bound, which in (
            (lambda: apps.Worker.bind(threading.Lock()), "[0] = <unlocked"),
            (lambda: apps.Worker.bind(0, name=threading.Lock()), "['name'] = <unlocked"),
        ):
            try:
                serve.run(bound())
            except TypeError as error:
                assert "Could not serialize the deployment init" in str(error), error
                assert which in str(error), error
            else:
                raise AssertionError("no error")
        handle = serve.run(apps.worker)
        for call in (lambda: handle.echo.remote(threading.Lock()), lambda: handle.echo.remote(value=threading.Lock())):
            try:
                call().result()
            except TypeError as error:
                assert "lock" in str(error), error
            else:
                raise AssertionError("no error")
        assert handle.echo.remote(1).result() == 1
        """)


def test_a_result_of_a_wrong_type_is_an_error_of_that_request_alone(drive):
    done = drive("""
        @serve.deployment
        class Odd:
            async def __call__(self, request):
                return threading.Lock()
            async def lock(self):
                return threading.Lock()
            async def fine(self):
                return "fine"
        handle = serve.run(Odd.bind())
        status, body, _ = get("/")
        assert status == 500 and b"Traceback" not in body, (status, body)
        try:
            handle.lock.remote().result()
        except Exception as error:
            assert "lock" in str(error), error
        else:
            raise AssertionError("no error")
        assert handle.fine.remote().result() == "fine"
        """)
    assert "Traceback" in done.stderr  # in the replica's log


def test_a_generator_that_raises_half_way_ends_its_answer_visibly(drive):
    drive("""
        import http.client
        @serve.deployment
        class Half:
            def __call__(self, request):
                yield "first"
                yield "second"
                raise RuntimeError("half way")
        serve.run(Half.bind())
        try:
            get("/")
        except http.client.IncompleteRead as error:
            assert error.partial == b"firstsecond", error.partial
        else:
            raise AssertionError("the answer seemed whole")
        """)


def test_a_deployment_that_calls_itself_answers_or_is_refused_but_never_hangs(drive):
    drive("""
        @serve.deployment(max_ongoing_requests=50)
        class Countdown:
            async def __call__(self, n):
                handle = serve.get_deployment_handle("Countdown", "default")
                return 0 if n == 0 else 1 + await handle.remote(n - 1)
        handle = serve.run(Countdown.bind())
        assert handle.remote(40).result() == 40

        # One place, which the caller holds: the inner call waits until the outer is given up.
        handle = serve.run(Countdown.options(max_ongoing_requests=1).bind())
        outer = handle.remote(1)
        try:
            outer.result(timeout_s=1)
        except TimeoutError:
            outer.cancel()
        else:
            raise AssertionError("no timeout")
        until(lambda: handle.remote(0).result(timeout_s=20) == 0, "the place is free again")
        """)


def test_a_handler_that_blocks_the_loop_makes_nobody_silent(drive):
    """Before its first await and after it: the standby answers pings, and rejects what is too much."""
    done = drive(f"""
        {SILENCE.strip().replace(chr(10), chr(10) + ' ' * 8)}
        serve.shutdown()
        instance.leave()
        serve.start(http_options={{"port": 0}})
        PORT = instance.must_join().http_port

        @serve.deployment(num_replicas=1, max_ongoing_requests=2)
        class Blocks:
            async def at_once(self, seconds):
                time.sleep(seconds)
                return os.getpid()
            async def later(self, seconds):
                await asyncio.sleep(0.01)
                time.sleep(seconds)
                return os.getpid()
            async def pid(self):
                return os.getpid()
        handle = serve.run(Blocks.bind())
        pid = handle.pid.remote().result()
        assert handle.at_once.remote(3).result() == pid
        assert handle.later.remote(3).result() == pid
        assert handle.pid.remote().result() == pid
        """)
    assert "has been silent" not in done.stderr


def test_a_replica_that_exits_is_an_error_of_its_request_and_is_replaced(drive):
    drive("""
        @serve.deployment
        class Exits:
            async def __call__(self, request):
                os._exit(3)
            async def pid(self):
                return os.getpid()
        handle = serve.run(Exits.bind())
        before = handle.pid.remote().result()
        status, _, _ = get("/")
        assert status == 500, status
        until(lambda: handle.pid.remote().result(timeout_s=20) != before, "another replica")
        """)


def test_a_segmentation_fault_shows_where_python_was(drive):
    done = drive("""
        import ctypes
        @serve.deployment
        class Crashes:
            async def __call__(self, request):
                return self.deep_inside()
            def deep_inside(self):
                ctypes.string_at(0)
            async def pid(self):
                return os.getpid()
        handle = serve.run(Crashes.bind())
        before = handle.pid.remote().result()
        assert get("/")[0] == 500
        until(lambda: handle.pid.remote().result(timeout_s=20) != before, "another replica")
        """)
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert "in deep_inside" in done.stderr
    assert "ended by signal 11" in done.stderr


def test_a_handler_may_fork_beside_threads(drive):
    drive("""
        import multiprocessing, subprocess
        @serve.deployment(max_ongoing_requests=20)
        class Forks:
            def __init__(self):
                self.stop = threading.Event()
                threading.Thread(target=self.stop.wait, daemon=True).start()
            def run(self, text):
                return subprocess.run(["echo", text], capture_output=True, text=True, check=True).stdout
            def fork(self):
                reader, writer = os.pipe()
                child = os.fork()
                if child == 0:
                    os.write(writer, str(os.getpid()).encode())
                    os._exit(0)
                os.waitpid(child, 0)
                return int(os.read(reader, 100)) == child
            def pool(self):
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    return pool.map(abs, range(-5, 0))
            def terminated(self):
                child = os.fork()
                if child == 0:
                    time.sleep(60)
                    os._exit(0)
                os.kill(child, signal.SIGTERM)  # The child's, not ours.
                return os.waitpid(child, 0)[1]
            def pid(self):
                return os.getpid()
        handle = serve.run(Forks.bind())
        pid = handle.pid.remote().result()
        calls = [handle.run.remote(str(i)) for i in range(20)]
        assert [call.result(timeout_s=30) for call in calls] == [f"{i}\\n" for i in range(20)]
        assert handle.fork.remote().result(timeout_s=30)
        assert handle.pool.remote().result(timeout_s=30) == [5, 4, 3, 2, 1]
        assert handle.terminated.remote().result(timeout_s=30) == signal.SIGTERM
        assert handle.run.remote("after").result(timeout_s=30) == "after\\n"
        assert handle.pid.remote().result() == pid
        """)


def test_ten_thousand_handles_cost_neither_descriptors_nor_threads(drive):
    drive("""
        serve.run(apps.worker)
        first = serve.get_app_handle("default")
        assert first.remote(1).result() == 11
        descriptors, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
        handles = [serve.get_deployment_handle("Worker", "default", _check_exists=False) for _ in range(10_000)]
        handles = [handle.options(method_name="echo") for handle in handles]
        assert [handle.remote(7).result() for handle in handles[::500]] == [7] * 20
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 2
        assert len(os.listdir("/proc/self/task")) <= threads + 2
        """)


def test_an_argument_whose_unpickling_fails_is_the_callers_error(drive):
    drive("""
        class Trap:
            def __reduce__(self):
                return (open, ("/no/such/file",))
        handle = serve.run(apps.worker)
        try:
            handle.echo.remote(Trap()).result()
        except Exception as error:
            assert "/no/such/file" in str(error), error
        else:
            raise AssertionError("no error")
        assert handle.echo.remote(1).result() == 1
        """)


def test_a_constructor_that_hangs_can_be_given_up(drive):
    drive("""
        @serve.deployment
        class Hangs:
            def __init__(self):
                time.sleep(1000)
        waiting = threading.Thread(target=lambda: serve.run(Hangs.bind(), name="hangs"), daemon=True)
        waiting.start()
        until(lambda: "hangs" in serve.status().applications, "it is known")
        handle = serve.run(apps.worker, name="other", route_prefix="/other")  # nobody else waits for it
        assert handle.remote(1).result() == 11
        assert serve.status().applications["hangs"].status == "DEPLOYING"
        serve.delete("hangs")
        until(lambda: "hangs" not in serve.status().applications, "it is gone")
        """)
