"""Envoy's configuration: listen, check the token, turn JSON into a call, forward."""

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from clew.collector.v1 import collector_service_pb2

SERVICE: Final = "clew.collector.v1.CollectorService"
ISSUER: Final = "https://issuer.bench"
AUDIENCE: Final = "bench"
_TYPES: Final = "type.googleapis.com/envoy.extensions"


def bootstrap(port: int, backend_port: int, jwks: dict[str, Any]) -> dict[str, Any]:
    """The whole configuration, as Envoy reads it from a JSON file."""
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "codec_type": "HTTP1",
        "route_config": {"virtual_hosts": [_virtual_host()]},
        "http_filters": [
            _filter("envoy.filters.http.jwt_authn", "jwt_authn.v3.JwtAuthentication", _authentication(jwks)),
            _filter("envoy.filters.http.grpc_json_transcoder", "grpc_json_transcoder.v3.GrpcJsonTranscoder", _json()),
            _filter("envoy.filters.http.router", "router.v3.Router", {}),
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"name": "edge", "address": _address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [_backend(backend_port)]}}


def descriptors() -> bytes:
    """The collector's contract and all that it imports, as a serialized `FileDescriptorSet`."""
    files = FileDescriptorSet()
    seen: set[str] = set()
    for file in _with_imports(collector_service_pb2.DESCRIPTOR, seen):
        file.CopyToProto(files.file.add())
    return files.SerializeToString()


def _with_imports(file: FileDescriptor, seen: set[str]) -> Iterator[FileDescriptor]:
    """A file after everything that it imports."""
    if file.name in seen:
        return
    seen.add(file.name)
    for imported in file.dependencies:
        yield from _with_imports(imported, seen)
    yield file


def _filter(name: str, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{_TYPES}.filters.http.{kind}", **config}}


def _authentication(jwks: dict[str, Any]) -> dict[str, Any]:
    provider = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": json.dumps(jwks)},
        # A token that was verified is remembered, as clew does.
        "jwt_cache_config": {"jwt_cache_size": 100},
    }
    rule = {"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}
    return {"providers": {"bench": provider}, "rules": [rule]}


def _json() -> dict[str, Any]:
    return {
        "proto_descriptor_bin": base64.b64encode(descriptors()).decode(),
        "services": [SERVICE],
        "convert_grpc_status": True,
    }


def _virtual_host() -> dict[str, Any]:
    # The transcoder replaces the path by the rpc's before the route is chosen again.
    route = {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "10s"}}
    return {"name": "all", "domains": ["*"], "routes": [route]}


def _backend(port: int) -> dict[str, Any]:
    protocol = {
        "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    # Every call of a busy edge is under way at once: the defaults of 1,024 would refuse what others queue.
    threshold = {"max_requests": 100_000, "max_pending_requests": 100_000}
    return {
        "name": "backend",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [threshold]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
        "load_assignment": {
            "cluster_name": "backend",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
