#!/usr/bin/env bash
# fuzz/run.sh [SECONDS [TARGET...]]: runs the fuzz targets, each for SECONDS (5), on a stable Rust toolchain with g++.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-5}
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || targets=(fields jose keyfile policy document quote cms event_log)
# Without SECONDS the same seed each time, for ./test.sh; else a random one.
seed=$(( $# == 0 ))

python3 "$here/seeds.py"

# As `cargo fuzz build --sanitizer none` does it. Its flags are stable ones; only the sanitizers need a nightly compiler. With a
# --target they do not reach build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-$here/target}
coverage=(-Cpasses=sancov-module)
for flag in level=4 inline-8bit-counters pc-table trace-compares stack-depth; do
  coverage+=("-Cllvm-args=-sanitizer-coverage-$flag")
done
RUSTFLAGS="--cfg fuzzing ${coverage[*]} -Cllvm-args=-simplifycfg-branch-fold-threshold=0" \
  cargo build --quiet --manifest-path "$here/Cargo.toml" "${targets[@]/#/--bin=}" --release --locked --target "$host" --target-dir "$build"

export TSS2_LOG=all+none # else libtss2 prints a line for each bad key file
failed=0
for target in "${targets[@]}"; do
  case $target in
    fields) max_len=10000 ;; # two fields that are as long as can be, and some
    *) max_len=6000 ;;
  esac
  program=$build/$host/release/$target
  artifacts=$here/artifacts/$target
  log=$artifacts/log
  mkdir -p "$artifacts"
  printf '\n%s, %s s\n' "$target" "$seconds"
  "$program" "$here/corpus/$target" -max_total_time="$seconds" -seed="$seed" -max_len="$max_len" -timeout=10 -rss_limit_mb=1024 \
    -artifact_prefix="$artifacts/" 2>&1 | tee "$log" | grep --line-buffered -E '^#[0-9]+\s+(INITED|pulse|DONE)' || {
    failed=1
    grep -vE '^#[0-9]' "$log" | tail -n 40
    printf '\n%s FAILED. To see it again:\n' "$target"
    sed -n "s|.*Test unit written to \(.*\)|  TSS2_LOG=all+none $program \1|p" "$log"
  }
done
exit "$failed"
