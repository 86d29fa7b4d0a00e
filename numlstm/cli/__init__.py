"""The `numlstm` command."""


def main() -> None:
    raise SystemExit("not written yet")
