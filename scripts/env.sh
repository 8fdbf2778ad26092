# shellcheck shell=bash
# Source this (bash): a shell in which ROS 2, the built interfaces and all packages of this repository import.
#   source scripts/env.sh
# Sourcing it again changes nothing. Edits under src/ are live; the interfaces come from the last build.

_aloe_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
_aloe_venv=$_aloe_root/.venv

_aloe_prepend() { # variable, entry: put the entry first unless it is already in there
  case ":${!1:-}:" in
    *":$2:"*) ;;
    *) export "$1=$2${!1:+:${!1}}" ;;
  esac
}

if [ ! -x "$_aloe_venv/bin/python" ]; then
  echo "aloe: there is no environment yet: run 'make setup'" >&2
  unset -f _aloe_prepend
  # shellcheck disable=SC2317
  return 1 2>/dev/null || exit 1
fi

_aloe_ros=wheels
[ -r "$_aloe_venv/.aloe/ros" ] && _aloe_ros=$(<"$_aloe_venv/.aloe/ros")
if [ "$_aloe_ros" = wheels ]; then
  export ROS_DISTRO=jazzy ROS_VERSION=2 ROS_PYTHON_VERSION=3
  # The wheels' start-up hook would re-execute every interpreter to set the library path; it is set here instead.
  export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
  for _aloe_dir in "$_aloe_venv"/lib/python3.*/site-packages/ros_*.libs "$_aloe_venv/lib"; do
    _aloe_prepend LD_LIBRARY_PATH "$_aloe_dir"
  done
  _aloe_prepend AMENT_PREFIX_PATH "$_aloe_venv"
  _aloe_prepend CMAKE_PREFIX_PATH "$_aloe_venv"
fi
_aloe_prepend PATH "$_aloe_venv/bin"
export VIRTUAL_ENV=$_aloe_venv

_aloe_prepend LD_LIBRARY_PATH "$_aloe_root/install/lib"
_aloe_prepend AMENT_PREFIX_PATH "$_aloe_root/install"
_aloe_prepend CMAKE_PREFIX_PATH "$_aloe_root/install"
for _aloe_dir in "$_aloe_root"/install/lib/python3*/site-packages "$_aloe_root"/build/aloe_* "$_aloe_root"/src/aloe_*; do
  [ -d "$_aloe_dir" ] || continue
  [ "${_aloe_dir%_msgs}" = "$_aloe_dir" ] && _aloe_prepend PYTHONPATH "$_aloe_dir"
done

export RMW_IMPLEMENTATION=${RMW_IMPLEMENTATION:-rmw_fastrtps_cpp}
export RCUTILS_COLORIZED_OUTPUT=${RCUTILS_COLORIZED_OUTPUT:-0}
export ROS_AUTOMATIC_DISCOVERY_RANGE=${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}
# Nothing listens on an outside interface unless discovery beyond this host was asked for. Where the profile sees to
# that, the range is left to it: told LOCALHOST, rmw_fastrtps adds shared memory (docs/adr/0022-udp-alone.md).
if [ "${RMW_IMPLEMENTATION#rmw_fastrtps}" != "$RMW_IMPLEMENTATION" ] && [ -z "${FASTRTPS_DEFAULT_PROFILES_FILE:-}" ]; then
  export FASTRTPS_DEFAULT_PROFILES_FILE=$_aloe_root/config/dds/fastdds_network.xml
  if [ "$ROS_AUTOMATIC_DISCOVERY_RANGE" = LOCALHOST ]; then
    FASTRTPS_DEFAULT_PROFILES_FILE=$_aloe_root/config/dds/fastdds.xml ROS_AUTOMATIC_DISCOVERY_RANGE=SYSTEM_DEFAULT
  fi
fi
export MUJOCO_GL=${MUJOCO_GL:-egl}
# Threads of linear algebra that spin while they wait are 12 times slower where another process wants the core.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}

unset -f _aloe_prepend
unset _aloe_root _aloe_venv _aloe_dir _aloe_ros
