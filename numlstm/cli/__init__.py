"""The `numlstm` command. Answers go to stdout, everything else to stderr.

Exit codes: 0 done, 1 it failed (the reason is on stderr), 2 wrong usage, 130 interrupted.
"""

import signal
import sys
from typing import Any

INTERRUPTED = 130


def _interrupt(*_: object) -> None:
    """Raise on Ctrl-C, once: another one must not interrupt the way out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> None:
    """Run the command."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # nobody ignores it
            signal.signal(signal.SIGINT, _interrupt)
        from numlstm.cli.commands import run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
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
