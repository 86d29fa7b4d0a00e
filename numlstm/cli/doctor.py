"""``numlstm doctor``: this machine, as the engine finds it."""

from rich.markup import escape
from rich.table import Table

import numlstm
from numlstm.cli import terminal


def doctor() -> None:
    """Show versions, the CPU features used, the place and state of the cache, and threads.

    [bold]Example[/bold]

        numlstm doctor
    """
    table = Table.grid(padding=(0, 2))
    found = {"numlstm": numlstm.__version__} | numlstm.diagnose()
    for name, value in found.items():
        table.add_row(f"[bold]{name}[/bold]", escape(value))
    terminal.console.print(table)
