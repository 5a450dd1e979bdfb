#!/bin/busybox sh
# The first process of the virtual machine that vm.sh starts: the steps of one boot, a line for each on the second serial port, then power off. The
# kernel hands on what it does not know of its command line: which boot it is, and which driver must have found the TPM.
# shellcheck shell=dash
: "${boot:?}" "${driver:?}"
/bin/busybox --install -s /bin
export PATH=/bin HOME=/disk TSS2_LOG=all+none
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t securityfs security /sys/kernel/security
chmod 1777 /tmp
stty -F /dev/ttyS1 raw
exec > /dev/ttyS1 2>&1
# On the disk, so that what a boot keeps there is found by the next one, which must not take it.
export XDG_RUNTIME_DIR=/disk/runtime
client=ekm-otp-client
registers=/sys/class/tpm/tpm0/pcr-sha256

# A function, whose commands must all succeed. Its output is shown where it fails.
step() { # FUNCTION
  begun=$(cut -d ' ' -f 1 /proc/uptime)
  (set -e; "$1") > /tmp/out 2>&1
  status=$?
  verdict=ok
  [ $status -eq 0 ] || verdict=FAILED
  echo "$verdict $1 $(echo "$(cut -d ' ' -f 1 /proc/uptime) $begun" | awk '{ printf "%.1f s", $1 - $2 }')"
  [ $status -eq 0 ] || sed 's/^/    /' /tmp/out
}
# A command that must end with this exit code; its output, which goes to /tmp/said, must have all these words.
ends() { # CODE WORDS... -- COMMAND...
  want=$1 got=0 words=/tmp/words.$$
  : > $words
  shift
  while [ "$1" != -- ]; do echo "$1" >> $words; shift; done
  shift
  "$@" > /tmp/said 2>&1 || got=$?
  cat /tmp/said
  [ $got -eq "$want" ] || { echo "exit code $got instead of $want: $*"; return 1; }
  while read -r word; do grep -qF -- "$word" /tmp/said || { echo "it does not say: $word"; return 1; }; done < $words
}
as_tester() { su -s /bin/sh tester -c "$*"; }
# Of what the TPM itself holds, not of what the resource manager shows of it.
loaded_handles() { for kind in transient loaded-session saved-session; do tpm2 getcap -T device:/dev/tpm0 handles-$kind; done; }
start_server() {
  ekm-otp-server run --listen 127.0.0.1:4433 --certificate /etc/server.pem --private-key /etc/server.key --secrets /disk/secrets.toml \
    --server-name localhost --upstream demo < /dev/null > /tmp/server.log 2>&1 &
  for _ in $(seq 100); do grep -q listening /tmp/server.log && return; sleep 0.1; done
  cat /tmp/server.log
  return 1
}
get() { $client get https://localhost:4433/whoami --ca /etc/server.pem --kid client1 "$@"; }

kernel_has_the_tpm() {
  [ "$(basename "$(readlink /sys/class/tpm/tpm0/device/driver)")" = "$driver" ]
  [ -c /dev/tpm0 ]
  [ -c /dev/tpmrm0 ]
}
doctor_finds_nothing_wrong() {
  ends 0 "device:/dev/tpmrm0 answers" "the boot was measured" "0 of" -- $client doctor
  ! grep -e '^warning' -e '^problem' /tmp/said
}
raw_device_is_not_taken_in_silence() {
  ends 0 "without the kernel's resource manager" "use --tcti device:/dev/tpmrm0" -- $client doctor --tcti device:/dev/tpm0
  ends 0 "warning: this device has no resource manager" "use --tcti device:/dev/tpmrm0" -- $client key list --tcti device:/dev/tpm0
  # The raw device is one program's at a time, and the managed one goes on.
  exec 9<> /dev/tpm0
  ends 69 "busy" -- $client key list --tcti device:/dev/tpm0
  ends 69 "is another program using it?" -- $client doctor --tcti device:/dev/tpm0
  ends 0 -- $client key list
  exec 9>&-
}
raw_device_is_no_substitute() {
  numbers=$(tr : ' ' < /sys/class/tpmrm/tpmrm0/dev)
  rm /dev/tpmrm0
  ends 69 "there is no TPM device /dev/tpmrm0" "there is /dev/tpm0: the kernel has no resource manager for it" -- $client doctor
  ends 69 "there is no such device" -- $client key create --kid lost --out /tmp/lost.pem --secret-out /tmp/lost.toml
  [ ! -e /tmp/lost.pem ]
  # shellcheck disable=SC2086 # two numbers
  mknod -m 600 /dev/tpmrm0 c $numbers
}
stranger_is_told_which_group() {
  ends 77 "tester may not open /dev/tpmrm0 (group root, mode 0600)" "tpm-udev" -- as_tester $client doctor
  # As the package tpm-udev does it.
  chgrp tss /dev/tpmrm0
  chmod 660 /dev/tpmrm0
  ends 77 "tester may not open /dev/tpmrm0 (group tss, mode 0660)" "as root: usermod -aG tss tester" -- as_tester $client doctor
  ends 77 "no permission to open /dev/tpmrm0" "usermod -aG tss" -- as_tester $client key create --kid lost --out /tmp/lost.pem
  [ ! -e /tmp/lost.pem ]
}
group_lets_in() {
  sed -i 's/^tss:.*/&tester/' /etc/group
  ends 0 "device:/dev/tpmrm0 answers" -- as_tester $client doctor
  as_tester $client key create --kid own --kind p256 --out /tmp/own.pem
  echo message | as_tester $client key sign --key /tmp/own.pem --scheme ecdsa > /tmp/signature
  echo message | ends 0 "the signature is right" -- $client key verify --key /tmp/own.pem --scheme ecdsa --signature /tmp/signature
}
keys_are_made() {
  # PCR 0, 1, 2, 4: firmware, its settings, option ROMs, what it boots.
  $client key create --kid client1 --out /disk/client1.pem --secret-out /disk/secrets.toml
  $client key create --kid bound --kind p256 --out /disk/bound.pem --pcrs sha256:0,1,2,4
  (umask 077; printf right > /disk/password)
  $client key create --kid both --kind p256 --out /disk/both.pem --pcrs sha256:7 --password-file /disk/password
  $client key create --kid kept --kind rsa2048 --out /disk/kept.pem
  $client key persist --key /disk/kept.pem --handle 0x81008001
}
requests_succeed() {
  start_server
  ends 0 client1 -- get --key /disk/client1.pem
  ends 0 client1 -- get --key /disk/client1.pem --credential jwe
  $client key create --kid client1 --out /tmp/other.pem --secret-out /tmp/other.toml
  ends 77 401 -- get --key /tmp/other.pem
  ends 0 "$(printf 'ok       key-tpm')" -- $client doctor --kid client1 --key /disk/client1.pem --ca /etc/server.pem --url https://localhost:4433
}
primary_is_kept_between_processes() {
  kept=$XDG_RUNTIME_DIR/ekm-otp/device--dev-tpmrm0.h2
  before=$(stat -c '%i %Y' $kept)
  ends 0 client1 -- get --key /disk/client1.pem
  [ "$(stat -c '%i %Y' $kept)" = "$before" ]
}
signatures() { # of the keys, those that are bound to registers among them
  for key in /disk/bound.pem /disk/both.pem; do
    echo message | $client key sign --key $key --scheme ecdsa --password-file /disk/password > /tmp/signature
    echo message | ends 0 "the signature is right" -- $client key verify --key $key --scheme ecdsa --signature /tmp/signature
  done
  echo message | $client key sign --key handle:0x81008001 --scheme rsapss > /tmp/signature
  echo message | ends 0 "the signature is right" -- $client key verify --key /disk/kept.pem --scheme rsapss --signature /tmp/signature
}
secrets_are_sealed() {
  head -c 64 /dev/urandom > /disk/small
  head -c 100000 /dev/urandom > /disk/large
  for secret in small large; do
    $client seal --pcrs sha256:0,1,2,4,7 < /disk/$secret > /disk/$secret.sealed
    unseals $secret
  done
}
unseals() { $client unseal --key "/disk/$1.sealed" > /tmp/opened; cmp "/disk/$1" /tmp/opened; rm /tmp/opened; }
secrets_open() { unseals small; unseals large; }
more_processes_than_slots() { # a TPM of three, of which each process wants two
  for number in 1 2 3 4 5 6 7 8; do
    echo $number | $client key sign --key /disk/bound.pem --scheme ecdsa > /tmp/signature.$number &
    pids="$pids $!"
  done
  for pid in $pids; do wait "$pid"; done
  for number in 1 2 3 4 5 6 7 8; do
    echo $number | ends 0 "the signature is right" -- $client key verify --key /disk/bound.pem --scheme ecdsa --signature /tmp/signature.$number
  done
}
one_process_with_more_keys_than_slots() { slots device:/dev/tpmrm0 8 < /dev/null; }
processes_that_hold_keys_and_are_killed_leave_nothing() {
  mkfifo /tmp/end
  sleep 1000 > /tmp/end & # holds their input open
  holder=$!
  for number in 1 2 3 4; do
    slots device:/dev/tpmrm0 4 < /tmp/end > /tmp/slots.$number 2>&1 &
    pids="$pids $!"
  done
  for number in 1 2 3 4; do
    for _ in $(seq 300); do grep -q 'all right' /tmp/slots.$number && break; sleep 0.1; done
    cat /tmp/slots.$number
    grep -q 'all right' /tmp/slots.$number
  done
  # While they hold what they hold:
  ends 0 client1 -- get --key /disk/client1.pem
  # shellcheck disable=SC2086 # several numbers
  kill -9 $pids $holder
  wait
  nothing_is_left
}
nothing_is_left() {
  loaded_handles > /tmp/handles
  cat /tmp/handles
  [ ! -s /tmp/handles ]
}
kernel_does_not_complain() { # of what it was asked to do with the TPM, nor of the disk
  sync
  ! dmesg | grep -iE '(tpm|i/o).*(error|fail|out of|timed|timeout)'
}

registers_are_noted() { # as the client reads them, which is as the kernel does
  mkdir /disk/registers
  $client pcr read sha256 > /tmp/read
  for number in 0 1 2 3 4 5 6 7; do
    cp $registers/$number /disk/registers/
    grep -qiF "$(cat $registers/$number)" /tmp/read
  done
  $client pcr read sha256:0-7 --json > /disk/registers.json
  cat /sys/kernel/security/tpm0/binary_bios_measurements > /disk/events
}
registers_are_as_they_were() {
  for number in 0 1 2 3 4 5 6 7; do cmp $registers/$number /disk/registers/$number; done
  ends 0 "nothing changed" -- $client pcr diff /disk/registers.json
}
registers_are_others() { # and the firmware's own list says why
  ends 1 "sha256:1 changed" "no longer:" "now:" -- $client pcr diff /disk/registers.json --saved-event-log /disk/events
  ! cmp -s $registers/1 /disk/registers/1
}
quotes_are_proven() {
  [ -e /disk/ak.pem ] || $client key create --kid ak --kind ak --out /disk/ak.pem
  rm -f /tmp/quote.*
  $client quote create --key /disk/ak.pem --pcrs sha256:0-7 --nonce 0123 --message-out /tmp/quote.message --signature-out /tmp/quote.signature --pcrs-out /tmp/quote.values
  quote="--ak /disk/ak.pem --message /tmp/quote.message --signature /tmp/quote.signature --values /tmp/quote.values"
  # shellcheck disable=SC2086 # several words
  ends 0 -- $client quote verify $quote --nonce 0123 --pcr "sha256:1=$(cat $registers/1)"
  # shellcheck disable=SC2086
  ends 77 -- $client quote verify $quote --nonce 4567
}
other_machine_is_refused() { # what is bound to the registers
  echo message > /tmp/message
  ends 77 "registers (PCR) that have changed" "sha256:1" -- $client key sign --key /disk/bound.pem --scheme ecdsa < /tmp/message
  ends 77 "these registers (PCR) are not as when the key was made" "sha256:1" -- $client doctor --key /disk/bound.pem
}
secrets_stay_shut() {
  for secret in small large; do
    got=0
    $client unseal --key /disk/$secret.sealed > /tmp/opened 2> /tmp/said || got=$?
    cat /tmp/said
    [ $got -eq 77 ]
    [ ! -s /tmp/opened ]
    grep -qF "registers (PCR) that have changed since it was made: one or more of sha256:0,1,2,4,7" /tmp/said
  done
}
what_is_not_bound_works() {
  start_server
  ends 0 client1 -- get --key /disk/client1.pem
}
primary_of_the_boot_before_is_not_taken() {
  kept=$XDG_RUNTIME_DIR/ekm-otp/device--dev-tpmrm0.h2
  [ -s $kept ]
  before=$(sha256sum < $kept)
  what_is_not_bound_works
  [ "$(sha256sum < $kept)" != "$before" ]
}
changed_register_is_refused() {
  digest=$(printf '%064d' 1)
  extended=$(echo "$(cat $registers/7)$digest" | xxd -r -p | sha256sum | cut -d ' ' -f 1)
  $client pcr extend 7 --digest "sha256=$digest"
  [ "$(tr A-F a-f < $registers/7)" = "$extended" ]
  ends 1 "sha256:7 changed" "the log does not lead to this value" -- $client pcr diff /disk/registers.json
  echo message > /tmp/message
  ends 77 "registers (PCR) that have changed" "sha256:7" -- \
    $client key sign --key /disk/both.pem --scheme ecdsa --password-file /disk/password < /tmp/message
  ends 77 "sha256:7" -- $client doctor --key /disk/both.pem --password-file /disk/password
  # No password was counted as a wrong one for that.
  ends 0 "0 of" -- $client doctor
}

ip link set lo up
case $boot in first) mke2fs -q /dev/nvme0n1 > /dev/null ;; esac
mount /dev/nvme0n1 /disk || echo "FAILED: no disk"
[ -d $XDG_RUNTIME_DIR ] || mkdir -m 700 $XDG_RUNTIME_DIR
case $boot in
  first)
    step kernel_has_the_tpm
    step doctor_finds_nothing_wrong
    step raw_device_is_not_taken_in_silence
    step raw_device_is_no_substitute
    step stranger_is_told_which_group
    step group_lets_in
    step keys_are_made
    step requests_succeed
    step primary_is_kept_between_processes
    step signatures
    step secrets_are_sealed
    step more_processes_than_slots
    step one_process_with_more_keys_than_slots
    step processes_that_hold_keys_and_are_killed_leave_nothing
    step kernel_does_not_complain
    step registers_are_noted
    step quotes_are_proven
    ;;
  other)
    step kernel_has_the_tpm
    step doctor_finds_nothing_wrong
    step registers_are_others
    step quotes_are_proven
    step other_machine_is_refused
    step secrets_stay_shut
    step what_is_not_bound_works
    step one_process_with_more_keys_than_slots
    step nothing_is_left
    step kernel_does_not_complain
    ;;
  again)
    step kernel_has_the_tpm
    step registers_are_as_they_were
    step primary_of_the_boot_before_is_not_taken
    step signatures
    step secrets_open
    step changed_register_is_refused
    step secrets_stay_shut
    step nothing_is_left
    step kernel_does_not_complain
    ;;
esac
umount /disk
echo "end of $boot"
poweroff -f
