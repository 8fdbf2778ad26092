"""policy_node with the tiny policy in place of the native one; run as a process by the tests."""

import sys

from aloe_policy.nodes.policy_node import PolicyNode
from aloe_ros.node import run
from tiny_policy import load_tiny

if __name__ == "__main__":
    sys.exit(run(lambda: PolicyNode(load_tiny), close=PolicyNode.close))
