# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the conformance suite; what is tested is chosen in ``subject``."""

import pytest
import subject


def pytest_report_header():
    return f"conformance subject: {subject.NAME}"


@pytest.fixture
def replica():
    """Code of this test runs as if in a replica."""
    subject.enter_replica()
    yield
    subject.leave_replica()
