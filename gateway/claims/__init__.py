"""Exactly once on the topic: a message is claimed before it is published, and settled when its fate is known."""
