"""What the stages found out about an event that somebody watches."""

from msgspec import Struct

from clew.consent.v1.consent_pb2 import ConsentDecision
from clew.identity.v1.identity_service_pb2 import ResolvedIdentity


class Notes(Struct, eq=False):
    """What is known of one event so far; None: the stage was not reached."""

    identity: ResolvedIdentity | None = None
    decision: ConsentDecision | None = None
    enrichment: bytes | None = None
