"""Takeover, arbitration, episodes and recording: the nodes between a person, a policy and the robot."""
