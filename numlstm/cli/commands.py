"""The table of commands, and what runs one of them.

The modules of commands import NumPy where they need it, so that who asks for help does not wait for
it; and a command that is called is the only one that is imported.
"""

import io
import signal
import sys
from collections.abc import Iterable
from importlib import import_module

import typer

import numlstm

# By their names: the module within `numlstm.cli`, and the function.
_COMMANDS = {
    "classify": "classify.classify",
    "tag": "tag.tag",
    "score": "score.score",
    "generate": "generate.generate",
    "chat": "chat.chat",
    "transcribe": "transcribe.transcribe",
    "vad": "vad.vad",
    "summarize": "summarize.summarize",
    "list": "list.list_models",
    "info": "info.info",
    "convert": "convert.convert",
    "verify": "verify.verify",
    "bench": "bench.bench",
    "certify": "certify.certify",
    "horizon": "horizon.horizon",
    "trace": "trace.trace",
    "serve": "serve.serve",
    "warmup": "warmup.warmup",
    "doctor": "doctor.doctor",
}


def _options(
    version: bool = typer.Option(False, "--version", help="Show the version and exit."),
) -> None:
    if version:
        typer.echo(f"numlstm {numlstm.__version__}")
        raise typer.Exit


def make_app(names: Iterable[str] = _COMMANDS) -> typer.Typer:
    """Return the application with some of the commands."""
    app = typer.Typer(
        name="numlstm",
        help="Run recurrent networks on a plain CPU, one token at a time.",
        epilog='Example: [bold]numlstm classify "The movie was not good."[/bold]',
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in names:
        module, function = _COMMANDS[name].split(".")
        app.command(name)(getattr(import_module(f"numlstm.cli.{module}"), function))
    app.callback(invoke_without_command=True)(_options)
    return app


def run() -> None:
    """Run the command of `sys.argv`, and exit."""
    if hasattr(signal, "SIGPIPE"):
        # End quietly when the reader of our output has gone, as in `numlstm classify | head`.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character
    called = sys.argv[1:2]
    app = make_app(called if _COMMANDS.keys() & called else _COMMANDS)
    try:
        app()
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        typer.echo(f"numlstm: {error}", err=True)
        sys.exit(1)
