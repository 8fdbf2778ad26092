"""What the ROS nodes share; needs rclpy. Everything without ROS lives in aloe_core."""
