"""The bus: one port to Kafka, an in-memory and a confluent-kafka adapter, the Schema Registry framing and an embedded broker."""
