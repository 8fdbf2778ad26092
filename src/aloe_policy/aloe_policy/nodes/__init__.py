"""ROS nodes of the policy; everything else in this package imports without ROS."""
