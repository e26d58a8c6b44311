"""Is it allowed? Keeps the ledger of what people allowed and decides by it."""
