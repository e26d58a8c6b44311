"""`clew topic`: read what is on a topic, copy it to another one, send failed events again."""
