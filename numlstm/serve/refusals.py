"""What a server refuses, in words for who called."""

# Codes of RFC 6455, section 7.4.1.
GOING_AWAY = 1001
POLICY = 1008
TOO_BIG = 1009
FAILED = 1011
TRY_LATER = 1013

_STATUS = {POLICY: 403, TOO_BIG: 413, FAILED: 500, TRY_LATER: 503, GOING_AWAY: 503}


class RefusalError(Exception):
    """Something that a server does not do.

    Attributes
    ----------
    code : str
        One word for programs: ``too_big``, ``busy``, ``bad_message``.
    message : str
        A sentence for people.
    close : int or None
        The code with which the connection ends; None if it goes on.
    """

    def __init__(self, code: str, message: str, close: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.close = code, message, close

    @property
    def status(self) -> int:
        """Of HTTP."""
        return 400 if self.close is None else _STATUS[self.close]

    def as_json(self) -> dict[str, dict[str, str]]:
        """Return what the client is told."""
        return {"error": {"code": self.code, "message": self.message}}
