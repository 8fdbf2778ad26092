"""Runs the XML launch files of this suite where `ros2 launch` is not installed.

document (XML with line numbers) -> schema (what is understood) -> plan (nodes to start) -> command (arguments of each
process) -> runner (processes). Semantics follow launch 3.4 and launch_ros 0.26 of ROS 2 Jazzy.
"""
