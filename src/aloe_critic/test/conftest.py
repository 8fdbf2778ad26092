import importlib.util

if not importlib.util.find_spec("rclpy"):  # the trainer works without ROS; its node does not
    collect_ignore = ["test_trainer_node.py"]
