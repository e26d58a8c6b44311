"""Kafka from asyncio, as confluent-kafka's own asyncio example does it: a poll thread and a future per record."""

import asyncio
import threading

from confluent_kafka import KafkaError, KafkaException, Message, Producer


class Publisher:
    """Publishes records one at a time and waits for the acknowledgement of all replicas."""

    def __init__(self, servers: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer({"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True})
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka-poll")
        self._thread.start()

    def _poll(self) -> None:
        while not self._stopped.is_set():
            self._producer.poll(0.1)

    async def publish(self, key: bytes, value: bytes, headers: list[tuple[str, str | bytes | None]]) -> None:
        """Publish a record.

        Raises:
            KafkaException: It was not acknowledged.
            BufferError: The queue is full.
        """
        loop = asyncio.get_running_loop()
        delivered: asyncio.Future[None] = loop.create_future()

        def settle(error: KafkaError | None) -> None:
            if delivered.done():
                return
            if error is None:
                delivered.set_result(None)
            else:
                delivered.set_exception(KafkaException(error))

        def report(error: KafkaError | None, _message: Message) -> None:
            loop.call_soon_threadsafe(settle, error)

        self._producer.produce(self._topic, value, key, headers=headers, on_delivery=report)
        await delivered

    def close(self) -> None:
        """Send what is queued, and stop."""
        self._producer.flush(10)
        self._stopped.set()
        self._thread.join()
