"""Speech recognition, whole or as the sound arrives."""

from dataclasses import dataclass

from numpy.typing import ArrayLike

from numlstm.errors import WeightsError
from numlstm.model import Model
from numlstm.run.threads import in_turn
from numlstm.spec import LogSoftmax
from numlstm.tasks.audio.ctc import BeamDecoder, GreedyDecoder
from numlstm.tasks.audio.features import ROW_SECONDS, ROW_SIZE, SAMPLE_RATE, Floats, LogMel
from numlstm.tasks.audio.listening import SoundPipeline
from numlstm.tasks.audio.sound import Resampler, check_rate, mono
from numlstm.tasks.checks import check_count
from numlstm.tasks.pipelines import PipelineStream

# Labels that are no words: of CTC, and of the beginning of a word.
BLANK = "<blank>"
BEGIN = "|"

# Silence after the end: the network names a word a little after it.
_TAIL = 0.3
# What is taken at once, so that an hour takes no more room than this.
_BLOCK = 2**18


@dataclass(frozen=True)
class Word:
    """A word, and from when to when it is spoken, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Transcript:
    """What is said: the words, and all of them joined by spaces."""

    text: str
    words: tuple[Word, ...]


class Transcriber(SoundPipeline[Transcript]):
    """Writes down what is said. Threads may share it.

    The model reads rows of `LogMel` and answers log-probabilities of its labels: "<blank>", "|"
    where a word begins, and the words.

    Attributes
    ----------
    model : Model
        The model.
    beam_size : int
        How many readings are followed by a prefix beam search; 1 follows the best path.
    """

    def __init__(self, model: Model, beam_size: int = 1) -> None:
        problems = []
        if model.vocab_size is not None or model.input_size != ROW_SIZE:
            problems.append(f"it does not read rows of {ROW_SIZE} log-mel energies")
        if model.labels[:2] != (BLANK, BEGIN):
            problems.append(f"its first labels are not {BLANK!r} and {BEGIN!r}")
        if not isinstance(model.network.layers[-1], LogSoftmax):
            problems.append("it does not end in a log-softmax")
        if not model.network.is_causal:
            problems.append("it reads later steps")
        if problems:
            raise WeightsError(f"the model cannot transcribe: {', '.join(problems)}")
        check_count("beam_size", beam_size)
        self.model = model
        self.beam_size = beam_size

    def stream(self, rate: float = SAMPLE_RATE) -> "SoundStream":
        """Return a stream that takes samples, so many per second, as they arrive."""
        return SoundStream(self, rate)


class SoundStream(PipelineStream[Transcript]):
    """A sound in progress. Belongs to one thread at a time.

    In whatever pieces it arrives, its transcript is the same. If a call raises, the stream is as it
    was before.
    """

    _item = "sound"

    def __init__(self, transcriber: Transcriber, rate: float = SAMPLE_RATE) -> None:
        super().__init__()
        self.rate = check_rate(rate)
        self._transcriber = transcriber
        self._stream = transcriber.model.stream()
        self.reset()

    @in_turn
    def reset(self) -> None:
        """Begin a new sound."""
        self._stream.reset()
        self._resampler = Resampler(self.rate, SAMPLE_RATE)
        self._log_mel = LogMel()
        beam_size = self._transcriber.beam_size
        self._decoder = BeamDecoder(beam_size) if beam_size > 1 else GreedyDecoder()
        self._num_samples = 0
        self._finished = False
        self._transcript = Transcript("", ())

    @in_turn
    def feed(self, samples: ArrayLike) -> Transcript:
        """Take more of the sound, cut anywhere.

        Parameters
        ----------
        samples : array of shape (T,) or (T, channels)
            Floats within -1 to 1, int16, int32 or uint8.

        Returns
        -------
        Transcript
            What is said so far.

        Raises
        ------
        TypeError, ValueError
            If samples are not as above, or the sound was finished before.
        """
        self._check_open()
        checked = mono(samples)
        self._num_samples += len(checked)
        for at in range(0, len(checked), _BLOCK):
            self._read(self._resampler.feed(checked[at : at + _BLOCK]))
        return self._transcript

    def _end(self) -> Transcript:
        tail = mono([0.0] * round(_TAIL * self.rate))
        self._read(self._resampler.feed(tail, last=True))
        return self._transcript

    def _read(self, samples: Floats) -> None:
        rows = self._log_mel.feed(samples)
        if len(rows):
            self._decoder.feed(self._stream.run(rows))
            self._transcript = self._write()

    def _write(self) -> Transcript:
        """Return what the decoder says as words with times: no later than the sound."""
        labels = self._transcriber.model.labels
        duration = self._num_samples / self.rate
        words, start = [], None
        for label, step in self._decoder.peaks:
            at = min(round(step * ROW_SECONDS, 3), duration)
            if labels[label] == BEGIN:
                start = at
            else:
                end = min(round((step + 1) * ROW_SECONDS, 3), duration)
                words.append(Word(labels[label], at if start is None else start, end))
                start = None
        return Transcript(" ".join(word.text for word in words), tuple(words))
