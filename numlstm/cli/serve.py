"""``numlstm serve``: a server of sessions."""

import os
from pathlib import Path
from typing import Annotated

import typer

from numlstm.cli import terminal

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Bundled models, or .safetensors files.")
    ],
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    store: Annotated[
        str, typer.Option(help="memory, folder:PATH, sqlite:PATH or redis://HOST:PORT.")
    ] = "memory",
    durable: Annotated[
        bool, typer.Option("--durable", help="Answer when the state is in the store.")
    ] = False,
    time_to_live: Annotated[float, typer.Option(help="Seconds a session is kept.")] = 86400.0,
    idle_timeout: Annotated[float, typer.Option(help="Seconds until who is silent is cut.")] = 600,
    capacity: Annotated[int, typer.Option(min=1, help="Sessions in a pool.")] = 10_000,
    max_sessions: Annotated[int, typer.Option(min=1, help="Connections at a time.")] = 20_000,
    max_message: Annotated[int, typer.Option(min=1, help="Bytes of a message.")] = 2**20,
    max_queue: Annotated[int, typer.Option(min=1, help="Messages that wait.")] = 20_000,
    gather: Annotated[float, typer.Option(help="Milliseconds to wait for others, 0 to 1.")] = 0.0,
    origin: Annotated[
        list[str] | None, typer.Option(help="A site whose pages may connect; any number.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Who calls must show what is in it; or NUMLSTM_TOKEN is.")
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Let everyone in who reaches the address.")
    ] = False,
) -> None:
    """Serve models: sessions over websockets, whole items over HTTP.

    [bold]Examples[/bold]

        numlstm serve sentiment character chat speech

        numlstm serve model.safetensors --store sqlite:sessions.db --durable
    """
    from numlstm.serve import Settings, run

    token = os.environ.get("NUMLSTM_TOKEN") or None
    if token_file is not None:
        token = token_file.read_text(encoding="utf-8").strip()
    is_local = host in _LOOPBACK
    if not is_local and token is None and not no_token:
        raise ValueError(
            f"{host} is open to other machines: give --token-file or NUMLSTM_TOKEN, or --no-token "
            "if everyone may come in"
        )
    named = {Path(name).stem: terminal.load_parts(name) for name in models}
    if len(named) < len(models):
        raise ValueError("two models have one name: rename a file")
    settings = Settings(
        store=store,
        durable=durable,
        time_to_live=time_to_live,
        idle_timeout=idle_timeout,
        capacity=capacity,
        max_sessions=max_sessions,
        max_message=max_message,
        max_queue=max_queue,
        gather=gather,
        origins=tuple(origin or ()),
        hosts=_LOOPBACK if is_local else (),
        token=token,
    )
    run(named, settings, host, port)
