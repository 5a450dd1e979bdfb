#!/usr/bin/env bash
# Installs the Debian packages that building, testing and the demo need, where they are missing, and those that are named. Needs root (or sudo)
# only then.
set -euo pipefail

packages=(
  gcc g++ make pkg-config libssl-dev libtss2-dev             # to build; g++ for the fuzz targets, make for jemalloc
  libtss2-tcti-swtpm0 libtss2-tcti-device0                   # to reach a TPM at run time
  swtpm tpm2-tools openssl curl python3 python3-venv ca-certificates procps # to test and for the demo
  tpm2-openssl python3-dev                                   # whose key files are tested; to build tpm2-pytss, which is too
  "$@"
)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null)" = "ii " ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}" >&2
  run() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
  run apt-get update -qq
  run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
fi
if ! command -v cargo > /dev/null; then
  echo "cargo is missing: install a Rust toolchain (rustup), 1.88 or later" >&2
  exit 69
fi
