"""What a server counts, as Prometheus reads it."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The numbers of one server, in a registry of its own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        by_model = ("model",)
        self.open = Gauge("numlstm_sessions", "Sessions connected", by_model, registry=registry)
        self.messages = Counter(
            "numlstm_messages", "Messages answered", by_model, registry=registry
        )
        self.steps = Counter("numlstm_steps", "Steps taken", by_model, registry=registry)
        self.refusals = Counter(
            "numlstm_refusals", "What was refused", ("code",), registry=registry
        )
        self.seconds = Histogram(
            "numlstm_message_seconds",
            "From a message to its answer",
            by_model,
            buckets=_SECONDS,
            registry=registry,
        )
        self.together = Histogram(
            "numlstm_together",
            "Sessions that stepped together",
            by_model,
            buckets=_SIZES,
            registry=registry,
        )

    def text(self) -> bytes:
        """Return all of them as Prometheus reads them."""
        return generate_latest(self._registry)
