"""What each node may publish, subscribe, serve and call, taken from the running nodes.

    python scripts/security_policy.py               # writes config/security/
    python scripts/security_policy.py --namespace /left_robot --domain 7 --out DIR

Writes aloe.policy.xml (for `ros2 security create_permission`) and permissions/<node>.xml (DDS Security, to be signed
by openssl where there is no sros2). See docs/security.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from xml.etree import ElementTree as ET

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node, NodeNameNonExistentError

from aloe_ros.domain import own_domain
from aloe_ros.testing import node_process

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "config/security"
POLICY = "aloe.policy.xml"
CONTRACT = ROOT / "config/robots/aloha_sim.yaml"
ENCLAVES = "/aloe"
# Every node with the parameters under which it has the most endpoints.
NODES: dict[str, tuple[str, dict[str, object]]] = {
    "arbiter_node": ("aloe_teleop.nodes.arbiter_node", {}),
    "camera_node": ("aloe_policy.nodes.camera_node", {}),
    "episode_manager": ("aloe_teleop.nodes.episode_manager", {}),
    "episode_recorder": ("aloe_teleop.nodes.episode_recorder", {}),
    "joy_reader": ("aloe_teleop.nodes.joy_reader", {}),
    "policy_node": ("aloe_policy.nodes.policy_node", {"alarm_hold": True}),
    "scripted_human": ("aloe_sim.nodes.scripted_human", {"lockstep": True}),
    "sim_node": ("aloe_sim.nodes.sim_node", {"lockstep": True}),
    "takeover_node": ("aloe_teleop.nodes.takeover_node", {"device": "joy"}),
    "trainer_node": ("aloe_critic.nodes.trainer_node", {}),
}
# Clients that exist only while a service is looked for (aloe_ros.probe), so an idle graph does not show them.
MOMENTARY = {"episode_manager": ("arbiter_node", "episode_recorder", "sim_node")}
LAST = "/diagnostics"  # a node that publishes it has nearly everything: it is made at the end
_QUIET = 5.0  # s without anything new: everybody has said what there is
_PATIENCE = 180.0  # s


@dataclass(frozen=True)
class Endpoints:
    """Full names of topics and services."""

    publish: frozenset[str] = frozenset()
    subscribe: frozenset[str] = frozenset()
    reply: frozenset[str] = frozenset()
    request: frozenset[str] = frozenset()


def seen(observer: Node, node: str, namespace: str) -> Endpoints:
    """Return the endpoints of a node as the graph shows them; empty if it is not there."""
    ask: list[Callable] = [
        observer.get_publisher_names_and_types_by_node,
        observer.get_subscriber_names_and_types_by_node,
        observer.get_service_names_and_types_by_node,
        observer.get_client_names_and_types_by_node,
    ]
    try:
        return Endpoints(*(frozenset(name for name, _ in question(node, namespace)) for question in ask))
    except NodeNameNonExistentError:
        return Endpoints()


class Nodes:
    """All nodes as processes in one ROS domain of their own, and an observer; with the block."""

    def __init__(self, namespace: str = "/", pass_by: tuple[str, ...] = ()) -> None:
        self.names = [name for name in NODES if name not in pass_by]
        self.processes: dict[str, int] = {}
        self._namespace = namespace
        self._stack = ExitStack()

    def __enter__(self) -> Nodes:
        own_domain()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="aloe-security-")))
        for name in self.names:
            module, parameters = NODES[name]
            given = {
                "contract": CONTRACT,
                "use_sim_time": True,
                "bag_dir": folder,
                "checkpoint_dir": folder,
                **parameters,
            }
            remap = ("-r", f"__ns:={self._namespace}", "-r", f"__node:={name}")
            process = self._stack.enter_context(node_process(module, given, folder / f"{name}.log", *remap))
            self.processes[name] = process.pid
        rclpy.init()
        self._stack.callback(rclpy.try_shutdown)
        self.observer = Node("security_observer")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.observer)
        return self

    def __exit__(self, *_: object) -> None:
        self.observer.destroy_node()
        self._stack.close()

    def spin(self) -> None:
        self._executor.spin_once(timeout_sec=0.1)

    def endpoints(self) -> dict[str, Endpoints]:
        """Return what every node has now."""
        return {name: seen(self.observer, name, self._namespace) for name in self.names}

    def settled(self) -> dict[str, Endpoints]:
        """Return what every node has once nothing new appears; SystemExit if one does not come up."""
        deadline = time.monotonic() + _PATIENCE
        found, changed = self.endpoints(), time.monotonic()
        while time.monotonic() - changed < _QUIET or not all(LAST in e.publish for e in found.values()):
            self.spin()
            now = self.endpoints()
            if now != found:
                found, changed = now, time.monotonic()
            if time.monotonic() > deadline:
                missing = ", ".join(name for name, e in found.items() if LAST not in e.publish)
                sys.exit(f"Not all nodes came up within {_PATIENCE:g} s: {missing or 'they keep changing'}.")
        return found


def allowed(nodes: dict[str, Endpoints], namespace: str) -> dict[str, Endpoints]:
    """Return what the nodes need: what they have, and what they ask others for a moment."""
    root = namespace.rstrip("/")
    extra = {name: {f"{root}/{other}/get_parameters" for other in others} for name, others in MOMENTARY.items()}
    return {name: replace(has, request=has.request | extra.get(name, set())) for name, has in nodes.items()}


# Files ------------------------------------------------------------------------------------------------------------


def policy_xml(nodes: dict[str, Endpoints], namespace: str) -> str:
    """Return the SROS2 policy: one enclave a node."""
    root = ET.Element("policy", version="0.2.0")
    enclaves = ET.SubElement(root, "enclaves")
    for name, has in sorted(nodes.items()):
        enclave = ET.SubElement(enclaves, "enclave", path=f"{ENCLAVES}/{name}")
        profile = ET.SubElement(ET.SubElement(enclave, "profiles"), "profile", ns=namespace, node=name)
        for group, item, verb, entries in (
            ("topics", "topic", "publish", has.publish),
            ("topics", "topic", "subscribe", has.subscribe),
            ("services", "service", "reply", has.reply),
            ("services", "service", "request", has.request),
        ):
            if entries:
                allowed = ET.SubElement(profile, group, {verb: "ALLOW"})
                for entry in sorted(entries):
                    ET.SubElement(allowed, item).text = entry
    return _text(root)


def read_policy(text: str) -> dict[str, Endpoints]:
    """Return what a policy allows, by node."""
    nodes = {}
    for profile in ET.fromstring(text).iter("profile"):
        allowed: dict[str, frozenset[str]] = {}
        for group in profile:
            (verb,) = group.attrib
            allowed[verb] = frozenset(entry.text or "" for entry in group)
        nodes[profile.attrib["node"]] = Endpoints(**allowed)
    return nodes


def permissions_xml(name: str, has: Endpoints, domain: int) -> str:
    """Return the DDS Security permissions of one enclave, unsigned: rt/ topics, rq/ requests, rr/ replies."""
    common = {"ros_discovery_info"}
    publish = common | {f"rt{t}" for t in has.publish}
    publish |= {f"rr{s}Reply" for s in has.reply} | {f"rq{s}Request" for s in has.request}
    subscribe = common | {f"rt{t}" for t in has.subscribe}
    subscribe |= {f"rq{s}Request" for s in has.reply} | {f"rr{s}Reply" for s in has.request}
    root = ET.Element("dds")
    grant = ET.SubElement(ET.SubElement(root, "permissions"), "grant", name=f"{ENCLAVES}/{name}")
    ET.SubElement(grant, "subject_name").text = f"CN={ENCLAVES}/{name}"
    validity = ET.SubElement(grant, "validity")
    ET.SubElement(validity, "not_before").text = "2020-01-01T00:00:00"
    ET.SubElement(validity, "not_after").text = "2036-01-01T00:00:00"
    rule = ET.SubElement(grant, "allow_rule")
    ET.SubElement(ET.SubElement(rule, "domains"), "id").text = str(domain)
    for verb, entries in (("publish", publish), ("subscribe", subscribe)):
        topics = ET.SubElement(ET.SubElement(rule, verb), "topics")
        for entry in sorted(entries):
            ET.SubElement(topics, "topic").text = entry
    ET.SubElement(grant, "default").text = "DENY"
    return _text(root)


def write(out: Path, nodes: dict[str, Endpoints], namespace: str, domain: int) -> None:
    """Write policy and permissions into `out`."""
    (out / "permissions").mkdir(parents=True, exist_ok=True)
    (out / POLICY).write_text(policy_xml(nodes, namespace))
    for name, has in nodes.items():
        (out / "permissions" / f"{name}.xml").write_text(permissions_xml(name, has, domain))


def _text(root: ET.Element) -> str:
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--namespace", default="/", help="of the robot; default /")
    parser.add_argument("--domain", type=int, default=0, help="ROS_DOMAIN_ID the permissions are for; default 0")
    parser.add_argument("--out", type=Path, default=OUT, help="folder; default config/security")
    given = parser.parse_args()
    with Nodes(given.namespace) as nodes:
        found = allowed(nodes.settled(), given.namespace)
    write(given.out, found, given.namespace, given.domain)
    for name, has in sorted(found.items()):
        counts = ", ".join(f"{len(getattr(has, field.name))} {field.name}" for field in fields(has))
        print(f"{name}: {counts}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
