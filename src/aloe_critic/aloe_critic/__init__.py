"""The off-robot side: replay, critics, learners, trainer and evaluation reports. Imports without ROS."""
