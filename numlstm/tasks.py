"""The tasks: what each takes and gives, and the bundled model that does it."""

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

from numlstm.audio.transcribe import Transcriber
from numlstm.load import load_parts
from numlstm.model import Model
from numlstm.pipelines import Pipeline
from numlstm.spec import WeightsError
from numlstm.text.chat import Chat
from numlstm.text.classify import Classifier, MailClassifier
from numlstm.text.generate import Writer
from numlstm.text.language import LanguageModel
from numlstm.text.summarize import Abstractor, Extractor, Summarizer
from numlstm.text.tag import Tagger

Parts = Mapping[str, Model]
Source = str | os.PathLike[str] | Model | Parts


def _one(make: Callable[..., Pipeline]) -> Callable[..., Pipeline]:
    """Return what makes a pipeline of the only network of a file."""

    def of_parts(parts: Parts, **options: Any) -> Pipeline:
        if set(parts) != {""}:
            raise WeightsError(
                f"the model has several networks, {', '.join(parts)}: this task takes one"
            )
        return make(parts[""], **options)

    return of_parts


def _summarizer(parts: Parts) -> Summarizer:
    return Extractor(parts[""]) if set(parts) == {""} else Abstractor(parts)


# The task, the bundled model that does it if no other is given, and what makes the pipeline.
TASKS: dict[str, tuple[str, Callable[..., Pipeline]]] = {
    "sentiment": ("sentiment", _one(Classifier)),
    "email": ("email", _one(MailClassifier)),
    "pos": ("pos", Tagger),
    "language-model": ("words", _one(LanguageModel)),
    "generate": ("character", _one(Writer)),
    "chat": ("chat", Chat),
    "speech": ("speech", _one(Transcriber)),
    "summarize": ("summarize", _summarizer),
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
    name, make = TASKS[task]
    if isinstance(model, Model):
        return make({"": model}, **options)
    if isinstance(model, Mapping):
        return make(model, **options)
    return make(load_parts(name if model is None else model), **options)
