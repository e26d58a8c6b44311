"""Who may send how much: a rate for each source, and a fair share of what the pipeline can carry."""
