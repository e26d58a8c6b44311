"""What a team that buys its gateway runs, for `make bench` to compare with: Envoy before one Python service.

Envoy checks a JWT against a local key set (and remembers it), turns JSON into the typed `CollectEvents` rpc by the same
contract that clew serves, and calls one `grpc.aio` process, which publishes each event to Kafka with acks=all and
answers once all are acknowledged. Envoy has as many threads as the machine has cores, and nothing is traced. What clew
does beyond it (identity, consent, enrichment, deduplication, validation, verdicts, the untyped JSON that client
libraries send) is left out, in its favour.
"""
