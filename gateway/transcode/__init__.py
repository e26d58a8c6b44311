"""Typed rpcs over HTTP/JSON, by their descriptors: `google.api.http` says where, `clew.options.v1.access` for whom.

- `template`, `table`: which rpc a path means, and what it captures;
- `binding`, `route`: what of a request stands in the path, the query and the body;
- `query`, `fields`, `scalars`, `wellknown`: text and JSON to a message, naming the field that is wrong;
- `access`, `calls`, `stream`, `transcoder`: one request from its credentials to its answer.
"""
