"""The decode stage: bytes from a client library in, typed events and typed rejections out. Pure: no clock, no I/O.

The wire's camelCase exists in this package only.
"""
