"""Log-mel features as sound arrives: the same bits in whatever pieces it does.

They are those of Kaldi, computed by kaldi-native-fbank: windows of 25 ms every 10 ms, without
their mean, pre-emphasised; the power spectrum under 40 triangles on the mel scale; the logarithm.
Two neighbouring frames make one row, 20 ms, so that a network takes 50 steps per second.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SAMPLE_RATE = 8000
NUM_BINS = 40
FRAME_LENGTH_MS = 25
FRAME_SHIFT_MS = 10
FRAMES_PER_ROW = 2
ROW_SIZE = NUM_BINS * FRAMES_PER_ROW
ROW_SECONDS = FRAME_SHIFT_MS * FRAMES_PER_ROW / 1000


def missing(package: str, error: ImportError) -> ImportError:
    """Return the error that says what to install."""
    return ImportError(
        f'audio needs {package}, which cannot be imported ({error}): pip install "numlstm[audio]"'
    )


def _load_knf() -> Any:
    try:
        import kaldi_native_fbank
    except ImportError as error:
        raise missing("kaldi-native-fbank", error) from error
    return kaldi_native_fbank


class LogMel:
    """Turns samples at `SAMPLE_RATE`, from -1 to 1, into rows of log-mel energies."""

    def __init__(self) -> None:
        knf = _load_knf()
        options = knf.FbankOptions()
        options.frame_opts.samp_freq = SAMPLE_RATE
        options.frame_opts.frame_length_ms = FRAME_LENGTH_MS
        options.frame_opts.frame_shift_ms = FRAME_SHIFT_MS
        options.frame_opts.dither = 0  # noise, different every time
        options.mel_opts.num_bins = NUM_BINS
        self._fbank = knf.OnlineFbank(options)
        self._num_taken = 0

    def feed(self, samples: Floats) -> Floats:
        """Return the rows (T, ROW_SIZE) that these samples complete."""
        self._fbank.accept_waveform(SAMPLE_RATE, samples)
        num_rows = (self._fbank.num_frames_ready - self._num_taken) // FRAMES_PER_ROW
        rows = np.empty((num_rows * FRAMES_PER_ROW, NUM_BINS), np.float32)
        for row in rows:
            row[:] = self._fbank.get_frame(self._num_taken)
            self._num_taken += 1
        self._fbank.pop(len(rows))
        return rows.reshape(num_rows, ROW_SIZE)
