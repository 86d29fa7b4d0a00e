"""The `numlstm` command. Answers go to stdout, everything else to stderr.

Exit codes: 0 done, 1 it failed (the reason is on stderr), 2 wrong usage, 130 interrupted.
"""

import io
import signal
import sys

import typer

import numlstm
from numlstm.cli import (
    chat,
    classify,
    generate,
    look,
    machine,
    models,
    score,
    summarize,
    tag,
    transcribe,
)

app = typer.Typer(
    name="numlstm",
    help="Run recurrent networks on a plain CPU, one token at a time.",
    epilog='Example: [bold]numlstm classify "The movie was not good."[/bold]',
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(classify.classify)
app.command()(tag.tag)
app.command()(score.score)
app.command()(generate.generate)
app.command()(chat.chat)
app.command()(transcribe.transcribe)
app.command()(summarize.summarize)
app.command("list")(models.list_models)
app.command()(models.info)
app.command()(models.convert)
app.command()(models.verify)
app.command()(look.memory)
app.command()(look.trace)
app.command()(machine.warmup)
app.command()(machine.doctor)


@app.callback(invoke_without_command=True)
def _options(
    version: bool = typer.Option(False, "--version", help="Show the version and exit."),
) -> None:
    if version:
        typer.echo(f"numlstm {numlstm.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command."""
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
