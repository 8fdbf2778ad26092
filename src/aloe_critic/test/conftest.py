import importlib.util

if importlib.util.find_spec("rclpy"):
    from aloe_ros.testing import own_domain

    own_domain()
else:  # the trainer works without ROS; its node does not
    collect_ignore = ["test_trainer_node.py"]
