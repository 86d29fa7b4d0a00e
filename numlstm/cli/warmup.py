"""``numlstm warmup``: the kernels, compiled ahead of the first use."""

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
