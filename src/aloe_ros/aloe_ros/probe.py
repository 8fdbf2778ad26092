"""Whether a server already knows its client."""

import time

from rcl_interfaces.srv import GetParameters
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.task import Future

_AGAIN = 0.5  # s of wall time between two questions


class Probe:
    """Proves that the node behind a service has discovered everything this process created before the probe.

    A service looks ready to its client before the server has matched the client's reader; an answer sent then is
    dropped after 0.1 s (rmw_fastrtps: "client will not receive response") and the call hangs. Discovery data arrives in
    the order of creation, so one answered question, which may be asked again, makes all later calls safe.
    """

    def __init__(self, node: Node, service: str) -> None:
        """`service`: name of the service that will be called, of an action `<action>/_action/send_goal`."""
        self._node = node
        self._service = node.resolve_service_name(service)
        self._client = None
        self._asked = 0.0
        self._answer: Future | None = None
        self._known = False

    def done(self) -> bool:
        """Return whether it is proven; call it repeatedly while the node spins."""
        if self._known or not (self._client or self._find()):
            return self._known
        if self._answer is not None and self._answer.done():
            self._known = True
            self._node.destroy_client(self._client)
        elif time.monotonic() - self._asked > _AGAIN and self._client.service_is_ready():
            if self._answer is not None:
                self._client.remove_pending_request(self._answer)
            self._asked = time.monotonic()
            self._answer = self._client.call_async(GetParameters.Request())
        return self._known

    def _find(self) -> bool:
        """Make a client of a service that the same node is sure to offer."""
        for name, namespace in self._node.get_node_names_and_namespaces():
            try:
                services = dict(self._node.get_service_names_and_types_by_node(name, namespace))
            except NodeNameNonExistentError:
                continue  # gone between the two questions
            question = f"{namespace.rstrip('/')}/{name}/get_parameters"
            if self._service in services and question in services:
                self._client = self._node.create_client(GetParameters, question)
                return True
        return False
