"""A server of sessions: one model, many streams, a small state for each.

    numlstm serve sentiment

`app` is an application of ASGI, `run` serves it until it is told to end. Needs the extra ``serve``.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numlstm.serve.settings import Settings

if TYPE_CHECKING:
    from numlstm.model import Model

__all__ = ["Settings", "app", "run"]


def app(models: "Mapping[str, Mapping[str, Model]]", settings: Settings | None = None) -> Any:
    """Return a server of models, as an application of ASGI.

    Parameters
    ----------
    models : mapping of mapping of Model
        By the names that clients call them by; each as `numlstm.load_parts` returns it.
    settings : Settings, optional
        What the server is told.

    Raises
    ------
    ImportError
        Without the extra ``serve``.
    ValueError, WeightsError
        If a setting makes no sense, or a model cannot be served.
    """
    try:
        from numlstm.serve.routes import app as made
    except ImportError as error:
        raise ImportError(
            f'a server needs starlette and others: pip install "numlstm[serve]" ({error})'
        ) from error
    return made(models, settings)


def run(
    models: "Mapping[str, Mapping[str, Model]]",
    settings: Settings | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
) -> None:
    """Serve models until SIGTERM or Ctrl-C; what is in progress is answered, every session saved.

    Parameters
    ----------
    models, settings
        As of `app`.
    host : str
        The address to listen at; "0.0.0.0" is every one of this machine.
    port : int
        The port; 0 takes a free one, and says which.

    Raises
    ------
    ImportError, OSError, ValueError, WeightsError
        As `app`; or if nobody can listen there.
    """
    application = app(models, settings)
    from numlstm.serve.server import serve

    serve(application, host, port)
