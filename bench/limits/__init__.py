"""What no service can be faster than on this machine: parsing HTTP alone, and publishing to Kafka alone.

`bench.limits.http` answers every request with the same bytes; `bench.limits.produce` publishes from one process that
nobody calls. Between them lies everything that a service does.
"""
