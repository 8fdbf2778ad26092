"""ROS nodes of the simulator; everything else in this package imports without ROS."""
