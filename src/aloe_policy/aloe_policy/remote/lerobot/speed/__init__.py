"""How long LeRobot's VLAs take for a chunk, by LeRobot's code and by ours, with random weights: `bench infer-gpu`."""
