#!/usr/bin/env bash
# Builds the environment: .venv with pinned packages, the ROS 2 wheels and their repair, then all packages of src/.
#   scripts/setup.sh [--quiet]     --quiet says nothing when there is nothing to do
# ALOE_PROFILE=full (default) | robot (no simulator, no developer tools) | trainer (no ROS at all)
# A full ROS 2 that is sourced is used instead of the wheels. PYTHON=/path chooses the interpreter.
# Every step leaves a stamp, the hash of what it was made from, when it is complete: running again does only what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

profile=${ALOE_PROFILE:-full}
stamps=.venv/.aloe
log=.venv/.aloe/setup.log
started=$SECONDS

say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 1; }
done_with() { printf '%s\n' "$2" >"$stamps/$1.tmp" && mv "$stamps/$1.tmp" "$stamps/$1"; }
is_done() { [ -r "$stamps/$1" ] && [ "$(<"$stamps/$1")" = "$2" ]; }
logged() { # what is shown when it fails, command...
  local what=$1
  shift
  "$@" >"$log" 2>&1 && return
  grep -v '^WARNING: Location' "$log" | tail -n 30 >&2
  die "$what failed; the whole output is in $log"
}

case $profile in
  full) files=(runtime standalone model sim dev build ros) ;;
  robot) files=(runtime standalone model build ros) ;;
  trainer) files=(runtime standalone) ;;
  *) die "ALOE_PROFILE is '$profile': expected full, robot or trainer" ;;
esac
if [ "$profile" = trainer ]; then
  ros=none
elif [ -n "${ROS_DISTRO:-}" ] && command -v ros2 >/dev/null; then
  ros=system
else
  ros=wheels
  if [ -r "$stamps/ros" ] && [ "$(<"$stamps/ros")" = system ]; then
    die "this environment was built on a full ROS 2: source its setup.bash first, or remove .venv to use the wheels"
  fi
fi
if [ "$ros" = system ]; then
  [ "$ROS_DISTRO" != humble ] || die "ROS 2 humble is sourced; jazzy or later is needed"
  files=(runtime model build)
  [ "$profile" = robot ] || files+=(sim dev)
fi

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} $([ "$ros" = system ] && echo /usr/bin/python3) python3 python3.12 python3.11 python3.10; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      "$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))'
      return
    fi
  done
  die "no Python 3.10 to 3.12 found: apt install python3 python3-venv"
}

check_tools() {
  local missing=()
  "$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
  if [ "$ros" != none ]; then
    [ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] || missing+=(python3-dev)
    command -v cmake >/dev/null || missing+=(cmake)
    command -v "${CXX:-c++}" >/dev/null || missing+=(g++)
    command -v make >/dev/null || missing+=(make)
    command -v git >/dev/null || missing+=(git)
  fi
  if [ "$ros" = system ]; then
    "$python" -c 'import cv2' 2>/dev/null || missing+=(python3-opencv)
  fi
  if [ "$profile" = full ]; then # off-screen rendering of the simulated cameras
    "$python" -c 'import ctypes; ctypes.CDLL("libEGL.so.1")' 2>/dev/null || missing+=(libegl1 libgl1-mesa-dri)
  fi
  [ ${#missing[@]} -eq 0 ] || die "missing system packages: apt install ${missing[*]}"
}

make_venv() {
  local options=()
  [ "$ros" = system ] && options=(--system-site-packages)
  say "creating .venv ($("$python" -V), ROS 2 from ${ros/none/nowhere})"
  rm -rf "$stamps" # first, so that no stamp outlives what it vouches for
  rm -rf .venv build install
  "$python" -m venv "${options[@]}" .venv
  mkdir -p "$stamps"
  done_with ros "$ros"
  done_with venv "$venv_id"
}

install_packages() {
  local name arguments=()
  say "installing Python packages (2 to 4 minutes the first time)"
  # Left behind by an interrupted run: what it was writing may be incomplete.
  [ ! -e "$stamps/installing" ] || .venv/bin/python scripts/drop_torn_packages.py
  touch "$stamps/installing"
  for name in "${files[@]}"; do arguments+=(-r "requirements/$name.in"); done
  if [ "$ros" = system ]; then
    grep -vE '^(numpy|opencv-python-headless)==' requirements/constraints.txt >"$stamps/constraints.txt"
    echo 'numpy<2' >>"$stamps/constraints.txt"
  else
    cp requirements/constraints.txt "$stamps/constraints.txt"
  fi
  logged "installing Python packages" .venv/bin/python -m pip install --no-input --disable-pip-version-check --no-compile \
    -c "$stamps/constraints.txt" "${arguments[@]}"
  [ "$ros" != wheels ] || logged "repairing the ROS wheels" .venv/bin/python scripts/repair_wheels.py
  rm "$stamps/installing"
  done_with packages "$packages_id"
}

# To bytecode on all cores, beside the build: pip does it on one, before. What does not compile (files for another Python) or
# is cut off here is compiled when it is first imported, or never.
compile_packages() {
  .venv/bin/python -m compileall -q -j 0 "$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    >/dev/null 2>&1 || true
}

build() {
  say "building the ROS packages (about a minute the first time)"
  # A killed compiler leaves object files that look finished; a failed build does not.
  [ ! -e "$stamps/building" ] || rm -rf build install
  touch "$stamps/building"
  local status=0
  colcon_build >"$log" 2>&1 || status=$?
  rm -f "$stamps/building"
  if [ $status -ne 0 ]; then
    grep -vE 'local_setup' "$log" | tail -n 40 >&2
    die "colcon build failed; the whole output is in $log"
  fi
  done_with build "$build_id"
}

colcon_build() (
  set +eu
  # shellcheck source=scripts/env.sh
  source scripts/env.sh
  set -eu
  exec colcon --log-base build/log build --merge-install --symlink-install --base-paths src \
    --cmake-args -DBUILD_TESTING=OFF -DCMAKE_BUILD_TYPE=Release "-DPython3_EXECUTABLE=$PWD/.venv/bin/python"
)

python=$(find_python)
venv_id="$ros $profile $python $("$python" -V)"
requirements=("${files[@]/#/requirements/}")
packages_id="$venv_id $(cat scripts/repair_wheels.py requirements/constraints.txt "${requirements[@]/%/.in}" | sha256sum)"
# Python files and the contents of launch/ and config/ are linked, not copied: editing one needs no build.
build_id=$(
  {
    echo "$packages_id"
    find src \( -name package.xml -o -name setup.py -o -name setup.cfg -o -name CMakeLists.txt \
      -o -name '*.msg' -o -name '*.srv' -o -name '*.action' \) -type f -print0 | sort -z | xargs -0 sha256sum
    { find launch config -type f 2>/dev/null || true; } | sort
  } | sha256sum
)

needed() {
  is_done venv "$venv_id" && is_done packages "$packages_id" && { [ "$ros" = none ] || is_done build "$build_id"; } && return 1
  return 0
}

if ! needed; then
  [ "${1:-}" = --quiet ] || say "up to date (ROS 2 from ${ros/none/nowhere})"
  exit 0
fi
exec 9>.setup.lock
flock -n 9 || { say "waiting for another set-up in this folder" && flock 9; }
# Plain ifs: inside `||` bash would not stop at the first error.
if needed; then check_tools; fi # another set-up may have done it all while this one waited
if ! is_done venv "$venv_id"; then make_venv; fi
if ! is_done packages "$packages_id"; then
  install_packages
  compile_packages 9>&- & # the next set-up need not wait for what an interrupted one compiles
fi
if [ "$ros" != none ] && ! is_done build "$build_id"; then build; fi
wait
say "done in $((SECONDS - started)) s"
