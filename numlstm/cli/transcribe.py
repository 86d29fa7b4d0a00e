"""``numlstm transcribe``: sound in, words out, from files or while it is spoken."""

import io
import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

import numlstm
from numlstm.cli import terminal
from numlstm.cli.options import JsonOption, model_option
from numlstm.cli.sounds import ChannelsOption, Format, FormatOption, RateOption, samples
from numlstm.cli.texts import NOTHING, answer_all, write_json
from numlstm.tasks import TASKS


def transcribe(
    files: Annotated[
        list[Path], typer.Argument(help="Sound files: wav, flac, ogg, mp3; - is stdin.")
    ],
    model: Annotated[str, model_option("speech")] = TASKS["speech"].model,
    beam_size: Annotated[
        int, typer.Option(min=1, help="How many readings are followed at once.")
    ] = 1,
    times: Annotated[bool, typer.Option("--times", help="Show when each word is said.")] = False,
    rate: RateOption = 8000,
    channels: ChannelsOption = 1,
    sample_format: FormatOption = Format.s16,
    as_json: JsonOption = False,
) -> None:
    """Write down the digits that are spoken in files, or on stdin while they are spoken.

    From a pipe come raw samples, or a wav file. Every new word is shown at once.

    [bold]Examples[/bold]

        numlstm transcribe digits.wav --times

        numlstm transcribe *.wav --json > transcripts.jsonl

        arecord -q -f S16_LE -r 8000 | numlstm transcribe -
    """
    pipe: Any = terminal.pipeline("speech", model, beam_size=beam_size)

    def answer(file: Path) -> None:
        if str(file) == "-":
            _listen(pipe, sys.stdin.buffer, rate, channels, sample_format, as_json)
        else:
            _show(pipe(file), file, times, as_json, is_alone=len(files) == 1)

    from rich.progress import track  # not for all commands, and slow to import

    show = len(files) > 1 and terminal.messages.is_terminal and not terminal.console.is_terminal
    todo = track(files, "transcribing", console=terminal.messages, transient=True, disable=not show)
    answer_all(((str(file), file) for file in todo), answer, (ValueError, OSError))


def _show(
    transcript: "numlstm.Transcript", file: Path, times: bool, as_json: bool, is_alone: bool
) -> None:
    if as_json:
        write_json(file=str(file), text=transcript.text, words=transcript.words)
        return
    if not is_alone:
        terminal.console.print(f"{file}: ", style="dim", end="", markup=False)
    terminal.console.print(transcript.text or NOTHING, markup=False)
    if times:
        for word in transcript.words:
            terminal.console.print(f"  {word.start:7.2f} {word.end:7.2f}  {word.text}")


def _listen(
    pipe: Any, source: BinaryIO, rate: int, channels: int, sample_format: Format, as_json: bool
) -> None:
    """Write words as they are spoken."""
    start = source.read(4)
    if start == b"RIFF":
        _show(pipe(io.BytesIO(start + source.read())), Path("-"), False, as_json, is_alone=True)
        return
    stream = pipe.stream(rate)
    num_said = 0
    is_open = False
    for piece in samples(source, start, rate, channels, sample_format):
        transcript = stream.feed(piece)
        if len(transcript.words) != num_said:
            new, num_said = transcript.words[num_said:], len(transcript.words)
            is_open = _say(transcript, new, as_json, is_open)
    transcript = stream.finish()
    _say(transcript, transcript.words[num_said:], as_json, is_open, last=True)


def _say(
    transcript: "numlstm.Transcript",
    new: "tuple[numlstm.Word, ...]",
    as_json: bool,
    is_open: bool,
    last: bool = False,
) -> bool:
    """Write what is new, and return whether the line goes on."""
    if as_json:
        write_json(text=transcript.text, words=transcript.words, final=last)
        return False
    if sys.stdout.isatty() and not terminal.console.legacy_windows and not last:
        # A beam may think better of a word: the line is written anew.
        sys.stdout.write("\r\x1b[2K" + transcript.text)
        is_open = True
    else:
        words = " ".join(word.text for word in new)
        sys.stdout.write(" " * (is_open and bool(words)) + words + "\n" * last)
        is_open = is_open or bool(words)
    sys.stdout.flush()
    return is_open
