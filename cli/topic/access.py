"""What a command needs to read topics: where Kafka is, and who knows its schemas."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cli.endpoints import Endpoints, require_kafka
from cli.records import printable
from cli.topic.errors import TopicError
from cli.topic.reader import Broker
from cli.topic.schemas import Schemas
from mesh.registry.outside import RegistrySettings
from mesh.settings import SettingsError, read_settings


@dataclass(frozen=True, slots=True)
class Access:
    """Where to look, as the options say: a running mesh's own places, or others."""

    data_dir: Path
    kafka: str = ""
    kafka_properties: Path | None = None
    registry: str = ""

    def broker(self) -> Broker:
        """Kafka.

        Raises:
            NotRunning: None is named, and no mesh runs from the data directory; or it does not answer.
        """
        bootstrap = self.kafka or Endpoints.read(self.data_dir).kafka
        require_kafka(bootstrap)
        return Broker(bootstrap, self.kafka_properties)

    def schemas(self) -> Schemas:
        """The schemas: a named registry's, or the running mesh's gateway's, or those that this program knows.

        Raises:
            NotRunning: No mesh runs from the data directory, and nothing else is named.
            TopicError: What the environment says of how to log in to a named registry cannot be used.
        """
        if self.registry:
            try:
                settings = read_settings(RegistrySettings, {**os.environ, "CLEW_SCHEMA_REGISTRY": self.registry})
            except SettingsError as error:
                raise TopicError(str(error)) from error
            return Schemas(self.registry, own=False, authorization=settings.authorization, tell=_tell)
        if self.kafka:
            return Schemas()
        return Schemas(f"{Endpoints.read(self.data_dir).http}/registry")


def _tell(text: str) -> None:
    sys.stderr.write(printable(text) + "\n")


def on_interrupt() -> Callable[[], bool]:
    """Whether Ctrl-C was pressed, or the process told to end, since this call."""
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    return lambda: stopped
