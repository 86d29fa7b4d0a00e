"""A short run of every campaign; the long ones are ``python -m tests.fuzz``."""

import importlib

import pytest

from tests.fuzz import Clock
from tests.fuzz.__main__ import CAMPAIGNS


@pytest.mark.long
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_a_campaign_finds_nothing(name: str) -> None:
    figures = importlib.import_module(f"tests.fuzz.{name}").run(Clock(seconds=15), seed=0)
    assert figures.total() > 0
