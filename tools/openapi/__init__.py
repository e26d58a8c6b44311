"""The OpenAPI document, made of the contracts: see tools/compile_openapi.py."""
