# SPDX-License-Identifier: Apache-2.0
"""Replies: filled by one thread, read by another thread or by an event loop."""

import asyncio
import threading

import pytest
from manta._private import reply as reply_module
from manta._private.reply import Reply, StreamReply
from manta.exceptions import GetTimeoutError


def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_the_first_outcome_counts():
    reply = Reply()
    assert reply.set_result(1) is True
    assert reply.set_result(2) is False
    assert reply.set_error(KeyError()) is False
    assert reply.wait(0) == 1


def test_a_thread_waits_for_another():
    reply = Reply()
    in_thread(lambda: reply.set_result("r"))
    assert reply.wait(10) == "r"


def test_a_loop_waits_for_a_thread():
    reply = Reply()

    async def main():
        in_thread(lambda: reply.set_result("r"))
        return await reply.wait_async()

    assert asyncio.run(main()) == "r"


def test_a_timeout_leaves_the_reply_open():
    reply = Reply()
    with pytest.raises(TimeoutError):
        reply.wait(0.01)
    reply.set_result(3)
    assert reply.wait(0) == 3


def test_callbacks_come_once_even_when_late():
    reply, calls = Reply(), []
    reply.add_done_callback(lambda: calls.append("early"))
    reply.set_error(KeyError("k"))
    reply.add_done_callback(lambda: calls.append("late"))
    assert calls == ["early", "late"]
    assert isinstance(reply.error, KeyError)


def test_cancel_reaches_the_transport_once():
    reply, calls = Reply(), []
    reply.on_cancel(lambda: calls.append("cancel"))
    reply.cancel()
    reply.cancel()
    assert calls == ["cancel"]


def test_cancel_before_the_transport_is_ready_is_not_lost():
    reply, calls = Reply(), []
    reply.cancel()
    reply.on_cancel(lambda: calls.append("cancel"))
    assert calls == ["cancel"]


def test_cancel_after_the_end_is_nothing():
    reply, calls = Reply(), []
    reply.on_cancel(lambda: calls.append("cancel"))
    reply.set_result(1)
    reply.cancel()
    assert calls == [] and not reply.wants_cancel


def test_a_cancelled_task_cancels_its_request():
    reply, calls = Reply(), []
    reply.on_cancel(lambda: calls.append("cancel"))

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reply.wait_async(), 0.01)

    asyncio.run(main())
    assert calls == ["cancel"]


def test_items_come_in_order_and_then_the_end():
    reply = StreamReply()
    assert [reply.push(i) for i in range(3)] == [True] * 3
    reply.set_result()
    assert reply.push(4) is False
    assert [reply.next() for _ in range(3)] == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(StopIteration):
            reply.next()


def test_items_before_an_error_are_read_first():
    reply = StreamReply()
    reply.push(1)
    reply.set_error(KeyError("k"))
    assert reply.next() == 1
    with pytest.raises(KeyError):
        reply.next()


def test_a_loop_reads_what_a_thread_pushes():
    reply = StreamReply()

    def fill():
        for i in range(1000):
            reply.push(i)
        reply.set_result()

    async def main():
        in_thread(fill)
        found = []
        while True:
            try:
                found.append(await reply.next_async())
            except StopAsyncIteration:
                return found

    assert asyncio.run(main()) == list(range(1000))


def test_a_thread_reads_what_a_thread_pushes():
    reply = StreamReply()

    def fill():
        for i in range(1000):
            reply.push(i)
        reply.set_result()

    in_thread(fill)
    found = []
    with pytest.raises(StopIteration):
        while True:
            found.append(reply.next())
    assert found == list(range(1000))


def test_waiting_for_items_leaves_nothing_behind():
    reply = StreamReply()
    for i in range(50):
        in_thread(lambda i=i: reply.push(i))
        reply.next()
    assert len(reply._callbacks) == 0


def test_push_tells_that_nobody_reads():
    reply = StreamReply()
    reply.cancel()
    assert reply.push(1) is False


def test_a_wait_that_the_transport_did_not_end_in_time_is_not_begun_again():
    reply, waits = Reply(), []
    reply.block = waits.append
    with pytest.raises(GetTimeoutError) as caught:
        reply.wait(0.0)
    assert isinstance(caught.value, TimeoutError)
    assert waits == [0.0]


def test_the_time_that_the_transport_waited_counts(monkeypatch):
    now, left = [100.0], []

    class Clock:
        @staticmethod
        def monotonic():
            return now[0]

    class Event:
        set = staticmethod(lambda: None)

        @staticmethod
        def wait(timeout_s):
            left.append(timeout_s)

    reply = Reply()
    monkeypatch.setattr(reply_module, "time", Clock)
    monkeypatch.setattr(reply_module.threading, "Event", Event)
    reply.block = lambda timeout_s: now.__setitem__(0, now[0] + timeout_s)
    with pytest.raises(GetTimeoutError):
        reply.wait(5.0)
    assert left == [0.0]
