"""What a file may cost its reader."""

from typing import Any

import pytest

import numlstm
from numlstm.budget import Budget, spend, spending
from numlstm.errors import WeightsError
from tests.lazy import torch


def test_what_is_not_read_from_a_file_spends_nothing() -> None:
    spend("a tensor", memory=1e30, operations=1e30)


@pytest.mark.parametrize("cost", [{"memory": 60}, {"operations": 2e9}])
def test_what_is_spent_adds_up_and_is_refused_with_what_to_do(cost: dict[str, float]) -> None:
    with spending(10, Budget(memory=100, seconds=3)):
        spend("layers.0", **cost)
        with pytest.raises(WeightsError, match=r"^layers.1 takes .* budget=numlstm.Budget"):
            spend("layers.1", **cost)


def test_a_file_within_a_file_spends_of_the_same_budget() -> None:
    with spending(10, Budget(memory=100, seconds=3)):
        with spending(10**9):
            spend("a", memory=60)
        with pytest.raises(WeightsError, match="b takes"):
            spend("b", memory=60)
    spend("c", memory=10**9)


def test_a_larger_file_may_cost_more() -> None:
    small, large = Budget.of_file(1000), Budget.of_file(10**9)
    assert small.memory < 1.1e9
    assert small.seconds < 5
    assert large.memory > 32e9
    assert large.seconds > 900


@pytest.mark.parametrize("value", ["8 GB", None, float("nan"), -1, 1j])
def test_a_budget_is_of_numbers(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^memory is .*, expected a number"):
        Budget(memory=value, seconds=60)
    with pytest.raises(ValueError, match=r"^seconds is .*, expected a number"):
        Budget(memory=8e9, seconds=value)


def test_a_word_is_no_file_though_one_is_named_so(tmp_path, monkeypatch):
    (tmp_path / "mean").touch()
    monkeypatch.chdir(tmp_path)
    nothing = Budget(memory=0, seconds=0)
    model = numlstm.from_torch(torch.nn.Linear(4, 3), "mean", budget=nothing)
    assert model.verify().ok
