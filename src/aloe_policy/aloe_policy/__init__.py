"""Policies that predict chunks of actions, and what runs them on the robot."""
