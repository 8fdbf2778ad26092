"""The learning benchmark: every method from the same warm start, at equal interaction."""
