#!/usr/bin/env bash
# Builds the Debian package of the server, with dpkg-deb alone.
#
#   server/debian/build.sh [BINARY [FOLDER]]
#
# BINARY: what is packed; without it the release is built. FOLDER: where the package is written to (.). LEVEL in the environment: how hard it is
# compressed, 1 to 9. Prints the package's path.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(realpath "${2:-.}")
if [ -n "${1:-}" ]; then
  binary=$(realpath "$1")
else
  (cd "$root" && cargo build --release --locked --quiet --package ekm-otp-server)
  binary=$root/target/release/ekm-otp-server
fi

version=$("$binary" --version | cut -d' ' -f2)
architecture=$(dpkg --print-architecture)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
put() { install -D --mode "$1" "$2" "$stage$3"; } # MODE FROM TO

put 755 "$binary" /usr/bin/ekm-otp-server
put 644 "$root/examples/systemd/ekm-otp-server.service" /lib/systemd/system/ekm-otp-server.service
put 644 "$root/examples/systemd/ekm-otp-server.socket" /lib/systemd/system/ekm-otp-server.socket
put 644 "$root/examples/systemd/ekm-otp.sysusers" /usr/lib/sysusers.d/ekm-otp.conf
doc=/usr/share/doc/ekm-otp-server
for file in README.md CHANGELOG.md docs/operations.md docs/protocol.md; do put 644 "$root/$file" "$doc/$(basename "$file")"; done
put 644 "$root/LICENSE" "$doc/copyright"
(cd "$root/examples" && find . -type f) | while read -r file; do put 644 "$root/examples/$file" "$doc/examples/${file#./}"; done
put 644 "$root/examples/systemd/server.toml" /etc/ekm-otp/server.toml
"$binary" man --out "$stage/usr/share/man/man1"
gzip --best --no-name "$stage"/usr/share/man/man1/*.1
mkdir -p "$stage"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
"$binary" completions bash > "$stage/usr/share/bash-completion/completions/ekm-otp-server"
"$binary" completions zsh > "$stage/usr/share/zsh/vendor-completions/_ekm-otp-server"
"$binary" completions fish > "$stage/usr/share/fish/vendor_completions.d/ekm-otp-server.fish"

mkdir "$stage/DEBIAN"
cat > "$stage/DEBIAN/control" << END
Package: ekm-otp-server
Version: $version
Architecture: $architecture
Section: net
Priority: optional
Maintainer: The EKM-OTP project <ekm-otp@localhost>
Depends: ca-certificates, libc6 (>= 2.36), libgcc-s1, libssl3
Recommends: systemd
Installed-Size: $(du -sk "$stage" | cut -f1)
Description: authenticating reverse proxy
 Ends TLS and EKM-OTP in front of an app: clients prove on each connection that
 they hold their key, and the app sees plain requests with a trustworthy name.
END
echo /etc/ekm-otp/server.toml > "$stage/DEBIAN/conffiles"
# It is not started: it needs a certificate, an upstream and clients first.
cat > "$stage/DEBIAN/postinst" << 'END'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
  if command -v systemd-sysusers > /dev/null; then systemd-sysusers ekm-otp.conf; fi
  if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart ekm-otp-server.service
  fi
fi
END
cat > "$stage/DEBIAN/prerm" << 'END'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl disable --now ekm-otp-server.socket ekm-otp-server.service; fi
END
chmod 755 "$stage/DEBIAN/postinst" "$stage/DEBIAN/prerm"

package=$out/ekm-otp-server_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zgzip -z"${LEVEL:-9}" --build "$stage" "$package" > /dev/null
echo "$package"
