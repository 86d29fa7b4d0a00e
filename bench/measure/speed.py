"""``python -m bench step``, ``sequence``, ``pool`` and ``generate``: beside other engines."""

from itertools import product

from bench.engines.cases import SIZES, Case
from bench.measure.compare import Cores, Engines, Json, Quick, Threads, compare, settings

VOCAB_SIZES = (100, 10_000)  # of characters, of words
_NUM_STREAMS = (1, 2, 4, 8, 16, 32, 64, 128)
_SMALL = (8, 16, 32)  # units


def step(
    quick: Quick = False,
    json_path: Json = None,
    core: Cores = None,
    engine: Engines = None,
    threads: Threads = 1,
) -> None:
    """Compare one step of a stream, and one of a token model, in each dtype."""
    how = settings("step", quick, json_path, core, engine, threads, seconds=0.1)
    sizes = (16, 128) if quick else SIZES
    cases = [
        Case("step", cell, size, depth, num_threads=threads)
        for cell, depth, size in product(("LSTM", "GRU"), (1, 2), sizes)
    ]
    words = 100 if quick else VOCAB_SIZES[-1]
    tokens = Case("step", "LSTM", 256, vocab_size=words, num_threads=threads)
    compare([*cases, tokens], how)


def sequence(
    quick: Quick = False,
    json_path: Json = None,
    core: Cores = None,
    engine: Engines = None,
    threads: Threads = 1,
) -> None:
    """Compare sequences of 64 and 1,000 steps, in one direction and in two; small networks, too."""
    how = settings("sequence", quick, json_path, core, engine, threads)
    kinds = [(16, 1, 64), (128, 2, 64)] if quick else [(size, 1, 64) for size in _SMALL]
    if not quick:
        kinds += product((64, 128, 256), (1, 2), (64, 1000))
    cases = [
        Case(
            "sequence",
            "LSTM",
            size,
            num_directions=directions,
            num_steps=steps,
            num_threads=threads,
        )
        for size, directions, steps in kinds
    ]
    compare(cases, how)


def pool(
    quick: Quick = False,
    json_path: Json = None,
    core: Cores = None,
    engine: Engines = None,
    threads: Threads = 1,
) -> None:
    """Compare one step of many streams at once, beside the peak of the core."""
    how = settings("pool", quick, json_path, core, engine, threads)
    sizes, counts = ((128,), (1, 8)) if quick else ((128, 256, 512), _NUM_STREAMS)
    cases = [
        Case("pool", "LSTM", size, num_streams=count, num_threads=threads)
        for size, count in product(sizes, counts)
    ]
    compare(cases, how)


def generate(
    quick: Quick = False,
    json_path: Json = None,
    core: Cores = None,
    engine: Engines = None,
    threads: Threads = 1,
) -> None:
    """Compare tokens per second, sampled from the likeliest 40, of characters and of words."""
    how = settings("generate", quick, json_path, core, engine, threads)
    characters, words = VOCAB_SIZES
    sizes = [(characters, 128)] if quick else [(characters, 256), (characters, 512), (words, 256)]
    cases = [
        Case("generate", "LSTM", size, vocab_size=vocab_size, num_threads=threads)
        for vocab_size, size in sizes
    ]
    compare(cases, how)
