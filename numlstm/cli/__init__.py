"""The `numlstm` command. Answers go to stdout, everything else to stderr.

Exit codes: 0 done, 1 it failed (the reason is on stderr), 2 wrong usage, 130 interrupted.
"""

import sys


def main() -> None:
    """Run the command."""
    try:
        from numlstm.cli.app import run
    except ModuleNotFoundError as error:  # an installation without dependencies
        missing = (error.name or "").partition(".")[0]
        if missing not in ("typer", "rich"):
            raise
        sys.exit(f"numlstm: the command needs {missing}: pip install typer rich")
    run()
