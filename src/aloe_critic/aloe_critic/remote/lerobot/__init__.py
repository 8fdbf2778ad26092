"""LeRobot's policies as trainees; runs in an environment that has LeRobot, and no ROS."""
