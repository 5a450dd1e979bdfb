#!/usr/bin/env bash
# Makes the virtual environment .venv beside this script, for the Python peers. Does nothing where it is up to date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# Tests start this at the same time: the first does the work, the others wait. The lock is on the requirements, so it leaves no file.
exec 9< requirements.txt
flock 9

stamp=$(python3 --version && cat requirements.txt)
if [ "$(cat .venv/stamp 2>/dev/null)" = "$stamp" ] && .venv/bin/python -c "" 2>/dev/null; then
  exit 0
fi
if ! python3 -c "import ensurepip, venv" 2>/dev/null; then
  echo "python3-venv is missing: apt-get install python3-venv" >&2
  exit 69
fi
echo "making $PWD/.venv" >&2
rm -rf .venv
python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.txt
printf '%s\n' "$stamp" > .venv/stamp # last: a run that was cut short is made again
