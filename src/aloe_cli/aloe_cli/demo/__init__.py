"""`./aloe demo`: the whole loop on the simulator, through the real graph."""
