"""Forget packages that an interrupted pip left incomplete, so that it installs them again.

pip trusts the metadata folder it finds. A package counts as torn when its RECORD is missing or a
recorded file is absent or has another size. The repaired CMake files of the ROS wheels differ by
intent and are not compared.
"""

import shutil
import sys
import sysconfig
from importlib.metadata import Distribution
from pathlib import Path


def torn(package: Distribution) -> bool:
    if not package.files:
        return True
    for file in package.files:
        path = Path(str(file.locate()))
        if path.suffix in (".pyc", ".cmake"):
            continue
        if not path.exists() or (file.size is not None and path.stat().st_size != file.size):
            return True
    return False


def main() -> int:
    site = Path(sysconfig.get_path("purelib"))
    for leftover in site.glob("~*"):  # pip's rename of a package that it was replacing
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    for folder in sorted(site.glob("*.dist-info")):
        package = Distribution.at(folder)
        if package.name != "pip" and torn(package):
            print(f"{folder.name} was interrupted; installing it again")
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
