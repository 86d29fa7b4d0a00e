"""The tasks: what each takes and gives, the bundled models that do it, and the command.

The command shows this table to whoever asks for help: a pipeline is imported when it is made.
"""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, Unpack, overload

from numlstm.load import load_parts

if TYPE_CHECKING:
    from numlstm.model import Model
    from numlstm.run.sampling import SamplingOptions
    from numlstm.tasks.audio.hysteresis import HysteresisOptions
    from numlstm.tasks.audio.transcribe import Transcriber
    from numlstm.tasks.audio.vad import VoiceDetector
    from numlstm.tasks.text.chat import Chat
    from numlstm.tasks.text.classify import Classifier, MailClassifier
    from numlstm.tasks.text.generate import Writer
    from numlstm.tasks.text.language import LanguageModel
    from numlstm.tasks.text.summarize import Summarizer
    from numlstm.tasks.text.tag import Tagger

Parts: TypeAlias = "Mapping[str, Model]"
Source: TypeAlias = "str | os.PathLike[str] | Model | Parts"


class Task(NamedTuple):
    """What a pipeline does.

    command      of ``numlstm``
    models       the bundled ones that do it
    module       where what makes the pipeline is
    maker        its name; it takes the only network of a file,
    takes_parts  or all of them by their names
    """

    command: str
    models: tuple[str, ...]
    module: str
    maker: str
    takes_parts: bool = False

    @property
    def model(self) -> str:
        """The bundled model that does it if no other is given."""
        return self.models[0]

    def make(self, parts: Parts, **options: Any) -> Any:
        """Return the pipeline of the networks of a file."""
        maker = getattr(import_module(f"numlstm.tasks.{self.module}"), self.maker)
        if self.takes_parts:
            return maker(parts, **options)
        if set(parts) != {""}:
            from numlstm.errors import WeightsError

            raise WeightsError(
                f"the model has several networks, {', '.join(parts)}: this task takes one"
            )
        return maker(parts[""], **options)


TASKS = {
    "sentiment": Task("classify", ("sentiment", "sentiment-bilstm"), "text.classify", "Classifier"),
    "email": Task("classify", ("email",), "text.classify", "MailClassifier"),
    "pos": Task("tag", ("pos",), "text.tag", "Tagger", takes_parts=True),
    "language-model": Task(
        "score", ("words", "character", "subword"), "text.language", "LanguageModel"
    ),
    "generate": Task("generate", ("character", "subword", "words"), "text.generate", "Writer"),
    "chat": Task("chat", ("chat",), "text.chat", "Chat", takes_parts=True),
    "speech": Task("transcribe", ("speech",), "audio.transcribe", "Transcriber"),
    "vad": Task("vad", ("vad",), "audio.vad", "VoiceDetector", takes_parts=True),
    "summarize": Task(
        "summarize", ("summarize", "extract"), "text.summarize", "summarizer", takes_parts=True
    ),
}

# How the tasks that write draw tokens, unless they are told.
DEFAULTS: "dict[str, SamplingOptions]" = {
    "chat": {"temperature": 0.7, "top_p": 0.8},
    "generate": {"temperature": 0.8},
}


@overload
def pipeline(task: Literal["sentiment"], model: "Source | None" = ...) -> "Classifier": ...
@overload
def pipeline(task: Literal["email"], model: "Source | None" = ...) -> "MailClassifier": ...
@overload
def pipeline(task: Literal["pos"], model: "Source | None" = ...) -> "Tagger": ...
@overload
def pipeline(task: Literal["language-model"], model: "Source | None" = ...) -> "LanguageModel": ...
@overload
def pipeline(task: Literal["generate"], model: "Source | None" = ...) -> "Writer": ...
@overload
def pipeline(task: Literal["chat"], model: "Source | None" = ...) -> "Chat": ...
@overload
def pipeline(
    task: Literal["speech"], model: "Source | None" = ..., *, beam_size: int = ...
) -> "Transcriber": ...
@overload
def pipeline(
    task: Literal["vad"],
    model: "Source | None" = ...,
    **options: "Unpack[HysteresisOptions]",
) -> "VoiceDetector": ...
@overload
def pipeline(task: Literal["summarize"], model: "Source | None" = ...) -> "Summarizer": ...
@overload
def pipeline(task: str, model: "Source | None" = ..., **options: Any) -> Any: ...
def pipeline(task: str, model: "Source | None" = None, **options: Any) -> Any:
    """Return what does a task.

    Parameters
    ----------
    task : str
        "sentiment" : a text gets a label and its probability, `Prediction`.
        "email" : so does a message, or each of an .eml or mbox file.
        "pos" : a text becomes words with their parts of speech, `Tag`.
        "language-model" : a text is scored, `Score`.
        "generate" : a text is continued.
        "chat" : a dialogue, by ``session()``.
        "speech" : a sound becomes words with their times, `Transcript`.
        "vad" : where in a sound there is speech, `VoiceActivity`.
        "summarize" : a text becomes a sentence.
    model : str, path, Model, or dict of Model, optional
        A bundled model, a file, or what `load` or `load_parts` gave; the bundled model of the task
        if not given.
    beam_size : int
        Only of "speech": how many readings are followed by a beam search; 1 follows the best path.
    threshold, neg_threshold, min_speech_duration, min_silence_duration, speech_pad, \
max_speech_duration : float
        Only of "vad": what is speech, see `HysteresisOptions`.

    Raises
    ------
    ValueError
        If there is no such task.
    FileNotFoundError, WeightsError
        If there is no such model, or it cannot do the task.

    Examples
    --------
    >>> pipe = numlstm.pipeline("sentiment")
    >>> pipe("The movie was good.").label
    'positive'
    """
    if task not in TASKS:
        raise ValueError(f"task is {task!r}, expected one of: {', '.join(TASKS)}")
    from numlstm.model import Model

    parts: Parts
    if isinstance(model, Model):
        parts = {"": model}
    elif isinstance(model, Mapping):
        parts = model
    else:
        parts = load_parts(TASKS[task].model if model is None else model)
    return TASKS[task].make(parts, **options)
