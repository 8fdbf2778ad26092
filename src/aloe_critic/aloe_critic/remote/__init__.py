"""Training a policy that is behind a policy server: what the server runs, and what the trainer asks of it."""
