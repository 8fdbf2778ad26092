#!/usr/bin/env bash
# Builds .venv-lerobot, LeRobot's environment for `./aloe policy-server --lerobot`: Python 3.12 and a torch of its own.
#   scripts/lerobot.sh             nothing to do when nothing changed; PYTHON=/path chooses the interpreter
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv-lerobot
stamp=$venv/.aloe
packages=('lerobot[smolvla,pi,peft]==0.6.1' msgpack pydantic websockets)
needed_gb=9 # 5.3 installed, the rest while downloading

die() { echo "lerobot: $*" >&2; exit 1; }

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3.12 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python3.12; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
      "$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))'
      return
    fi
  done
  die "no Python 3.12 with venv found, which LeRobot needs: apt install python3.12 python3.12-venv, or set PYTHON"
}

wanted=$(echo "${packages[@]}" | cat - requirements/lerobot.txt | sha256sum)
[ ! -r "$stamp" ] || [ "$(<"$stamp")" != "$wanted" ] || exit 0
python=$(find_python)
free_gb=$(($(df --output=avail -k . | tail -n 1) / 1048576))
[ "$free_gb" -ge "$needed_gb" ] || die "$free_gb GB free here: expected $needed_gb"
echo "lerobot: installing LeRobot into $venv (5.3 GB, some minutes)"
rm -f "$stamp"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check -c requirements/lerobot.txt "${packages[@]}"
echo "$wanted" >"$stamp"
