"""Chunks of LeRobot's flow VLAs for one observation at a time, from weights that LeRobot loaded, as one CUDA graph.

LeRobot's own code launches thousands of small operations a chunk and waits for the processor between them. Here the
same arithmetic has static shapes, no step that the processor has to look at, constants computed once, and weights that
are used together side by side in one matrix (docs/adr/0025).
"""
