"""Policies in another process or on another machine, over the websocket protocol of openpi; without ROS and torch."""
