"""Compile the topics into an AsyncAPI 3 document, gen/clew/asyncapi.json: part of `make proto`.

From proto/topics.toml, the contracts and their comments; the payload of each message is its proto file as it stands.
The same contracts give the same bytes. `--check` writes nothing and exits with 1 when the document in the tree is
stale.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor import Descriptor

from gateway.encode import SCHEMA_VERSION
from mesh.topics.declaration import Declaration, Topic
from tools.compile_registry import source
from tools.compile_topics import declared_topics, value_of
from tools.openapi.comments import ROOT, build_sources, read_comments

DOCUMENT: Final = ROOT / "gen/clew/asyncapi.json"
_BINDING: Final = "0.5.0"
_DESCRIPTION: Final = """\
The topics that clew publishes. A value is in the Schema Registry wire format: the byte 0, the schema's id as four bytes
big-endian, the byte 0, and the message in protobuf; imports of its proto file are references in the registry.

How to read them, and what may be relied upon, stands in docs/TOPICS.md."""


def document(declaration: Declaration, comments: Mapping[str, str]) -> dict[str, Any]:
    """The AsyncAPI 3.0 document of these topics."""
    values = {topic.name: value_of(topic) for topic in declaration.topics}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "clew: topics",
            "version": SCHEMA_VERSION,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/protobuf",
        "servers": {"kafka": _server()},
        "channels": {topic.name: _channel(topic, values[topic.name]) for topic in declaration.topics},
        "operations": {
            f"publish {topic.name}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{topic.name}"},
                "summary": f"{topic.summary}.",
                "messages": [{"$ref": f"#/channels/{topic.name}/messages/{values[topic.name].name}"}],
            }
            for topic in declaration.topics
        },
        "components": {
            "messages": {
                topic.value: _message(topic, values[topic.name], declaration.headers, comments)
                for topic in declaration.topics
            }
        },
    }


def _server() -> dict[str, Any]:
    return {
        "host": "{bootstrap}",
        "protocol": "kafka",
        "description": "Any broker of the cluster.",
        "variables": {"bootstrap": {"default": "127.0.0.1:9092", "description": "HOST:PORT"}},
        "bindings": {
            "kafka": {
                "schemaRegistryUrl": "http://127.0.0.1:8080/registry",
                "schemaRegistryVendor": "confluent",
                "bindingVersion": _BINDING,
            }
        },
    }


def _channel(topic: Topic, value: Descriptor) -> dict[str, Any]:
    return {
        "address": topic.name,
        "title": topic.name,
        "summary": f"{topic.summary}.",
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {value.name: {"$ref": f"#/components/messages/{topic.value}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "replicas": topic.replicas,
                "topicConfiguration": {name: _typed(name, value) for name, value in topic.config.items()},
                "bindingVersion": _BINDING,
            }
        },
    }


def _message(
    topic: Topic, value: Descriptor, headers: Mapping[str, str], comments: Mapping[str, str]
) -> dict[str, Any]:
    described = {name: {"type": "string", "description": f"{headers[name]}."} for name in topic.headers}
    return {
        "name": topic.value,
        "title": value.name,
        "summary": f"{topic.summary}.",
        "description": comments[topic.value],
        "contentType": "application/protobuf",
        "headers": {"type": "object", "required": list(described), "properties": described},
        "payload": {
            "schemaFormat": "application/vnd.google.protobuf;version=3",
            "schema": source(value.file.name),
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": comments[f"{topic.value}.{topic.key}"]},
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "schemaLookupStrategy": "TopicNameStrategy",
                "bindingVersion": _BINDING,
            }
        },
    }


def _typed(name: str, value: str) -> Any:
    """A value of the configuration as the Kafka binding has it."""
    if name == "cleanup.policy":
        return value.split(",")
    if value in {"true", "false"}:
        return value == "true"
    return int(value) if value.removeprefix("-").isdecimal() else value


def compile_document() -> str:
    """The document as text."""
    made = document(declared_topics(), read_comments(build_sources()))
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the document, or with `--check` compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args(arguments).check
    text = compile_document()
    if not check:
        DOCUMENT.write_text(text, encoding="utf-8")
        return 0
    if DOCUMENT.exists() and DOCUMENT.read_text(encoding="utf-8") == text:
        return 0
    print(f"{DOCUMENT.relative_to(ROOT)} is not what the contracts give. Run `make proto` and commit the result.")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
