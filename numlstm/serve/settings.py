"""What a server is told."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Settings:
    """What a server is told; the command has an option for each.

    Attributes
    ----------
    store : str
        Where sessions lie that are not in the pool, see `numlstm.sessions.open_store`.
    time_to_live : float or None
        Seconds that a session is kept in the store since its last message.
    durable : bool
        Whether an answer is given only when the state after it is in the store.
    capacity : int
        Sessions of a model that are in its pool.
    max_sessions : int
        Connections with sessions at a time.
    max_message : int
        Bytes of a message, and of the body of a request.
    max_steps : int
        Steps of one message.
    max_queue : int
        Messages of a model that wait for their steps.
    idle_timeout : float
        Seconds without a message after which a connection is closed; its session stays.
    gather : float
        Milliseconds that the first message waits for others, to step together. With 0, those step
        together that have arrived in the same moment.
    origins : tuple of str
        Pages that may connect besides those of this server: "https://example.org".
    hosts : tuple of str
        Names by which this server may be called; any if there are none.
    token : str or None
        What who calls must show: ``Authorization: Bearer TOKEN``.
    """

    store: str = "memory"
    time_to_live: float | None = 86400.0
    durable: bool = False
    capacity: int = 10_000
    max_sessions: int = 20_000
    max_message: int = 2**20
    max_steps: int = 2**14
    max_queue: int = 20_000
    idle_timeout: float = 600.0
    gather: float = 0.0
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        counts = ("capacity", "max_sessions", "max_message", "max_steps", "max_queue")
        for name in counts:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}, expected 1 or more")
        if not self.idle_timeout > 0:
            raise ValueError(f"idle_timeout is {self.idle_timeout!r}, expected seconds")
        if not 0 <= self.gather <= 1:
            raise ValueError(f"gather is {self.gather!r}, expected 0 to 1 milliseconds")
        if self.token is not None and len(self.token) < 16:
            raise ValueError("the token is too short: give 16 characters or more")
