#!/usr/bin/env bash
# Sources the full ROS 2 where the image has one, then runs ./aloe, which finds everything built.
set -eo pipefail
for setup in /opt/ros/*/setup.bash; do
  # shellcheck disable=SC1090
  [ ! -r "$setup" ] || source "$setup"
done
exec "$(dirname "${BASH_SOURCE[0]}")/../aloe" "$@"
