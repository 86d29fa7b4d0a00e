"""The `numlstm` command. Answers go to stdout, everything else to stderr.

Exit codes: 0 done, 1 it failed (the reason is on stderr), 2 wrong usage, 130 interrupted.
"""

import sys
from typing import Any


def main() -> None:
    """Run the command."""
    try:
        from numlstm.cli.commands import run

        run()
    except ModuleNotFoundError as error:  # an installation without dependencies
        missing = (error.name or "").partition(".")[0]
        if missing not in ("typer", "rich"):
            raise
        sys.exit(f"numlstm: the command needs {missing}: pip install typer rich")


def __getattr__(name: str) -> Any:
    """Make `app`, with all commands, for who asks for it."""
    if name != "app":
        raise AttributeError(f"module 'numlstm.cli' has no attribute {name!r}")
    from numlstm.cli.commands import make_app

    return make_app()
