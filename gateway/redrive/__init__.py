"""Failed events, sent through the gateway again: what lies on the failed topic, who may send it, the audit."""
