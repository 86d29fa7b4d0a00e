"""``numlstm vad``: where there is speech, in files or while somebody speaks."""

import io
import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

import numlstm
from numlstm.cli import terminal
from numlstm.cli.options import JsonOption, model_option
from numlstm.cli.sounds import ChannelsOption, Format, FormatOption, RateOption, samples
from numlstm.cli.texts import answer_all, write_json
from numlstm.tasks import TASKS

_LEVELS = " ▁▂▃▄▅▆▇█"
_WIDTH = 72  # of a picture of the probabilities


def vad(
    files: Annotated[
        list[Path], typer.Argument(help="Sound files: wav, flac, ogg, mp3; - is stdin.")
    ],
    model: Annotated[str, model_option("vad")] = TASKS["vad"].model,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Speech begins at this probability.")
    ] = 0.5,
    neg_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="It ends below this one; without it 0.15 less."),
    ] = None,
    min_speech_duration: Annotated[
        float, typer.Option(min=0, help="Seconds; no longer speech is left out.")
    ] = 0.25,
    min_silence_duration: Annotated[
        float, typer.Option(min=0, help="Seconds; a shorter pause ends nothing.")
    ] = 0.1,
    speech_pad: Annotated[
        float, typer.Option(min=0, help="Seconds of the sound around it that belong to speech.")
    ] = 0.03,
    max_speech_duration: Annotated[
        float, typer.Option(min=0, help="Seconds; longer speech is cut.")
    ] = float("inf"),
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Show that of every chunk of 32 ms.")
    ] = False,
    rate: RateOption = 16000,
    channels: ChannelsOption = 1,
    sample_format: FormatOption = Format.s16,
    as_json: JsonOption = False,
) -> None:
    """Find where in sound files there is speech, or on stdin while somebody speaks.

    A line is from when to when, in seconds. From a pipe come raw samples, or a wav file: every
    beginning and end is shown at once.

    [bold]Examples[/bold]

        numlstm vad meeting.wav

        numlstm vad *.wav --json > speech.jsonl

        arecord -q -f S16_LE -r 16000 | numlstm vad -
    """
    pipe: Any = terminal.pipeline(
        "vad", model, threshold=threshold, neg_threshold=neg_threshold,
        min_speech_duration=min_speech_duration, min_silence_duration=min_silence_duration,
        speech_pad=speech_pad, max_speech_duration=max_speech_duration,
    )  # fmt: skip

    def answer(file: Path) -> None:
        if str(file) == "-":
            _listen(pipe, sys.stdin.buffer, rate, channels, sample_format, as_json)
        else:
            _show(pipe(file), file, probabilities, as_json, is_alone=len(files) == 1)

    answer_all(((str(file), file) for file in files), answer, (ValueError, OSError))


def _show(
    found: "numlstm.VoiceActivity", file: Path, probabilities: bool, as_json: bool, is_alone: bool
) -> None:
    if as_json:
        fields: dict[str, Any] = {"file": str(file), "segments": found.segments}
        if probabilities:
            fields["probabilities"] = found.probabilities
        write_json(**fields)
        return
    out = terminal.console
    if not is_alone:
        out.print(f"{file}:", style="dim", markup=False)
    if out.is_terminal and not out.legacy_windows:
        out.print(_picture(found.probabilities.tolist()), style="cyan", markup=False)
    if probabilities:
        for n, probability in enumerate(found.probabilities.tolist()):
            out.print(f"{n * found.chunk_seconds:9.3f}  {probability:.3f}")
    for each in found.segments:
        out.print(_times(each.start, each.end))
    if not found.segments:
        out.print("(no speech)")


def _times(start: float, end: float) -> str:
    return f"{start:9.3f} {end:9.3f}"


def _picture(probabilities: list[float]) -> str:
    """Return a line of blocks, each as high as the largest of its probabilities."""
    width = min(_WIDTH, len(probabilities))
    bounds = [n * len(probabilities) // width for n in range(width + 1)] if width else []
    highest = [max(probabilities[a:b]) for a, b in pairwise(bounds)]
    return "".join(_LEVELS[round(p * (len(_LEVELS) - 1))] for p in highest)


def _listen(
    pipe: Any, source: BinaryIO, rate: int, channels: int, sample_format: Format, as_json: bool
) -> None:
    """Write beginnings and ends as they come."""
    start = source.read(4)
    if start == b"RIFF":
        found = pipe(io.BytesIO(start + source.read()))
        _show(found, Path("-"), False, as_json, is_alone=True)
        return
    stream = pipe.stream(rate)
    for piece in samples(source, start, rate, channels, sample_format):
        for event in stream.feed(piece):
            _tell(event.kind, event.time, as_json)
    num_told = len(stream.events)
    stream.finish()
    for event in stream.events[num_told:]:
        _tell(event.kind, event.time, as_json)


def _tell(kind: str, time: float, as_json: bool) -> None:
    if as_json:
        write_json(event=kind, time=time)
    else:
        sys.stdout.write(f"{time:9.3f}" + "\n" * (kind == "end"))
        sys.stdout.flush()
