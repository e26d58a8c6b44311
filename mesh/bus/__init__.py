"""The bus: one port to Kafka with two adapters, the Schema Registry framing and an embedded broker."""
