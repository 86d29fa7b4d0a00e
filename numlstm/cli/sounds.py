"""Sound on stdin: raw samples as they arrive, and how they are written."""

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

if TYPE_CHECKING:
    import numpy as np

PIECE_SECONDS = 0.05  # what is read at once


class Format(StrEnum):
    """Of raw samples."""

    s16 = "s16"
    f32 = "f32"


_DTYPES = {Format.s16: "<i2", Format.f32: "<f4"}  # NumPy's names

RateOption = Annotated[int, typer.Option(help="Of raw samples on stdin, in hertz.")]
ChannelsOption = Annotated[int, typer.Option(min=1, help="Of raw samples on stdin.")]
FormatOption = Annotated[
    Format, typer.Option("--format", help="Of raw samples on stdin, little-endian.")
]


def samples(
    source: BinaryIO, start: bytes, rate: int, channels: int, sample_format: Format
) -> "Iterator[np.ndarray[Any, Any]]":
    """Yield samples (T, channels) as they arrive; a part of one at the end is left.

    start   what was read of them already
    """
    import numpy as np

    dtype = np.dtype(_DTYPES[sample_format])
    size = dtype.itemsize * channels
    count = round(rate * PIECE_SECONDS)
    rest = start
    read = getattr(source, "read1", source.read)
    while True:
        data = read(max(count * size, 1))
        rest += data
        whole = len(rest) // size * size
        if whole:
            yield np.frombuffer(rest[:whole], dtype).reshape(-1, channels)
            rest = rest[whole:]
        if not data:
            return
