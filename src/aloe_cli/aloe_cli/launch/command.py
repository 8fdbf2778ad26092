"""The command line of a node process."""

from __future__ import annotations

from pathlib import Path

import yaml

from aloe_cli.launch.node import NodeSpec, ParameterSource


def command(spec: NodeSpec, folder: Path) -> list[str]:
    """Return the arguments that start `spec`; parameters set in the launch file are written to `folder`."""
    words = [str(spec.executable), *spec.arguments]
    if spec.ros_arguments:
        words += ["--ros-args", *spec.ros_arguments]
    words += ["--ros-args"]
    if spec.name is not None:
        words += ["-r", f"__node:={spec.name}"]
    if spec.namespace is not None:
        words += ["-r", f"__ns:={spec.namespace}"]
    for number, source in enumerate(spec.parameters):
        words += ["--params-file", str(_parameter_file(spec, source, folder / f"{spec.label}-{number}.yaml"))]
    for old, new in spec.remappings:
        words += ["-r", f"{old}:={new}"]
    return words


def _parameter_file(spec: NodeSpec, source: ParameterSource, path: Path) -> Path:
    if isinstance(source, Path):
        return source
    # An exact node name beats a wildcard whatever the order of the files, so it is used as launch_ros does.
    exact = spec.name is not None and spec.namespace is not None
    node = f"{(spec.namespace or '').rstrip('/')}/{spec.name}" if exact else "/**"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.dump({node: {"ros__parameters": source}}, default_flow_style=False))
    return path
