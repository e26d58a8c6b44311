"""Makes the calls of a job with the unmodified rudder-sdk-python and prints the id of each message it minted."""

import json
import sys
from typing import Any

from rudderstack.analytics.client import Client

# The library's own names for what Segment's spec calls otherwise.
_NAMES = {"anonymousId": "anonymous_id", "userId": "user_id", "groupId": "group_id", "previousId": "previous_id"}


def main() -> None:
    """Read a job from standard input, make its calls and wait until all are delivered."""
    job = json.load(sys.stdin)
    failures: list[Any] = []
    client = Client(job["writeKey"], host=job["endpoint"], on_error=lambda error, _batch: failures.append(error))
    methods = {name: getattr(client, name) for name in ("track", "identify", "page", "screen", "group", "alias")}
    messages = []
    for call in job["calls"]:
        arguments = {_NAMES.get(name, name): value for name, value in call.items() if name != "type"}
        messages.append(methods[call["type"]](**arguments)[1])
    client.shutdown()
    if failures:
        sys.exit(f"not delivered: {failures}")
    for message in messages:
        print(json.dumps({"messageId": message["messageId"]}))  # noqa: T201 - the driver's answer


main()
