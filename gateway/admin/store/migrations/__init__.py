"""The schema of both adapters, in numbered steps."""
