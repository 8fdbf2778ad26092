"""Make the ROS wheels in this interpreter's environment usable for building.

Their exported CMake files name the include folders of the machine that built the wheels;
CMake's generate step fails on those, so they are replaced by this interpreter's own.
Running it again changes nothing.
"""

import re
import sys
import sysconfig
from pathlib import Path

FOREIGN = re.compile(r"/opt/(?:python|_internal)/[^;\"\s]*?/include(?:/python[0-9.]+)?(?=[;\"\s])")


def main() -> int:
    import numpy

    own = {True: numpy.get_include(), False: sysconfig.get_path("include")}
    repaired = 0
    for path in sorted(Path(sys.prefix, "share").glob("*/cmake/*.cmake")):
        text = path.read_text()
        fixed = FOREIGN.sub(lambda found: own["numpy" in found.group()], text)
        if "/opt/python" in fixed:
            print(f"{path}: still names a foreign folder after repair", file=sys.stderr)
            return 1
        if fixed != text:
            partial = path.with_suffix(".partial")
            partial.write_text(fixed)
            partial.replace(path)  # an interrupted repair leaves the old file whole
            repaired += 1
    print(f"repaired {repaired} CMake files of the ROS wheels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
