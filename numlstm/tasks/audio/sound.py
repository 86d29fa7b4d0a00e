"""Sound as it comes: files, arrays of any kind, any rate; what leaves is mono at one rate."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.tasks.audio.features import Floats, missing

MIN_RATE, MAX_RATE = 1000, 768_000
MAX_CHANNELS = 64
LOUDEST = 32.0  # float samples lie within -1 to 1; this far beyond they are of another scale

# What a pipeline takes: a file, by its path or open in binary, or samples and their rate.
Sound = str | os.PathLike[str] | BinaryIO | tuple[ArrayLike, float]

_BLOCK = 2**18  # samples that a file is read in at once


def check_rate(rate: Any) -> float:
    """Return a sample rate in hertz, or raise what is wrong with it."""
    if isinstance(rate, bool | np.bool_) or not isinstance(rate, int | float | np.number):
        raise TypeError(f"the sample rate is {type(rate).__name__}, expected a number of hertz")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ValueError(f"the sample rate is {rate}, expected {MIN_RATE} to {MAX_RATE} hertz")
    return float(rate)


def mono(samples: ArrayLike) -> Floats:
    """Return samples (T,) or (T, channels) as float32 (T,), the mean of the channels.

    Full scale is 1 in floats, and the largest number of the type in int16, int32 and uint8, whose
    silence is 128.

    Raises
    ------
    TypeError, ValueError
        If they are something else, hold a NaN or an infinity, or lie far beyond full scale.
    """
    try:
        array = np.asarray(samples)
    except (RuntimeError, ValueError) as error:
        raise TypeError(f"the samples cannot be read as an array: {error}") from error
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= MAX_CHANNELS):
        raise ValueError(
            f"the samples have shape {array.shape}, expected (T,), or (T, channels) with at most "
            f"{MAX_CHANNELS} channels"
        )
    if not array.size and array.dtype == np.float64:  # an empty list
        return np.zeros(0, np.float32)
    floats = scaled(array)
    if floats.ndim == 2:
        floats = floats.mean(axis=1, dtype=np.float64)
    return np.ascontiguousarray(floats, np.float32)


def scaled(array: NDArray[Any]) -> NDArray[Any]:
    """Return samples of any shape as floats whose full scale is 1; types and errors of `mono`."""
    match array.dtype.name:
        case "int16" | "int32":
            return array / float(np.iinfo(array.dtype).max + 1)
        case "uint8":
            return (array - 128.0) / 128.0
        case "float16" | "float32" | "float64":
            _check_floats(array)
            return array
        case name:
            raise TypeError(f"the samples are of {name}, expected float32, int16, int32 or uint8")


def _check_floats(array: Any) -> None:
    loudest = float(np.abs(array).max(initial=0))
    if loudest <= LOUDEST:
        return
    if not np.isfinite(array).all():
        at = ", ".join(map(str, np.argwhere(~np.isfinite(array))[0]))
        raise ValueError(f"samples[{at}] is not finite")
    raise ValueError(
        f"the samples reach {loudest:g}, expected -1 to 1; pass 16-bit samples as int16"
    )


class Resampler:
    """Brings samples from one rate to another: soxr, the same bits in whatever pieces."""

    def __init__(self, rate: float, to: float) -> None:
        self._soxr = None
        if rate != to:
            # Medium quality: flat to 0.9 of the band; high waits for twice as much at 48 kHz.
            self._soxr = _load_soxr().ResampleStream(rate, to, 1, "float32", "MQ")

    def feed(self, samples: Floats, last: bool = False) -> Floats:
        """Return the samples that these complete; with the last ones, all."""
        if self._soxr is None:
            return samples
        resampled: Floats = self._soxr.resample_chunk(samples, last)
        return resampled


def _load_soxr() -> Any:
    try:
        import soxr
    except ImportError as error:
        raise missing("soxr", error) from error
    return soxr


def _load_soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: its C library is not there
        raise missing("soundfile", ImportError(error)) from error
    return soundfile


@contextmanager
def opened(sound: Sound) -> Iterator[tuple[float, Iterable[ArrayLike]]]:
    """Open what a pipeline is given, a sound file or (samples, rate): its rate, and blocks of it.

    Raises
    ------
    OSError, TypeError, ValueError
        If it is neither, or as `open_sound`. Samples and rate are not looked at yet.
    """
    if isinstance(sound, str | os.PathLike) or hasattr(sound, "read"):
        with open_sound(sound) as found:
            yield found
        return
    if not isinstance(sound, tuple) or len(sound) != 2:
        raise TypeError(f"the sound is {type(sound).__name__}, expected a path or (samples, rate)")
    samples, rate = sound
    yield rate, [samples]


@contextmanager
def open_sound(path: Any) -> Iterator[tuple[float, Iterator[Floats]]]:
    """Open a sound file, or one open in binary: its rate, and its samples in blocks (T, channels).

    wav, flac, ogg, mp3 and whatever else libsndfile reads. Of a truncated file, what is there.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be opened.
    ValueError
        If it holds no sound.
    """
    soundfile = _load_soundfile()
    name = getattr(path, "name", "the file") if hasattr(path, "read") else os.fspath(path)
    with nullcontext(path) if hasattr(path, "read") else Path(path).open("rb") as file:
        try:
            sound = soundfile.SoundFile(file)
        except (soundfile.SoundFileError, TypeError, ValueError) as error:
            reason = "it is empty" if not file.seek(0, os.SEEK_END) else _reason(error)
            raise ValueError(f"{name!r} is not a sound file: {reason}") from error
        with sound:
            yield check_rate(sound.samplerate), _blocks(sound, name, soundfile.SoundFileError)


def _blocks(sound: Any, name: str, failure: type[Exception]) -> Iterator[Floats]:
    while True:
        try:
            block = sound.read(_BLOCK, dtype="float32", always_2d=True)
        except failure as error:
            raise ValueError(
                f"{name!r} cannot be read on, it is damaged: {_reason(error)}"
            ) from error
        if not len(block):
            return
        yield block


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip()
