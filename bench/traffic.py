"""What the load generator sends: events as browsers and backends send them, prebuilt but for their ids.

Message ids are fresh; one event in ten is a new visitor's first, the others come from the visitors seen last, as on a
site where a visit is ten events long. User agents, pages and addresses repeat as those of real visitors do.
"""

import json
import random
from dataclasses import dataclass
from typing import Any

MESSAGE_MARK = "MESSAGE-ID-TO-BE-REPLACED-OF-36-CHAR"
VISITOR_MARK = "VISITOR-ID-TO-BE-REPLACED-OF-36-CHAR"

# More than any cache line of branches, fewer than any cache of ours: what real traffic looks like for a minute.
VARIANTS = 256

# Events that a visitor sends on average.
EVENTS_A_VISIT = 10

BLINK = "AppleWebKit/537.36 (KHTML, like Gecko)"
WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
USER_AGENTS = (
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {BLINK} Chrome/%d.0.0.0 Safari/537.36",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS %d_5 like Mac OS X) {WEBKIT} Version/17.5 Mobile/15E148 Safari/604.1",
    f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {BLINK} Chrome/%d.0.0.0 Mobile Safari/537.36",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Version/%d.1 Safari/605.1.15",
)
REFERRERS = ("", "https://www.google.com/", "https://news.example/story", "https://t.co/x")
LOCALES = ("en-US", "nl-NL", "pt-BR", "de-DE")


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where a body goes, and what stands around its events."""

    path: str
    before: bytes = b""
    after: bytes = b""


_CONTRACT = Envelope("/v1/events", b'{"events":[', b"]}")
SHAPES = {
    "segment": (
        Envelope("/v1/track"),
        Envelope("/v1/batch", b'{"batch":[', b'],"sentAt":"2026-11-20T10:20:31.000Z"}'),
    ),
    "contract": (_CONTRACT, _CONTRACT),
}
"""How bodies are written, for one event and for several: as client libraries do, or as the contract's JSON."""


@dataclass(frozen=True, slots=True)
class Template:
    """One event around its two ids: `before` message id `between` visitor id `after`."""

    before: bytes
    between: bytes
    after: bytes


def as_contract(event: dict[str, Any]) -> dict[str, Any]:
    """The same event in the words of `clew.event.v1.Event`, whose properties are JSON text."""
    context = {key: value for key, value in event["context"].items() if key != "ip"}
    return {
        "messageId": event["messageId"],
        "type": f"EVENT_TYPE_{event['type'].upper()}",
        "anonymousId": event["anonymousId"],
        "event": event["event"],
        "propertiesJson": json.dumps(event["properties"], separators=(",", ":")),
        "context": {**context, "page": {key: value for key, value in context["page"].items() if value}},
        "integrationsJson": json.dumps(event["integrations"], separators=(",", ":")),
        "originalTime": event["timestamp"],
        "ip": event["context"]["ip"],
    }


def make_template(variant: int, shape: str = "segment") -> Template:
    """Build the event of a variant, about 1.2 KB."""
    event = make_event(variant)
    text = json.dumps(event if shape == "segment" else as_contract(event), separators=(",", ":"))
    before, rest = text.split(MESSAGE_MARK)
    between, after = rest.split(VISITOR_MARK)
    return Template(before.encode(), between.encode(), after.encode())


def make_event(variant: int) -> dict[str, Any]:
    """The event of a variant, as client libraries write it."""
    path = f"/products/{variant % 64}"
    return {
        "type": "track",
        "messageId": MESSAGE_MARK,
        "anonymousId": VISITOR_MARK,
        "event": ("Product Viewed", "Product Added", "Checkout Started", "Order Completed")[variant % 4],
        "timestamp": "2026-11-20T10:20:30.456Z",
        "properties": {
            "product_id": f"sku-{variant:05d}",
            "name": "Linen shirt, long sleeves, sand",
            "price": 59.95,
            "currency": "EUR",
            "quantity": 1 + variant % 3,
            "category": "Shirts",
            "coupon": None,
            "tags": ["summer", "linen", "new"],
            "position": {"list": "search", "index": variant % 24},
        },
        "context": {
            "ip": f"8.8.{variant}.{variant}",
            "library": {"name": "analytics.js", "version": "next-1.84.0"},
            "locale": LOCALES[variant % 4],
            "page": {
                "path": path,
                "referrer": REFERRERS[variant // 4 % 4],
                "search": "?utm_source=newsletter&utm_medium=email",
                "title": "Linen shirt | Example Shop",
                "url": f"https://shop.example{path}?utm_source=newsletter&utm_medium=email&utm_campaign=summer",
            },
            "screen": {"width": 1920, "height": 1080, "density": 2},
            "timezone": "Europe/Amsterdam",
            "userAgent": USER_AGENTS[variant % 4] % (100 + variant // 8),
        },
        "integrations": {"All": True},
    }


class Traffic:
    """An endless supply of bodies, one event or `batch` events each; `visitors` are on the site at a time.

    The same seed draws the same visitors. `shape` is how events are written, see `SHAPES`.
    """

    def __init__(self, batch: int, visitors: int, run: int, seed: int = 1, *, shape: str = "segment") -> None:
        one, many = SHAPES[shape]
        self.path = many.path if batch else one.path
        self._envelope = many if batch else one
        self.events_per_body = batch or 1
        self._visitors = visitors
        self._run = run
        self._count = 0
        self._newest = 0
        self._random = random.Random(seed)
        self._templates = [make_template(variant, shape) for variant in range(VARIANTS)]

    def body(self) -> bytes:
        """The next body."""
        envelope = self._envelope
        return envelope.before + b",".join([self.event() for _ in range(self.events_per_body)]) + envelope.after

    def event(self) -> bytes:
        """The next event."""
        self._count += 1
        template = self._templates[self._count % VARIANTS]
        message = b"%08x-%027d" % (self._run, self._count)
        # Two draws from one number: its first digit decides whether the visitor is new, the rest which one it is.
        drawn = self._random.random() * EVENTS_A_VISIT
        if drawn < 1:
            self._newest += 1
        number = self._newest - int(drawn % 1 * min(self._visitors, self._newest)) if drawn >= 1 else self._newest
        visitor = b"visitor-%08x-%019d" % (self._run, number)
        return template.before + message + template.between + visitor + template.after
