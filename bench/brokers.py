"""The brokers that systems publish to: the embedded one, each system's own, and a real Apache Kafka that all share."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from mesh.bus.embedded import start_embedded
from tools.kafka.archives import KafkaUnavailableError
from tools.kafka.cluster import running_kafka

EMBEDDED = "embedded"
KAFKA = "kafka"


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker; `pid` 0 is one that is not ours to watch."""

    kind: str
    bootstrap: str
    pid: int = 0


class Brokers:
    """Gives each system its broker, of each kind that was asked for. Use it in a `with` of `running_brokers`."""

    def __init__(self, stack: ExitStack, shared: Broker | None, kinds: list[str]) -> None:
        self.kinds = kinds
        self._stack = stack
        self._shared = shared

    def of(self, kind: str) -> Broker:
        """The real one, or a new embedded one."""
        if kind == KAFKA:
            assert self._shared is not None
            return self._shared
        process, bootstrap = start_embedded()
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)
        return Broker(EMBEDDED, bootstrap, process.pid)


@contextmanager
def running_brokers(kinds: list[str], address: str) -> Iterator[Brokers]:
    """Start what is needed; `address` names a real Kafka that runs already.

    Where Java or Maven is missing there is no real one: that is told, and the embedded one is measured alone.

    Raises:
        KafkaUnavailableError: A real Kafka was asked for, nothing else, and there is none.
    """
    with ExitStack() as stack:
        shared = Broker(KAFKA, address) if address else None
        if KAFKA in kinds and shared is None:
            try:
                cluster = stack.enter_context(running_kafka(brief=False))
            except KafkaUnavailableError as error:
                if kinds == [KAFKA]:
                    raise
                sys.stderr.write(f"bench: without a real Kafka: {error}\n")
            else:
                process = cluster.nodes[0].process
                assert process is not None
                shared = Broker(KAFKA, cluster.bootstrap, process.pid)
        yield Brokers(stack, shared, [kind for kind in kinds if kind != KAFKA or shared])
