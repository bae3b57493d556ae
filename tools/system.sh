#!/usr/bin/env bash
# Installs those of the named Debian packages that are missing: as root or through sudo, else says what to type.
# postgresql-15 would start a server of its own on port 5432; here it is asked not to create one.
set -euo pipefail

missing=()
for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "Missing, and this is no Debian: ${missing[*]}. Install their counterparts (psql, pgbench, postgres 15, libnuma)." >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    root=(sudo)
else
    echo "Missing: ${missing[*]}. Install them with: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
echo "installing ${missing[*]}"
"${root[@]}" apt-get update -qq
apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null; }
no_cluster=/etc/postgresql-common/createcluster.d/filestore.conf
if [[ " ${missing[*]} " == *" postgresql-15 "* ]] && [ ! -e /etc/postgresql/15/main ]; then
    apt postgresql-common
    "${root[@]}" mkdir -p "$(dirname "$no_cluster")"
    echo "create_main_cluster = false" | "${root[@]}" tee "$no_cluster" >/dev/null
    trap '"${root[@]}" rm -f "$no_cluster"' EXIT
fi
apt "${missing[@]}"
