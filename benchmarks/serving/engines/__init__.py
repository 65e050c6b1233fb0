"""One module per engine; each imports its own library alone."""
