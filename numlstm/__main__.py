"""``python -m numlstm`` is the `numlstm` command."""

from numlstm.cli import main

main()
