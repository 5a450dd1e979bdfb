#!/usr/bin/env bash
# Every check. Installs what is missing on a Debian machine with a Rust toolchain, then formatting, lints, docs, all tests, a
# smoke run of the load program and its count of instructions, the fuzz targets for some seconds, a virtual machine with a TPM, and the demo.
set -euo pipefail
cd "$(dirname "$0")"

# What is built once needs no notes for being built again.
[ -z "${CI:-}" ] || export CARGO_INCREMENTAL=0

step() { printf '\n== %s\n' "$*"; }

step "packages"
# The load program compares with nginx, pins processes by util-linux and counts by valgrind. (Where systemd runs, Debian starts nginx on port 80
# when it is installed.)
./swtpm/setup.sh groff-base nginx-light systemd util-linux valgrind postgresql chromium strace stunnel4 wget git openssh-server openssh-client curl
./testdata/python/setup.sh
./testdata/python/setup.sh cloud
for component in rustfmt clippy; do
  cargo "${component#rust}" --version > /dev/null 2>&1 || rustup component add "$component"
done

step "formatting"
cargo fmt --all --check

step "lints"
cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
# What embedders get who want passwords only: no OpenSSL.
cargo clippy --package ekm-otp-tower --all-targets --locked -- -D warnings
# What people get who want the client without the clouds, and who embed it: neither libtss2 nor OpenSSL unless they ask for it.
cargo clippy --package ekm-otp-client --no-default-features --features cli --locked -- -D warnings
for features in "" tpm jose tonic; do
  cargo clippy --package ekm-otp-client --no-default-features --features "$features" --lib --locked -- -D warnings
done

cargo fmt --manifest-path fuzz/Cargo.toml --check
cargo clippy --manifest-path fuzz/Cargo.toml --target-dir fuzz/target --locked -- -D warnings

step "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps --locked --quiet

step "test vectors"
python3 testdata/v1/generate.py --check
testdata/python/.venv/bin/python testdata/v1/generate_jose.py --check

step "tests (layering and licences are among them)"
# With the same features all along: what tests start is built once.
cargo build --workspace --all-features --bins --examples --locked
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
EKM_OTP_TESTED_SERVER=$target/debug/ekm-otp-server cargo test --workspace --all-features --locked

step "load program, a smoke run"
cargo bench --package ekm-otp-tower --features jose --bench load --locked -- --smoke
cargo bench --package ekm-otp-tower --features jose --bench load --locked -- --proxies --smoke

step "the pair of sidecar and server beside others, a smoke run"
# Unoptimised: what it measures means nothing, and that every pair works is seen all the same.
EKM_OTP_TESTED_SERVER=$target/debug/ekm-otp-server cargo test --workspace --all-features --bench pair --locked -- --smoke

step "times of refusals, some thousand"
cargo bench --package ekm-otp-tower --features jose --bench load --locked -- --timing 2000

step "instructions, compared with what is recorded"
cargo bench --package ekm-otp-tower --features jose --bench load --locked -- --instructions

step "fuzz targets, some seconds each"
./fuzz/run.sh

step "the kernel's TPM device, in a virtual machine"
./swtpm/vm.sh

step "demo"
./swtpm/demo.sh --as-tested

step "all checks passed"
