"""Episodes: their in-memory form, and the bags they live in."""
