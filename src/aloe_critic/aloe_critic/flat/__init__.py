"""Chunk critics and flow policies on flat state vectors: ALOE and Q-chunking without cameras, bags or ROS."""
