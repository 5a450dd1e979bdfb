#!/usr/bin/env bash
# The client at a real kernel's /dev/tpmrm0: a virtual machine (QEMU in software emulation, so it needs no rights), Debian's kernel, a software TPM as the machine's
# own. It boots three times: as it is, on another board and with another TPM interface, so that its registers are others, and again as it was. What is done
# in each boot: vm/init.sh.
#
# usage: swtpm/vm.sh
#
# Installs what is missing on a Debian machine (see setup.sh); the kernel is not installed, but unpacked below Cargo's target folder. One line per step, then its
# output where it failed. Exits non-zero if a step failed, or a boot did not come to its end.
set -euo pipefail
umask 077

root=$(cd "$(dirname "$0")/.." && pwd)
limit=600 # seconds for a boot; the longest takes two minutes on busy cores
[ $# -eq 0 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 64; }
die() { echo "vm.sh: $*" >&2; exit 1; }

"$root/swtpm/setup.sh" qemu-system-x86 busybox-static
target=$(cd "$root" && realpath -m "${CARGO_TARGET_DIR:-target}")
echo "building (some minutes the first time)" >&2
# As the tests are built, so that after them there is nothing to do. From inside: cargo finds .cargo/config.toml by the working directory.
(cd "$root" && cargo build --workspace --all-features --bins --examples --quiet --locked)
bin=$target/debug

state=$(mktemp -d "${TMPDIR:-/tmp}/ekm-otp-vm.XXXXXX")
pids=()
finish() {
  local status=$?
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$state"
  [ $status -eq 0 ] || echo "FAILED (exit $status)" >&2
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Debian's kernel for clouds has drivers for TPM, NVMe and ext4 built in: no modules are wanted. Once unpacked it is kept.
kernel() {
  local kept=("$target"/vm/vmlinuz-*) package
  if [ ! -f "${kept[0]}" ]; then
    local run=(); [ "$(id -u)" -eq 0 ] || run=(sudo)
    "${run[@]}" apt-get update -qq
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
    [ -n "$package" ] || die "there is no package linux-image-cloud-amd64"
    mkdir -p "$target/vm" "$state/kernel"
    (cd "$state/kernel" && apt-get download -qq "$package" 2> apt.log) || { cat "$state/kernel/apt.log" >&2; die "cannot download $package"; }
    dpkg-deb --extract "$state"/kernel/*.deb "$state/kernel"
    mv "$state"/kernel/boot/vmlinuz-* "$target/vm/"
    rm -r "$state/kernel"
    kept=("$target"/vm/vmlinuz-*)
  fi
  printf '%s\n' "${kept[-1]}"
}
vmlinuz=$(kernel)

# The guest's files: BusyBox, the programs with what they are linked with, and what a TPM's C library loads by name.
guest=$state/guest
mkdir -p "$guest"/{bin,dev,etc,proc,sys,tmp,disk}
install_program() { # FILE
  strip --strip-debug -o "$guest/bin/$(basename "$1")" "$1" # what a debug build has of it does not fit
  libraries "$1"
}
libraries() { # FILE
  local library
  ldd "$1" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^\s*\(\/[^ ]*\).*/\1/p' | while read -r library; do
    mkdir -p "$guest$(dirname "$library")"
    cp -Lu "$library" "$guest$library"
  done
}
cp "$(command -v busybox)" "$guest/bin/busybox"
install_program "$bin/ekm-otp-client"
install_program "$bin/ekm-otp-server"
install_program "$bin/examples/slots"
install_program "$(command -v tpm2)"
device=$(ldconfig -p | sed -n 's/.*libtss2-tcti-device\.so\.0 .*=> //p' | head -n 1)
[ -n "$device" ] || die "libtss2-tcti-device.so.0 is missing"
mkdir -p "$guest$(dirname "$device")"
cp -L "$device" "$guest$device"
libraries "$device"
cp "$root/swtpm/vm/init.sh" "$guest/init"
printf 'root:x:0:0::/:/bin/sh\ntester:x:1000:1000::/tmp:/bin/sh\n' > "$guest/etc/passwd"
printf 'root:x:0:\ntss:x:103:\ntester:x:1000:\n' > "$guest/etc/group"
echo '127.0.0.1 localhost' > "$guest/etc/hosts"
chmod 755 "$guest/init"
chmod -R a+rX "$guest" # the guest has a user besides root
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=localhost" \
  -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE -keyout "$guest/etc/server.key" -out "$guest/etc/server.pem" 2> "$state/openssl.log"
(cd "$guest" && find . | busybox cpio -o -H newc -R 0:0) > "$state/initramfs" 2> "$state/cpio.log" || { cat "$state/cpio.log" >&2; exit 1; }

head -c 16M /dev/zero > "$state/disk"
mkdir "$state/tpm"
await() { # FILE
  for _ in $(seq 500); do [ -e "$1" ] && return; sleep 0.02; done
  cat "$state/swtpm.log" >&2; die "swtpm did not start"
}
failed=0
# A boot: the machine's disk and its TPM's memory stay. The kernel's console and the steps' results go to files of their own.
boot() { # NAME BOARD INTERFACE
  local name=$1 board=$2 interface=$3 status=0 results=$state/$1.results console=$state/$1.console started=$SECONDS
  printf '\nboot "%s": %s, %s\n' "$name" "$board" "$interface"
  rm -f "$state/tpm.socket"
  swtpm socket --tpm2 --tpmstate "dir=$state/tpm,mode=0600" --ctrl "type=unixio,path=$state/tpm.socket" --terminate < /dev/null > "$state/swtpm.log" 2>&1 &
  local swtpm=$!
  pids+=("$swtpm")
  await "$state/tpm.socket"
  qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none -machine "$board" -accel tcg -cpu max -smp 2 -m 1024 \
    -kernel "$vmlinuz" -initrd "$state/initramfs" -append "console=ttyS0 quiet panic=-1 boot=$name driver=${interface/-/_}" \
    -serial "file:$console" -serial "file:$results" \
    -drive "file=$state/disk,format=raw,if=none,id=disk" -device nvme,serial=disk,drive=disk \
    -chardev "socket,id=tpm,path=$state/tpm.socket" -tpmdev emulator,id=tpm,chardev=tpm -device "$interface,tpmdev=tpm" \
    < /dev/null > "$state/qemu.log" 2>&1 &
  local qemu=$!
  pids+=("$qemu")
  while kill -0 "$qemu" 2>/dev/null && [ $((SECONDS - started)) -lt $limit ]; do sleep 0.1; done
  if kill -0 "$qemu" 2>/dev/null; then
    echo "no end within $limit s"
    kill "$qemu"
  fi
  wait "$qemu" || status=$?
  kill "$swtpm" 2>/dev/null || true # which ends with the connection, where there was one
  wait "$swtpm" 2>/dev/null || true
  pids=()
  grep -v "^end of" "$results" || true
  if [ $status -ne 0 ] || grep -q '^FAILED' "$results" || ! grep -q "^end of $name$" "$results"; then
    failed=1
    sed 's/^/    /' "$state/qemu.log" "$state/swtpm.log"
    tail -n 40 "$console" | sed 's/^/    /'
  fi
  echo "boot \"$name\": $((SECONDS - started)) s"
}
boot first q35 tpm-crb
boot other pc tpm-tis
boot again q35 tpm-crb
[ $failed -eq 0 ] || die "not as it must be"
printf '\nAll as it must be.\n'
