"""The whole API in any order, on networks that nobody thought of: bits against bits, the reference.

Whatever happened to a sequence, a fresh stream to which the same is done in as few calls as
possible has answered the same bits and keeps the same; what was refused has changed nothing; and
what began at the beginning is what `numlstm.reference` says. The rules are those of `_world.py`:
here `random.Random` chooses, in `tests/run/test_any_order.py` Hypothesis, which shrinks its finds.
"""

import random
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from numlstm import Network, WeightsError
from tests.fuzz import Clock, Figures, Found
from tests.fuzz._case import Case
from tests.fuzz._world import RULES, World
from tests.strategies import decoders, networks

SEQUENCES = 10  # of rules, on each network
HOT = [1e4, 1e20, 1e38]  # by what numbers are multiplied, so that they overflow here and there

Drawn = tuple[Network, int, Any, int, float]


@st.composite
def cases(draw: Any) -> Drawn:
    """Draw a network of any dtype, how it is loaded, how large its numbers are: a `Case`."""
    network = draw(st.one_of(networks(), networks(), decoders()))
    dtype = draw(st.sampled_from(["float32", "float32", "bfloat16", "int8", "int8/int8"]))
    if dtype != "float32":
        network = network.with_dtype(*dtype.split("/"))
    fold = draw(st.sampled_from([True, False, "auto"]))
    num_threads, most = draw(st.sampled_from([1, 1, 2])), draw(st.sampled_from([1.0] * 6 + HOT))
    return network, draw(st.integers(0, 999)), fold, num_threads, most


def play(case: Case, number: str, length: int = 16) -> Figures:
    """Play a sequence of rules; a `Found` tells what was done."""
    chance = random.Random(number)
    world = World(case, chance.randrange)
    try:
        world.begin()
        for _ in range(length):
            world.do(chance.choice(RULES))
        world.check_all()
    except Exception as error:
        raise Found(f"{error}; {case}; play(case, {number!r}): {', '.join(world.log)}") from error
    return world.figures | Figures(sequences=1)


def run(clock: Clock, seed: int) -> Figures:
    """Play sequences of rules, a few on every network that is drawn."""
    figures = Figures()
    # Threads pay where there is more work than here.
    with (
        mock.patch("numlstm.run.pool.THREAD_WORK", 1),
        mock.patch("numlstm.run.batch.THREAD_WORK", 1),
    ):
        while _some_networks(clock, seed, figures):
            seed += 1
    return figures


def _some_networks(clock: Clock, number: int, figures: Figures) -> bool:
    """Draw some networks and play on each; return whether there is time for more."""
    ticks = True

    @seed(number)
    @settings(
        max_examples=100,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(cases())
    def play_on(drawn: Drawn) -> None:
        nonlocal ticks
        if not ticks:
            return
        try:
            case = Case(*drawn)
        except WeightsError:  # they overflow before the first step
            return
        try:
            figures.update(Figures(networks=1, against_the_reference=case.judge_whole()))
        except Exception as error:
            raise Found(f"{error}; {case}; case.judge_whole()") from error
        for n in range(SEQUENCES):
            ticks = clock.ticks()
            if ticks:
                figures.update(play(case, f"{number}/{n}"))

    play_on()
    return ticks
