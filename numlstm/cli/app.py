"""The commands, and what runs one of them.

What shows help imports no NumPy: the modules of commands import it where they need it.
"""

import io
import signal
import sys
from collections.abc import Callable

import typer

import numlstm
from numlstm.cli import (
    chat,
    classify,
    convert,
    doctor,
    generate,
    horizon,
    info,
    score,
    summarize,
    tag,
    trace,
    transcribe,
    verify,
    warmup,
)
from numlstm.cli import list as bundled

app = typer.Typer(
    name="numlstm",
    help="Run recurrent networks on a plain CPU, one token at a time.",
    epilog='Example: [bold]numlstm classify "The movie was not good."[/bold]',
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "classify": classify.classify,
    "tag": tag.tag,
    "score": score.score,
    "generate": generate.generate,
    "chat": chat.chat,
    "transcribe": transcribe.transcribe,
    "summarize": summarize.summarize,
    "list": bundled.list_models,
    "info": info.info,
    "convert": convert.convert,
    "verify": verify.verify,
    "horizon": horizon.horizon,
    "trace": trace.trace,
    "warmup": warmup.warmup,
    "doctor": doctor.doctor,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


@app.callback(invoke_without_command=True)
def _options(
    version: bool = typer.Option(False, "--version", help="Show the version and exit."),
) -> None:
    if version:
        typer.echo(f"numlstm {numlstm.__version__}")
        raise typer.Exit


def run() -> None:
    """Run the command of `sys.argv`, and exit."""
    if hasattr(signal, "SIGPIPE"):
        # End quietly when the reader of our output has gone, as in `numlstm classify | head`.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character
    try:
        app()
    except (ValueError, TypeError, OSError, ImportError) as error:
        typer.echo(f"numlstm: {error}", err=True)
        sys.exit(1)
