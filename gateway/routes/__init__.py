"""Routes beside the data path: what browsers, schema clients and probes ask for."""
