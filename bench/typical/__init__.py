"""A typical Python service mesh that does clew's main job, for `make bench` to compare with.

Written by the book, as a competent team would: Starlette on uvicorn (uvloop and httptools), `json_format.ParseDict` to
the same `EnrichedEvent`, three `grpc.aio` services called once per event over one channel each, OpenTelemetry's own
instrumentation with the default `BatchSpanProcessor`, an idempotent Kafka producer with acks=all whose delivery report
each event awaits. The rules are the same or simpler: enrichment is clew's own, identity writes to SQLite for what is
new, consent reads from SQLite. What clew does beyond it (validation of contracts, verdicts per event, failed events,
tokens, deadlines, coalescing) is left out, in its favour.
"""
