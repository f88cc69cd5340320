# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the conformance suite; what is tested is chosen in ``subject``."""

import pytest
import subject


# What applications in replicas of an instance cannot do by its nature, and what they cannot yet.
LOCAL_ONLY = {
    "test_two_applications_of_one_name_both_answer": "in an instance the second replaces the first",
    "test_choosing_replicas_is_not_for_local_testing": "about local testing mode",
}
NOT_YET = {
    "test_broadcast_reaches_the_only_replica": "broadcast is refused on replicas",
    "test_broadcast_gives_errors_as_values_when_asked": "broadcast is refused on replicas",
    "test_broadcast_wants_time": "broadcast is refused on replicas",
    "test_broadcast_in_an_event_loop": "broadcast is refused on replicas",
}
OTHERWISE_ON_RAY = {
    "test_object_references_are_refused": "over a cluster, Ray Serve has references",
}


def pytest_collection_modifyitems(items):
    if not subject.IS_NATIVE:
        return
    skipped = {**LOCAL_ONLY, **(OTHERWISE_ON_RAY if subject.IS_RAY else NOT_YET)}
    for item in items:
        reason = skipped.get(item.originalname)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_report_header():
    return f"conformance subject: {subject.NAME}"


@pytest.fixture(autouse=True)
def applications():
    """Those of a test go with it; those of a module's fixtures stay."""
    with subject.own_applications():
        yield


@pytest.fixture
def replica():
    """Code of this test runs as if in a replica."""
    subject.enter_replica()
    yield
    subject.leave_replica()
