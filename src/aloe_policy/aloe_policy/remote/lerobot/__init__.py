"""LeRobot's policies behind a policy server; runs in an environment that has LeRobot, and no ROS."""
