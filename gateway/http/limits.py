"""What the edge accepts from a client, in one place."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(slots=True, frozen=True)
class HttpLimits:
    """Every bound of the HTTP edge. The defaults suit SDKs on bad networks and leave a hostile client little."""

    header_count: int = 100
    """Most fields in one head; more is refused with 400."""
    header_bytes: int = 32 * KIB
    """Largest head, request line included; more is refused with 400. Also the most that chunk extensions and trailers
    may take together."""
    body_bytes: int = 4 * MIB
    """Largest body as sent; more is refused with 413, before it is read when its length is declared."""
    chunk_count: int = 16_384
    """Most chunks in one body: each costs time, however little it carries. More is refused with 413."""
    inflated_bytes: int = 8 * MIB
    """Largest body once inflated; more is refused with 413."""
    inflation_ratio: int = 500
    """Most bytes that one sent byte may become, looked at once the body exceeds `inflation_free_bytes`. Honest
    repetitive batches reach 310; the format's own bound is 1,032."""
    inflation_free_bytes: int = 1 * MIB
    """Bodies that inflate to no more than this pass whatever their ratio."""
    header_seconds: float = 10.0
    """Time from the first byte of a head to its last; then 408."""
    body_seconds: float = 10.0
    """Time that any body may take; a longer one earns more at `body_bytes_per_second`."""
    body_bytes_per_second: int = 4 * KIB
    """Slowest rate at which a body may arrive once `body_seconds` are over; then 408."""
    body_total_seconds: float = 60.0
    """Longest that a body may take at any rate; then 408."""
    first_seconds: float = 10.0
    """How long a new connection may stay open before the first byte of its first request."""
    idle_seconds: float = 75.0
    """How long a connection may stay open between requests."""
    send_seconds: float = 20.0
    """How long a client may leave a response unread before the connection is dropped."""
    linger_seconds: float = 1.0
    """How long bytes are still taken and thrown away after a refusal, so that the client reads the answer and not a
    reset."""
    pipelined_bytes: int = 64 * KIB
    """Bytes of following requests that are held while one is answered; above it reading pauses."""
    connections: int = 10_000
    """Most connections at a time; a further one is answered 503 and closed."""
    held_bytes: int = 256 * MIB
    """Most bytes of bodies, as sent and inflated, held by all connections together; above it 503."""
