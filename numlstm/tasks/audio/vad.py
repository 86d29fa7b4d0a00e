"""Voice activity: where in a sound there is speech, and how probable it is.

The networks are those of Silero VAD: a row is a chunk of 32 ms behind the end of the chunk before,
the answer the probability that there is speech in it.
"""

from collections.abc import Mapping
from typing import Unpack

from numlstm.errors import WeightsError
from numlstm.model import Model
from numlstm.network.functions import parse_function
from numlstm.spec import Concat, Network, Pooling, Slice
from numlstm.tasks.audio.hysteresis import Hysteresis, HysteresisOptions
from numlstm.tasks.audio.listening import SoundPipeline
from numlstm.tasks.audio.sound import check_rate
from numlstm.tasks.audio.voice import CHUNKINGS, VoiceActivity, VoicePool, VoiceStream

_PROBABILITIES = {"sigmoid", "hard_sigmoid"}  # functions that answer 0 to 1


class VoiceDetector(SoundPipeline[VoiceActivity]):
    """Finds speech. Threads may share it.

    Attributes
    ----------
    models : dict of Model
        The networks, by the sample rate that they are for: 16000, 8000 or both.
    hysteresis : Hysteresis
        What is speech: thresholds and durations.
    """

    def __init__(self, parts: Mapping[str, Model], **options: Unpack[HysteresisOptions]) -> None:
        if not parts:
            raise WeightsError("the model cannot find speech: it has no networks")
        self.models: dict[int, Model] = {}
        for part, model in parts.items():
            problems = _problems(model)
            rate = 0 if problems else CHUNKINGS[model.input_size].rate
            if rate in self.models:
                problems = [f"another one reads {rate} Hz as well"]
            if problems:
                name = f", {part}" if part else ""
                raise WeightsError(f"the model cannot find speech{name}: {'; '.join(problems)}")
            self.models[rate] = model
        self.hysteresis = Hysteresis(**options)

    def stream(self, rate: float = 16000) -> VoiceStream:
        """Return a stream that takes samples, so many per second, as they arrive."""
        rate = check_rate(rate)
        return VoiceStream(self.model_for(rate), self.hysteresis, rate)

    def pool(self, capacity: int, rate: float = 16000) -> VoicePool:
        """Return room for so many sounds in progress, calls for example, which are read together.

        Parameters
        ----------
        capacity : int
            How many may be open.
        rate : float
            Samples per second, of all of them.
        """
        rate = check_rate(rate)
        return VoicePool(self.model_for(rate), self.hysteresis, capacity, rate)

    def model_for(self, rate: float) -> Model:
        """Return the network for sounds of a rate: that for 8000 Hz if they have no more."""
        fits = [known for known in sorted(self.models) if known >= rate]
        return self.models[fits[0] if fits else max(self.models)]


def _problems(model: Model) -> list[str]:
    """Return why a network does not say of a chunk how probable speech in it is."""
    problems = []
    if model.vocab_size is not None or model.input_size not in CHUNKINGS:
        known = " or ".join(
            f"{size} (at {c.rate} Hz{f', {c.size} behind {c.context} of before' * (c.context > 0)})"
            for size, c in CHUNKINGS.items()
        )
        reads = "tokens" if model.vocab_size is not None else f"{model.input_size} numbers"
        problems.append(f"it reads {reads} a step, expected {known}")
    if model.output_size != 1:
        problems.append(f"it answers {model.output_size} numbers, expected one")
    elif not _ends_in_probabilities(model.network):
        problems.append("it does not end in a sigmoid")
    if not model.network.is_causal:
        problems.append("it reads later steps")
    return problems


def _ends_in_probabilities(network: Network) -> bool:
    """Whether all that a network can answer lies within 0 to 1."""
    last = len(network.layers) - 1
    while last >= 0 and isinstance(network.layers[last], Concat | Slice | Pooling):
        last = network.sources(last)[0]
    layer = network.layers[last]
    function = getattr(layer, "activation", None) or getattr(layer, "function", None)
    return function is not None and parse_function(function)[0] in _PROBABILITIES
