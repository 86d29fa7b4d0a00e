"""Who may call: by the page they come from, the name they call the server by, and a token."""

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from numlstm.serve.refusals import POLICY, RefusalError
from numlstm.serve.settings import Settings

_BEARER = "Bearer "
# Browsers set no header of a websocket; they may name a protocol.
PROTOCOL = "numlstm"
_PROTOCOL_TOKEN = "numlstm.bearer."


def check_name(settings: Settings, headers: Mapping[str, str]) -> None:
    """Raise a RefusalError if the server is called by another name than its own.

    A page of any site can give its own name the address of this machine; the name stays its own.
    """
    try:
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:  # half an address of IPv6
        host = ""
    if settings.hosts and host not in settings.hosts:
        raise RefusalError("wrong_host", "this server is not called by that name", POLICY)


def check_caller(settings: Settings, headers: Mapping[str, str]) -> None:
    """Raise a RefusalError unless who calls may.

    headers   by their names in small letters
    """
    check_name(settings, headers)
    origin = headers.get("origin")
    if origin is not None and origin not in settings.origins:
        host = headers.get("host", "")
        if urlsplit(origin).netloc != host:
            raise RefusalError(
                "wrong_origin", "pages of that origin may not connect: see --origin", POLICY
            )
    if settings.token is not None and not _shows(settings.token, headers):
        raise RefusalError("no_token", "show the token: Authorization: Bearer TOKEN", POLICY)


def _shows(token: str, headers: Mapping[str, str]) -> bool:
    shown = headers.get("authorization", "").removeprefix(_BEARER)
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        if protocol.strip().startswith(_PROTOCOL_TOKEN):
            shown = protocol.strip().removeprefix(_PROTOCOL_TOKEN)
    return hmac.compare_digest(shown.encode(), token.encode())
