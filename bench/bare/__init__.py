"""clew without what its promise costs: it answers before Kafka has acknowledged. For measuring only."""
