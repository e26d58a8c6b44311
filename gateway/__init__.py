"""The edge: HTTP and gRPC in, three services in a chain, Kafka out."""
