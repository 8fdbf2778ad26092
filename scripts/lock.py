"""Resolve requirements/*.in for every supported Python and write requirements/constraints.txt.

    python scripts/lock.py            keep the present pins, add what is missing
    python scripts/lock.py --upgrade  newest versions

Needs python3.10, python3.11 and python3.12 on PATH. A package whose version differs between
them gets one line per version with a marker. Local version labels (+cpu) are dropped, so any
build of the same release satisfies a pin.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "requirements"
OUTPUT = FOLDER / "constraints.txt"
PYTHONS = ("3.10", "3.11", "3.12")
HEADER = "# Every package of every requirements file, by scripts/lock.py; torch pins its own GPU libraries.\n"
FOREIGN = ("nvidia-", "cuda-", "triton")  # only the GPU build of torch pulls these in


def resolve(python: str, keep: bool, scratch: Path) -> dict[str, str]:
    """Name to version of everything pip would install into an empty environment."""
    environment, report = scratch / python, scratch / f"{python}.json"
    subprocess.run([f"python{python}", "-m", "venv", environment], check=True)
    pip = [environment / "bin/pip", "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    arguments = [word for path in sorted(FOLDER.glob("*.in")) for word in ("-r", path)]
    if keep and OUTPUT.exists():
        arguments += ["-c", OUTPUT]
    subprocess.run([*pip, "--dry-run", "--ignore-installed", "--report", report, *arguments], check=True)
    packages = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    pins = {item["name"].lower().replace("_", "-"): item["version"].split("+")[0] for item in packages}
    return {name: version for name, version in pins.items() if not name.startswith(FOREIGN)}


def merge(resolved: dict[str, dict[str, str]]) -> list[str]:
    """One line per package, or one per version with a marker naming its Pythons."""
    lines = []
    for name in sorted(set().union(*resolved.values())):
        versions: dict[str, list[str]] = {}
        for python, pins in resolved.items():
            if name in pins:
                versions.setdefault(pins[name], []).append(python)
        for version, pythons in versions.items():
            markers = " or ".join(f'python_version == "{python}"' for python in pythons)
            marker = "" if len(versions) == 1 else f"; {markers}"
            lines.append(f"{name}=={version}{marker}")
    return lines


def main() -> int:
    keep = "--upgrade" not in sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        lines = merge({python: resolve(python, keep, Path(folder)) for python in PYTHONS})
    OUTPUT.write_text(HEADER + "\n".join(lines) + "\n")
    print(f"{OUTPUT}: {len(lines)} pins")
    return 0


if __name__ == "__main__":
    sys.exit(main())
