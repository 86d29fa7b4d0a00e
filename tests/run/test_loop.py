"""Streams in an event loop: the same answers, others run meanwhile, nobody is left in a stream."""

import asyncio
import contextlib
import threading

import numpy as np
import pytest

import numlstm
from numlstm import LSTM, Embedding, Linear, Network
from tests.cases import assert_same_bits, random_weights
from tests.conftest import PATIENCE

TOKENS = numlstm.Model(random_weights(Network((Embedding(30, 6), LSTM(6, 17), Linear(17, 30)))))


async def listed(items, most):
    found = []
    async for item in items:
        found.append(item)
        if len(found) == most:
            break
    return found


def test_tokens_are_those_of_a_plain_loop_and_others_run_between_them():
    ticks = []

    async def tick():
        while True:
            ticks.append(len(ticks))
            await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(tick())
        tokens = await listed(TOKENS.stream().tokens(1, seed=3), 50)
        task.cancel()
        return tokens

    expected = [
        token for _, token in zip(range(50), TOKENS.stream().tokens(1, seed=3), strict=False)
    ]
    assert asyncio.run(main()) == expected
    assert len(ticks) >= 50
    stops = list(range(30))
    assert len(asyncio.run(listed(TOKENS.stream().tokens(1, seed=3, stop=stops), 9))) == 1


def test_a_writer_and_a_dialogue_write_piece_by_piece():
    writer, chat = numlstm.pipeline("generate"), numlstm.pipeline("chat")
    written = asyncio.run(listed(writer.stream("To be", 30, seed=1), 100))
    assert "".join(written) == writer("To be", 30, seed=1)
    session = chat.session()
    said = asyncio.run(listed(session.stream("Hi!", seed=1), 100))
    assert "".join(said) == chat("Hi!", seed=1) == session.history[-1].text


def test_an_answer_that_is_closed_is_in_the_history_as_far_as_it_was_written():
    session = numlstm.pipeline("chat").session()

    async def main():
        async with contextlib.aclosing(session.stream("A hotel in London.", seed=1)) as pieces:
            return await anext(pieces)

    assert session.history == ()
    piece = asyncio.run(main())
    assert [turn.text for turn in session.history] == ["A hotel in London.", piece]


def test_a_live_stream_answers_what_arrives():
    pipe = numlstm.pipeline("sentiment")

    async def chunks():
        for chunk in ("The movie ", "was not ", "good."):
            await asyncio.sleep(0)
            yield chunk

    answers = asyncio.run(listed(pipe.stream().over(chunks()), 9))
    assert len(answers) == 4
    assert answers[-1] == pipe("The movie was not good.")


def test_off_the_loop_others_run_and_errors_arrive():
    xs = np.arange(20) % 30

    async def main():
        stream = TOKENS.stream()
        ys = await numlstm.off_loop(stream.run, xs)
        with pytest.raises(ValueError, match="token id 99"):
            await numlstm.off_loop(stream.run, [99])
        return ys, stream.num_steps

    ys, num_steps = asyncio.run(main())
    assert_same_bits(ys, TOKENS.run(xs))
    assert num_steps == 20


@pytest.mark.parametrize("times", [1, 3])
def test_who_is_cancelled_leaves_no_thread_in_the_stream(times):
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def slow():
        began.set()
        go_on.wait(PATIENCE)
        ended.set()
        raise ValueError("nobody looks at this")

    async def main():
        task = asyncio.create_task(numlstm.off_loop(slow))
        while not began.is_set():
            await asyncio.sleep(0.001)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0.01)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(main())
