"""Topics as they are declared, as they are on a cluster, and what leads from one to the other."""
