"""``python -m bench``: one command per benchmark, and the report."""

import typer

from bench.lookahead import lookahead
from bench.report import report
from bench.step import step

app = typer.Typer(
    help="Measure numlstm beside other engines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (step, lookahead, report):
    app.command()(command)

if __name__ == "__main__":
    app()
