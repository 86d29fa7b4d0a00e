"""Sound files, as a pipeline reads them: blocks, one channel, another rate."""

from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz import Found
from tests.fuzz._changes import change_bytes
from tests.fuzz._promises import refused

from numlstm.tasks.audio.sound import LOUDEST, Resampler, mono, open_sound  # isort: skip

_RATE = 8000


def change(data: bytes, donor: bytes, random: Random) -> bytes:
    return change_bytes(data, donor, random)


def read(data: bytes, folder: Path, random: Random) -> str:
    path = folder / "sound"
    path.write_bytes(data)
    try:
        with open_sound(path) as (rate, blocks):
            resampler = Resampler(rate, _RATE)
            for block in blocks:
                samples = resampler.feed(mono(block))
                if not np.isfinite(samples).all() or np.abs(samples).max(initial=0) > 4 * LOUDEST:
                    raise Found(f"samples reach {np.abs(samples).max()}")
            resampler.feed(np.zeros(0, np.float32), last=True)
    except ValueError as error:
        return refused(error)
    return "read"
