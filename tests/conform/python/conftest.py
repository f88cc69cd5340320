# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the conformance suite; what is tested is chosen in ``subject``."""

import pytest
import subject


# What is about one process, or not there yet, when applications run in replicas of an instance.
NOT_NATIVE = {
    "test_a_response_as_an_argument_is_its_value": "its application was replaced by another test's",
    "test_init_after_use_is_refused": "its application was replaced by another test's",
    "test_two_applications_of_one_name_both_answer": "the second replaces the first",
    "test_choosing_replicas_is_not_for_local_testing": "about local testing mode",
    "test_constructor_error_comes_out_of_run": "the error comes as the failure to deploy",
    "test_constructor_error_of_a_callee_comes_out_of_run": "the error comes as the failure to deploy",
    "test_the_late_application_must_be_one": "the error comes as the failure to deploy",
    "test_broadcast_reaches_the_only_replica": "broadcast is not supported",
    "test_broadcast_gives_errors_as_values_when_asked": "broadcast is not supported",
    "test_broadcast_wants_time": "broadcast is not supported",
    "test_broadcast_in_an_event_loop": "broadcast is not supported",
}


def pytest_collection_modifyitems(items):
    if not subject.IS_NATIVE:
        return
    for item in items:
        reason = NOT_NATIVE.get(item.originalname)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_report_header():
    return f"conformance subject: {subject.NAME}"


@pytest.fixture
def replica():
    """Code of this test runs as if in a replica."""
    subject.enter_replica()
    yield
    subject.leave_replica()
