"""The OpenAPI document as it is served: what stands in it, and that the gateway keeps to it (schemathesis)."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from gateway.http.router import Router
from gateway.routes.docs import openapi_document
from tests.gateway.transcode.fuzzed import fuzz
from tests.support.gateway import WRITE_KEY, RunningGateway, running_gateway
from tests.support.grpc_fixtures import BackgroundLoop

METHODS = {"get", "post", "put", "patch", "delete"}
DOCUMENT: dict[str, Any] = json.loads(openapi_document())
# Pages for people, the document itself, and an interface that is described by others (Confluent's).
UNDESCRIBED = ("/asyncapi.json", "/docs", "/openapi.json", "/registry/")


@pytest.fixture(scope="module")
def gateway() -> Iterator[RunningGateway]:
    """A whole gateway on a loop of its own, for clients that block."""
    loop = BackgroundLoop()
    running = running_gateway()
    yield loop.run(running.__aenter__())
    loop.run(running.__aexit__(None, None, None))
    loop.stop()


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation."""
    return [
        (method, path, operation)
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


# Some 1,500 requests, each checked in a dozen ways: seconds alone, a minute and more beside other work.
@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing(gateway: RunningGateway) -> None:
    """Allowed or not, no request makes the gateway answer other than the document says; never with a 5xx."""
    headers = {**gateway.bearer("clew.admin"), "X-Write-Key": WRITE_KEY}
    found = fuzz(gateway.url, headers, examples=3, seed=20261125)
    assert found.failures == []
    one_letter = re.compile(r"/v1/[a-z]")
    assert len(found.operations) == sum(not one_letter.fullmatch(path) for _, path, _ in operations())
    assert found.cases > 1_000
    assert {200, 400, 401, 404, 405} <= found.statuses
    assert max(found.statuses) < 500


def test_every_route_is_described(gateway: RunningGateway) -> None:
    """Whoever adds a route says in the document what it is."""
    router: Router = gateway.gateway.router
    described = {(method.upper(), path) for method, path, _ in operations()}
    routes = [
        (method, path if not path.endswith("/projects/") else f"{path}{{writeKey}}/settings")
        for method, path in router.routes
        # The page at the root is for people, like the ones that it leads to.
        if path != "/" and not path.startswith(UNDESCRIBED)
    ]
    assert [route for route in routes if route not in described] == []


def test_templates_and_routes_stay_apart(gateway: RunningGateway) -> None:
    """No path of an rpc is also one of the edge's own, which would be found first."""
    table = gateway.gateway.transcoder._table
    assert [path for _, path in gateway.gateway.router.routes if table.methods(path)] == []
    assert [path for _, path in gateway.gateway.router.routes if table.methods(f"{path}/x/y".replace("//", "/"))] == []


def test_every_schema_is_one(gateway: RunningGateway) -> None:
    """Each is valid JSON Schema of 2020-12, and every reference leads somewhere."""
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
    for reference in references(DOCUMENT):
        node: Any = DOCUMENT
        for key in reference.removeprefix("#/").split("/"):
            node = node[key]


def references(node: Any) -> Iterator[str]:
    """Every reference below a node."""
    if isinstance(node, dict):
        for key, inner in node.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


@pytest.mark.parametrize(("method", "path", "operation"), operations(), ids=lambda value: str(value)[:60])
def test_every_operation_is_complete(method: str, path: str, operation: dict[str, Any]) -> None:
    """A summary, a tag that exists, its security, what it answers, and the form of its refusals."""
    assert operation["summary"]
    assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}
    assert all(name in DOCUMENT["components"]["securitySchemes"] for one in operation["security"] for name in one)
    assert "200" in operation["responses"]
    assert operation["responses"]["default"] == {"$ref": "#/components/responses/Problem"}
    named = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"}
    assert named == {piece[1:].partition("}")[0] for piece in path.split("/") if piece.startswith("{")}
    assert all(
        parameter.get("description") for parameter in operation.get("parameters", ()) if "x-clew-rpc" in operation
    )


def test_operations_have_names_of_their_own() -> None:
    """Generators make functions of them."""
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)


def test_what_is_derived_from_the_contract() -> None:
    """Comments, constraints, enums with their meanings, closed requests and open answers, and the scope."""
    schemas = DOCUMENT["components"]["schemas"]
    query, record = schemas["ConsentQuery"], schemas["ConsentRecord"]
    assert query["properties"]["subject"] == {
        "type": "string",
        "minLength": 1,
        "maxLength": 64,
        "description": "Profile id of the person; 1 to 64 characters.",
    }
    assert query["properties"]["mergedSubjects"]["maxItems"] == 1_000
    assert query["properties"]["categoryPreferences"]["maxProperties"] == 64
    assert query["required"] == ["subject"]
    assert query["additionalProperties"] is False
    assert "additionalProperties" not in record
    assert "epoch" in record["required"]
    assert "- `CHOICE_DENIED`: Refused, or withdrawn." in schemas["Choice"]["description"]
    find = DOCUMENT["paths"]["/v1/workspaces/{workspace}/profiles:find"]["post"]
    assert find["security"] == [{"bearer": ["clew.profiles.read"]}]
    body = find["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"profileId", "identifier"}
    alternatives = [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in ("profileId", "identifier")
    ]
    assert body["allOf"][0]["oneOf"] == alternatives
    assert DOCUMENT["paths"]["/v1/tokens"]["post"]["security"] == []


def test_bindings_that_differ_in_names_share_a_path() -> None:
    """`{source.workspace}` of one rpc and `{workspace}` of another are one path of OpenAPI, with one name."""
    sources = DOCUMENT["paths"]["/v1/workspaces/{workspace}/sources"]
    source = DOCUMENT["paths"]["/v1/workspaces/{workspace}/sources/{source}"]
    assert (set(sources), set(source)) == ({"get", "post"}, {"get", "patch", "delete"})
    assert not any("{source." in path for path in DOCUMENT["paths"])
    create, update = sources["post"], source["patch"]
    body = create["requestBody"]["content"]["application/json"]["schema"]
    assert "workspace" not in body["properties"]
    assert (body["required"], create["requestBody"]["required"]) == (["name"], True)
    assert [(each["name"], each["required"]) for each in update["parameters"]] == [
        ("workspace", True),
        ("source", True),
        ("updateMask", True),
    ]
    assert update["requestBody"]["required"] is False, "all that it needs stands in the path and the query"
    assert source["get"]["security"] == [{"bearer": ["clew.sources.read"]}, {"bearer": ["clew.sources.write"]}]
    shown = {name for name, field in body["properties"].items() if "x-clew-set-by-server" not in field}
    assert shown == {"name", "purposes", "limits", "allowedOrigins", "disabled"}


def test_events_are_described_without_rules_that_nobody_checks() -> None:
    """CollectEvents judges each event by itself: what one breaks is a verdict, not a refusal, so no rule may say so."""
    event = DOCUMENT["components"]["schemas"]["Event"]
    assert "required" not in event
    assert "maxLength" not in event["properties"]["userId"]
