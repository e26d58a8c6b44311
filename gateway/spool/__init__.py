"""Store and forward: what cannot be published for now is kept on disk, in order, and published afterwards."""
