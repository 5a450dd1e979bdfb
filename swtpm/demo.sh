#!/usr/bin/env bash
# The main job on a software TPM: a request that succeeds, a new password on each connection, and three attacks that fail.
#
# usage: swtpm/demo.sh [--keep|--as-tested]
#   --keep        leave the software TPM, the server and the files, and print how to go on by hand
#   --as-tested   with the programs as the tests are built, so that after them there is nothing to build
#
# Installs what is missing on a Debian machine (see setup.sh), builds, and without --keep leaves nothing behind. Exits non-zero
# if anything is not as it must be. All keys are made for the run and thrown away with it.
set -euo pipefail
umask 077

root=$(cd "$(dirname "$0")/.." && pwd)
keep=false profile=release build=(--release -p ekm-otp-server -p ekm-otp-client)
case "${1:-}" in
  "") ;;
  --keep) keep=true ;;
  --as-tested) profile=debug build=(--workspace --all-features --bins --examples) ;;
  *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
esac

"$root/swtpm/setup.sh"
echo "building (some minutes the first time)" >&2
# From inside: cargo finds .cargo/config.toml by the working directory.
(cd "$root" && cargo build --quiet --locked "${build[@]}")
bin=$(cd "$root" && realpath "${CARGO_TARGET_DIR:-target}")/$profile
client=$bin/ekm-otp-client
server=$bin/ekm-otp-server

state=$(mktemp -d "${TMPDIR:-/tmp}/ekm-otp-demo.XXXXXX")
pids=()
finish() {
  local status=$?
  if $keep && [ $status -eq 0 ]; then
    return
  fi
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$state"
  [ $status -eq 0 ] || echo "FAILED (exit $status)" >&2
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$state"

bold=; plain=
if [ -t 1 ]; then bold=$'\033[1m'; plain=$'\033[0m'; fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
indent() { sed 's/^/    /'; }
die() { echo "NOT SO: $*" >&2; exit 1; }
# Waits until a file shows a line.
await() { # FILE PATTERN
  for _ in $(seq 200); do grep -q "$2" "$1" 2>/dev/null && return; sleep 0.02; done
  cat "$1" >&2; die "$1 does not show: $2"
}
# Runs a command that must end with this exit code; its output goes to the file `out`.
expect() { # CODE COMMAND...
  local want=$1 got=0; shift
  "$@" > out 2>&1 || got=$?
  [ $got -eq "$want" ] || { cat out >&2; die "exit code $got instead of $want: $*"; }
}
free_port() { # a port that is free together with the next one
  python3 - <<'PY'
import socket
while True:
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        try:
            b.bind(("127.0.0.1", a.getsockname()[1] + 1))
        except OSError:
            continue
        print(a.getsockname()[1])
        break
PY
}
start_server() { # NAME SECRETS: leaves its port in $port
  "$server" run --listen 127.0.0.1:0 --certificate server.pem --private-key server.key --secrets "$2" \
    --server-name localhost --upstream demo --unsafe-show-otp < /dev/null > "$1.log" 2>&1 &
  pids+=($!)
  await "$1.log" listening
  port=$(sed -n 's/.*address=127.0.0.1:\([0-9]*\).*/\1/p' "$1.log" | head -n 1)
}
get() { # PORT KEY_FILE PATH FLAGS...
  local port=$1 key=$2 path=$3; shift 3
  "$client" get "https://localhost:$port$path" --kid client1 --key-file "$key" --ca ca.pem --verbose --unsafe-show-otp "$@"
}
otp() { grep -o 'otp=\\\{0,1\}"[A-Za-z0-9_-]*' | tail -n 1 | sed 's/.*"//'; }

say "A software TPM, a CA, a server certificate"
tpm=$(free_port)
mkdir tpm
swtpm socket --tpm2 --flags not-need-init,startup-clear --tpmstate dir=tpm,mode=0600 \
  --server "type=tcp,port=$tpm,bindaddr=127.0.0.1" --ctrl "type=tcp,port=$((tpm + 1)),bindaddr=127.0.0.1" < /dev/null > swtpm.log 2>&1 &
pids+=($!)
unset XDG_RUNTIME_DIR # where the client would keep what ends with this TPM
export TPM2TOOLS_TCTI="swtpm:host=127.0.0.1,port=$tpm"
for _ in $(seq 200); do (: > "/dev/tcp/127.0.0.1/$((tpm + 1))") 2>/dev/null && break; sleep 0.02; done
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=EKM-OTP demo CA" \
  -keyout ca.key -out ca.pem 2> openssl.log
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr 2>> openssl.log
printf 'subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' > server.ext
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.pem 2>> openssl.log
echo "swtpm at 127.0.0.1:$tpm, files in $state" | indent

say "The server's secret for client1 goes into the TPM"
head -c 32 /dev/urandom | base64 > client1.b64
printf '[client1]\nsecret = "%s"\nclient = "the demo client"\n' "$(cat client1.b64)" > secrets.toml
"$client" key import --kid client1 --secret-file client1.b64 --out client1.pem 2>&1 | indent
rm client1.b64
start_server server secrets.toml
honest=$port

say "(a) A request that succeeds"
get "$honest" client1.pem /whoami > body 2> first || { cat first >&2; die "the request failed"; }
indent < first; indent < body
grep -q "server proof: verified, before the request was sent" first || die "the server's proof was not verified"
await server.log otp=
first=$(otp < first)
echo "client's password: $first" | indent
echo "server's password: $(otp < server.log)" | indent
[ -n "$first" ] && [ "$first" = "$(otp < server.log)" ] || die "the two sides have different passwords"

say "(b) A second connection has another password"
get "$honest" client1.pem /get > body 2> second || { cat second >&2; die "the request failed"; }
echo "answer: $(cat body), password: $(otp < second)" | indent
[ "$first" != "$(otp < second)" ] || die "two connections share a password"

say "(c) A token for the request itself, signed and encrypted, with a claim that only the server can read"
get "$honest" client1.pem /whoami --credential jwe --claim patient=4711 > body 2> third || { cat third >&2; die "the request failed"; }
grep -o 'jwe=.\{60\}' third | sed 's/$/.../' | indent; indent < body
grep -q '"claims":{"patient":"4711"}' body || die "the claim did not arrive"

say "(d) The first connection's credential, stolen and replayed on a new connection: 401"
stolen=$(sed -n 's/.*its credential was: //p' first)
curl --silent --show-error --cacert ca.pem --header "Authorization: $stolen" --output /dev/null --dump-header head "https://localhost:$honest/get"
tr -d '\r' < head | grep -i -e '^HTTP' -e '^www-auth' | indent
grep -q '^HTTP/[0-9.]* 401' head || die "the replay was not refused"

say "(e) A client with another secret: 401"
head -c 32 /dev/urandom | base64 | "$client" key import --kid client1 --secret-file - --out other.pem 2> /dev/null
expect 77 get "$honest" other.pem /get
grep '^ekm-otp-client:' out | indent
grep -q '401' out || die "not refused with 401"

say "(f) A server that has a valid certificate and does not know the secret: the client refuses it"
mkdir -p rogue/.well-known
rogue=$(free_port)
printf 'HTTP/1.1 204 No Content\r\nAuthentication-Info: proof="%s"\r\n\r\n' "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')" \
  > rogue/.well-known/ekm-otp
(cd rogue && exec openssl s_server -accept "127.0.0.1:$rogue" -cert ../server.pem -key ../server.key -HTTP < /dev/null > ../rogue.log 2>&1) &
pids+=($!)
for _ in $(seq 200); do (: > "/dev/tcp/127.0.0.1/$rogue") 2>/dev/null && break; sleep 0.02; done
expect 77 get "$rogue" client1.pem /secret-path
grep '^ekm-otp-client:' out | indent
grep -q 'did not prove' out || die "the client did not notice"
echo "all that the rogue was asked for: $(sed -n 's/^FILE://p' rogue.log | tr '\n' ' ')" | indent
[ "$(sed -n 's/^FILE://p' rogue.log)" = .well-known/ekm-otp ] || { cat rogue.log >&2; die "the rogue got more than the probe"; }

say "All as it must be."
if $keep; then
  cat <<KEEP
    Everything is still there. To go on by hand:
      cd $state
      export TPM2TOOLS_TCTI=$TPM2TOOLS_TCTI
      $client get https://localhost:$honest/whoami --kid client1 --key client1.pem --ca ca.pem --verbose
    The server logs to $state/server.log. To end it all:
      kill ${pids[*]}; rm -r $state
KEEP
fi
