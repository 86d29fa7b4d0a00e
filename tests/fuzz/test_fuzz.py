"""A short run of every campaign; the long ones are ``python -m tests.fuzz``."""

import importlib

import pytest

from tests.fuzz import Clock, Missing
from tests.fuzz.__main__ import CAMPAIGNS


@pytest.mark.long
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_a_campaign_finds_nothing(name: str) -> None:
    campaign = importlib.import_module(f"tests.fuzz.{name}")
    try:
        figures = campaign.run(Clock(seconds=15), seed=0)
    except Missing as error:
        pytest.skip(str(error))
    assert figures.total() > 0
