"""Administration of the edge: sources and write keys, and the live view of events."""
