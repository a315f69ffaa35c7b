"""Fixtures of the parity tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.double import in_double_precision


@pytest.fixture
def in_float64() -> Iterator[None]:
    with in_double_precision():
        yield
