"""The `numlstm` command. Answers go to stdout, everything else to stderr.

Exit codes: 0 done, 1 it failed (the reason is on stderr), 2 wrong usage, 130 interrupted.
"""

import sys

import typer

import numlstm
from numlstm.cli import classify, machine, models

app = typer.Typer(
    name="numlstm",
    help="Run recurrent networks on a plain CPU, one token at a time.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(classify.classify)
app.command("list")(models.list_models)
app.command()(models.info)
app.command()(models.convert)
app.command()(models.verify)
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
    try:
        app()
    except BrokenPipeError:
        # The reader of our output has gone, as in `numlstm classify | head`.
        sys.stderr.close()
        sys.exit(0)
    except (ValueError, TypeError, OSError, ImportError) as error:
        typer.echo(f"numlstm: {error}", err=True)
        sys.exit(1)
