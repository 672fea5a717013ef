#!/usr/bin/env bash
# What the tests need from Debian: install it as root (or by sudo without a question), otherwise
# name the one command to run. Asks dpkg first, so a second run costs nothing.
set -euo pipefail
packages=(mosquitto pcscd vsmartcard-vpcd libpcsclite-dev pkg-config gcc chromium iproute2 postgresql strace
    nats-server swtpm tpm2-openssl tpm2-abrmd libtss2-tcti-tabrmd0 dbus-daemon dbus-bin)
# pyscard is built with the headers of the Python in use; Debian's Python has them in a package.
python=$(command -v "${PYTHON:-python3}" || true)
case "$(readlink -f "${python:-/nonexistent}")" in /usr/bin/*) packages+=(python3-dev) ;; esac
missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi
command="apt-get install --yes --no-install-recommends ${missing[*]}"
if [ "$(id -u)" = 0 ]; then
    sudo=()
elif sudo -n true 2>/dev/null; then
    sudo=(sudo)
else
    echo "make test needs Debian packages. Run this one command, then again: sudo $command" >&2
    exit 1
fi
echo "Installing from Debian: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Services that come with the packages are not wanted here: the tests start their own.
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 $command -qq >/dev/null
