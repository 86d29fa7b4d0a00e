"""Whatever is done to streams and pools, in any order: the rules of `tests/fuzz/_world.py`."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from numlstm import WeightsError
from tests.fuzz._case import Case
from tests.fuzz._world import RULES, World
from tests.fuzz.api import Drawn, cases

NUMBERS = st.integers(0, 2**16)


class AnyOrder(RuleBasedStateMachine):
    """A world whose choices are Hypothesis's, so that what is found is shrunk."""

    world: World | None = None

    @initialize(drawn=cases())
    def begin(self, drawn: Drawn) -> None:
        try:
            case = Case(*drawn)
        except WeightsError:  # the numbers of its weights overflow together
            return
        case.judge_whole()
        self.world = World(case, lambda below: self._draw(NUMBERS) % below)
        self._draw = lambda strategy: 0
        self.world.begin()

    @precondition(lambda self: self.world is not None)
    @rule(name=st.sampled_from(RULES), data=st.data())
    def do(self, name: str, data: Any) -> None:
        assert self.world is not None
        self._draw = data.draw
        self.world.do(name)

    def teardown(self) -> None:
        self._draw = lambda strategy: 0
        if self.world is not None:
            self.world.check_all()


AnyOrder.TestCase.settings = settings(max_examples=40, stateful_step_count=20)
TestAnyOrder = AnyOrder.TestCase
