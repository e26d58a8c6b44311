"""One record as it lies on its topic, undecoded."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Raw:
    """One record; `time_ms` is its own time, Unix milliseconds, -1 when it has none."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]

    @property
    def place(self) -> str:
        """Where it lies, as people write it."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    def header(self, name: str) -> str:
        """The last value of a header as text; empty when there is none."""
        for found, value in reversed(self.headers):
            if found == name:
                return (value or b"").decode(errors="replace")
        return ""

    @staticmethod
    def of(message: Any) -> "Raw":
        """The record of a message as the Kafka client hands it over."""
        return Raw(
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            time_ms=message.timestamp()[1],
            key=message.key(),
            value=message.value(),
            headers=message.headers() or [],
        )
