"""Fixtures of the index room's tests."""

from __future__ import annotations

import random

import pytest


@pytest.fixture
def rng(seed: int) -> random.Random:
    """A generator from the printed seed."""
    return random.Random(seed)
