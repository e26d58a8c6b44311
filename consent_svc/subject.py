"""One spelling for each subject, so that nobody's withdrawal is recorded under another one than is asked for."""

import re

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def canonical(subject: str) -> str:
    """Return a UUID in lower case, as profile ids are made (RFC 9562 section 4); any other text as it is.

    Some platforms write every UUID in capitals.
    """
    # Nearly all are in lower case already, and this runs for every item of a batch.
    return subject if subject.islower() or not _UUID.fullmatch(subject) else subject.lower()
