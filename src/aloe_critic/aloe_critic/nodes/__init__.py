"""ROS nodes of the trainer; everything else in this package imports without ROS."""
