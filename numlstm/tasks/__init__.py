"""The tasks: what each takes and gives, the bundled models that do it, and the command."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, overload

from numlstm.errors import WeightsError
from numlstm.load import load_parts
from numlstm.model import Model
from numlstm.tasks.audio.transcribe import Transcriber
from numlstm.tasks.pipelines import Pipeline
from numlstm.tasks.text.chat import Chat
from numlstm.tasks.text.classify import Classifier, MailClassifier
from numlstm.tasks.text.generate import Writer
from numlstm.tasks.text.language import LanguageModel
from numlstm.tasks.text.summarize import Abstractor, Extractor, Summarizer
from numlstm.tasks.text.tag import Tagger

Parts = Mapping[str, Model]
Source = str | os.PathLike[str] | Model | Parts


Maker = Callable[..., Pipeline[Any, Any]]


def _one(make: Maker) -> Maker:
    """Return what makes a pipeline of the only network of a file."""

    def of_parts(parts: Parts, **options: Any) -> Pipeline[Any, Any]:
        if set(parts) != {""}:
            raise WeightsError(
                f"the model has several networks, {', '.join(parts)}: this task takes one"
            )
        return make(parts[""], **options)

    return of_parts


def _summarizer(parts: Parts) -> Summarizer:
    return Extractor(parts[""]) if set(parts) == {""} else Abstractor(parts)


@dataclass(frozen=True)
class Task:
    """What a pipeline does.

    command   of ``numlstm``
    models    the bundled ones that do it
    make      makes the pipeline of the networks of a file
    """

    command: str
    models: tuple[str, ...]
    make: Maker

    @property
    def model(self) -> str:
        """The bundled model that does it if no other is given."""
        return self.models[0]


TASKS = {
    "sentiment": Task("classify", ("sentiment", "sentiment-bilstm"), _one(Classifier)),
    "email": Task("classify", ("email",), _one(MailClassifier)),
    "pos": Task("tag", ("pos",), Tagger),
    "language-model": Task("score", ("words", "character", "subword"), _one(LanguageModel)),
    "generate": Task("generate", ("character", "subword", "words"), _one(Writer)),
    "chat": Task("chat", ("chat",), Chat),
    "speech": Task("transcribe", ("speech",), _one(Transcriber)),
    "summarize": Task("summarize", ("summarize", "extract"), _summarizer),
}


@overload
def pipeline(task: Literal["sentiment"], model: Source | None = ...) -> Classifier: ...
@overload
def pipeline(task: Literal["email"], model: Source | None = ...) -> MailClassifier: ...
@overload
def pipeline(task: Literal["pos"], model: Source | None = ...) -> Tagger: ...
@overload
def pipeline(task: Literal["language-model"], model: Source | None = ...) -> LanguageModel: ...
@overload
def pipeline(task: Literal["generate"], model: Source | None = ...) -> Writer: ...
@overload
def pipeline(task: Literal["chat"], model: Source | None = ...) -> Chat: ...
@overload
def pipeline(
    task: Literal["speech"], model: Source | None = ..., *, beam_size: int = ...
) -> Transcriber: ...
@overload
def pipeline(task: Literal["summarize"], model: Source | None = ...) -> Summarizer: ...
@overload
def pipeline(task: str, model: Source | None = ..., **options: Any) -> Any: ...
def pipeline(task: str, model: Source | None = None, **options: Any) -> Any:
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
        "summarize" : a text becomes a sentence.
    model : str, path, Model, or dict of Model, optional
        A bundled model, a file, or what `load` or `load_parts` gave; the bundled model of the task
        if not given.
    beam_size : int
        Only of "speech": how many readings are followed by a beam search; 1 follows the best path.

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
    parts: Parts
    if isinstance(model, Model):
        parts = {"": model}
    elif isinstance(model, Mapping):
        parts = model
    else:
        parts = load_parts(TASKS[task].model if model is None else model)
    return TASKS[task].make(parts, **options)
