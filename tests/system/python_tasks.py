# SPDX-License-Identifier: Apache-2.0
"""The deployment of test_python_tasks.py: a module, because its variables have to be importable."""

import asyncio
import contextvars
import threading
import time

from manta import serve

tracked = contextvars.ContextVar("tracked", default="nobody")

@serve.deployment(max_ongoing_requests=100)
class Tasks:
    seen = ()
    caught = ()

    async def same_task(self, waits):
        before = asyncio.current_task()
        for _ in range(waits):
            await asyncio.sleep(0)
        after = asyncio.current_task()
        return before is after, before in asyncio.all_tasks(), type(before).__name__, before.cancelling() if hasattr(before, "cancelling") else 0

    async def different_tasks(self):
        self.seen = (*self.seen, asyncio.current_task())
        return len(set(self.seen)), sum(not task.done() for task in self.seen)

    async def variable(self, name, waits):
        found = tracked.get()
        token = tracked.set(name)
        for _ in range(waits):
            await asyncio.sleep(0.001)
        kept = tracked.get()
        child = await asyncio.create_task(self.child())
        thread = await asyncio.to_thread(tracked.get)
        tracked.reset(token)
        return found, kept, child, thread, tracked.get()

    async def leave_variable(self, waits):
        for _ in range(waits):
            await asyncio.sleep(0)
        tracked.set("left behind")

    async def read_variable(self):
        return tracked.get()

    async def child(self):
        return tracked.get()

    async def wait_for(self):
        value = await asyncio.wait_for(asyncio.sleep(0, "in time"), 5)
        try:
            await asyncio.wait_for(asyncio.sleep(60), 0.01)
        except asyncio.TimeoutError:
            return value, "too late"

    async def timeout(self, seconds):
        try:
            async with asyncio.timeout(seconds):
                await asyncio.sleep(60)
        except TimeoutError:
            task = asyncio.current_task()
            return "timed out", task.cancelling()

    async def timeout_in_time(self):
        async with asyncio.timeout(30) as limit:
            await asyncio.sleep(0)
        return limit.expired()

    async def group(self):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.child_number(i)) for i in range(3)]
        return [task.result() for task in tasks]

    async def child_number(self, i):
        await asyncio.sleep(0.001 * i)
        return i

    async def failing_group(self):
        ended = []
        async def waits():
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(1)
        async def fails():
            raise ValueError("in the group")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(waits())
                await asyncio.sleep(0)
                group.create_task(fails())
                await asyncio.sleep(60)
        except BaseExceptionGroup as errors:  # noqa: F821
            found = str(errors.exceptions[0])
        return found, ended, asyncio.current_task().cancelling()

    async def cancel_me(self, wait_first):
        if wait_first:
            await asyncio.sleep(0)
        asyncio.current_task().cancel("from within")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            asyncio.current_task().uncancel()
            return error.args
        return "not cancelled"

    async def shielded(self):
        self.caught = ()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            self.caught = ("cancelled", asyncio.current_task().done())
            raise

    async def what_was_caught(self):
        return self.caught

    async def anyio(self):
        import anyio
        with anyio.move_on_after(0.01) as moved:
            await anyio.sleep(60)
        done = []
        async def one(i):
            await anyio.sleep(0)
            done.append(i)
        async with anyio.create_task_group() as group:
            for i in range(3):
                group.start_soon(one, i)
        thread = await anyio.to_thread.run_sync(threading.current_thread)
        try:
            with anyio.fail_after(0.01):
                await anyio.sleep(60)
        except TimeoutError:
            failed = True
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(60)
        return moved.cancelled_caught, sorted(done), thread is not threading.main_thread(), failed, scope.cancelled_caught

    async def blocks(self, first, seconds):
        await asyncio.sleep(first)
        time.sleep(seconds)
        return "blocked"

    async def quick(self):
        return "quick"
