#!/bin/sh
# Install the programs that tests or benchmarks need and no wheel has, servers and a browser, from the packages of Debian or Ubuntu: `make servers`.
#
# What is there already is left alone. Services that come with what is installed here are stopped again: the tests start
# servers of their own.
set -eu

has() {
	command -v "$1" >/dev/null && return
	for found in "/usr/sbin/$1" /usr/lib/postgresql/*/bin/"$1"; do
		[ -x "$found" ] && return
	done
	return 1
}

missing=""
has redis-server || missing="$missing redis-server"
has pgbouncer || missing="$missing pgbouncer"
has initdb || missing="$missing postgresql"
has chromium || missing="$missing chromium"
has memcached || missing="$missing memcached"
if [ -z "$missing" ]; then
	echo "All are there: redis-server, pgbouncer, PostgreSQL, chromium, memcached. Nothing to install."
	exit 0
fi
echo "Missing:$missing."

if ! command -v apt-get >/dev/null; then
	echo "This installs by apt-get, on Debian and Ubuntu, and there is none here. On another system, install
  - redis-server, Redis 7 with TLS, on the PATH,
  - pgbouncer, on the PATH or in /usr/sbin,
  - PostgreSQL 15 or later, with initdb and postgres on the PATH,
  - chromium, on the PATH,
  - memcached, on the PATH, which \`make bench-stores\` alone uses,
or go without: \`make test\` passes all the same, and ends by naming what was not run." >&2
	exit 1
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "Installing packages takes root's rights, and there is no sudo: run \`make servers\` as root." >&2
		exit 1
	fi
	as_root="sudo"
fi

echo "Looking up the packages ..."
$as_root apt-get update -qq
packages=""
for package in $missing; do
	if [ "$package" = postgresql ] && apt-cache show postgresql-15 >/dev/null 2>&1; then
		package=postgresql-15
	fi
	packages="$packages $package"
done

echo "Installing$packages ..."
# shellcheck disable=SC2086  # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages >/dev/null

for service in $missing; do
	[ "$service" = chromium ] && continue
	echo "Stopping the service $service, which was installed just now ..."
	$as_root service "$service" stop >/dev/null 2>&1 || echo "It was not running."
done
echo "Done: \`make test\` runs all tests now."
