#!/usr/bin/env bash
# Makes the virtual environment .venv beside this script, for the Python peers; with the argument `tss`, for those that use a TPM
# themselves, too; with the argument `cloud` instead .venv-cloud, with the clouds' SDKs. Does nothing where it is up to date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# Tests start this at the same time: the first does the work, the others wait. The lock is on the requirements, so it leaves no file.
case "${1:-}" in
  cloud) requirements=requirements-cloud.txt venv=.venv-cloud ;;
  *) requirements=requirements.txt venv=.venv ;;
esac
exec 9< "$requirements"
flock 9

install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes "$@"; }

stamp=$(python3 --version && cat "$requirements")
if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ] || ! "$venv/bin/python" -c "" 2>/dev/null; then
  if ! python3 -c "import ensurepip, venv" 2>/dev/null; then
    echo "python3-venv is missing: apt-get install python3-venv" >&2
    exit 69
  fi
  echo "making $PWD/$venv" >&2
  rm -rf "$venv"
  python3 -m venv "$venv"
  install --requirement "$requirements"
  printf '%s\n' "$stamp" > "$venv/stamp" # last: a run that was cut short is made again
fi

if [ "${1:-}" = tss ] && ! cmp --silent requirements-tss.txt .venv/stamp-tss; then
  header=$(python3 -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")')
  if ! [ -e "$header" ] || ! pkg-config --exists tss2-esys tss2-fapi || ! command -v cc > /dev/null; then
    echo "tpm2-pytss cannot be built: apt-get install gcc pkg-config python3-dev libtss2-dev" >&2
    exit 69
  fi
  echo "building tpm2-pytss" >&2
  install --no-build-isolation --no-deps --requirement requirements-tss.txt
  cp requirements-tss.txt .venv/stamp-tss
fi
