"""What can go wrong with claims beyond an outage."""

from mesh.errors import StorageUnavailable


class LeaseLost(StorageUnavailable):
    """Raised when other gateways took this one for dead, since it did not say in time that it lives.

    They decide about what it had claimed. It must not publish any more; started anew, it is another gateway.
    """
