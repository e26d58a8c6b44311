"""What stands around every rpc: spans, measurements, deadlines, validation, error mapping."""
