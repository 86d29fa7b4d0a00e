"""``numlstm warmup`` and ``doctor``: this machine."""

from rich.markup import escape
from rich.table import Table

import numlstm
from numlstm.cli import terminal


def warmup() -> None:
    """Compile the kernels for this CPU ahead of the first use, in an image for example.

    [bold]Example[/bold]

        numlstm warmup
    """
    with terminal.waiting("warming up"):
        seconds = numlstm.warmup()
    terminal.console.print(f"the kernels are ready ({seconds:.1f} s)")


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
