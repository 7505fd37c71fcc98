#!/bin/sh
# Installs what the build and the demo need; with the argument "tests" or
# "bench" what those do, and with "docker" an engine, which it starts; on Debian
# and Ubuntu as root. Elsewhere it says what is missing.
set -eu
cd "$(dirname "$0")/.."

# A command, and Debian's package that has it.
needed="redis-server:redis-server redis-sentinel:redis-sentinel redis-cli:redis-tools
keepalived:keepalived haproxy:haproxy ip:iproute2 nft:nftables arping:iputils-arping ss:iproute2 gcc:gcc /usr/bin/time:time"
[ "${1:-}" != tests ] || needed="$needed
systemd-analyze:systemd man:man-db zsh:zsh fish:fish debootstrap:debootstrap lintian:lintian rpm:rpm
promtool:prometheus prometheus-node-exporter:prometheus-node-exporter chromium:chromium
nagios4:nagios4-core /usr/sbin/nrpe:nagios-nrpe-server /usr/lib/nagios/plugins/check_nrpe:nagios-nrpe-plugin
/usr/lib/nagios/plugins/negate:monitoring-plugins-basic"
[ "${1:-}" != bench ] || needed="$needed
arping:iputils-arping /usr/lib/nagios/plugins/check_redis:monitoring-plugins-contrib"
if [ "${1:-}" = docker ]; then
	needed="$needed docker:docker.io"
	docker compose version >/dev/null 2>&1 || needed="$needed docker-compose:docker-compose"
	[ -n "${DEBIAN:-}" ] || needed="$needed debootstrap:debootstrap"
fi

missing=
for n in $needed; do
	command -v "${n%%:*}" >/dev/null || missing="$missing ${n#*:}"
done
[ "${1:-}" != bench ] || [ -e /usr/share/perl5/Redis.pm ] || missing="$missing libredis-perl"
[ -e /usr/include/stdlib.h ] || missing="$missing libc6-dev"
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"

# Go 1.21 and later fetch the toolchain that go.mod names; an older one can
# only be used to fetch it.
PATH="$PWD/.tools/go/bin:$PATH"
minor=$(go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
[ -n "$minor" ] || missing="$missing golang-go"

if [ -n "$missing" ]; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "Missing, by the names of Debian's packages:$missing" >&2
		echo "Install them, or run this as root on Debian or Ubuntu. golang-go may be any Go from 1.19 on." >&2
		exit 1
	fi
	# The servers are for the tests to start, not for the machine.
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod 755 /usr/sbin/policy-rc.d
	fi
	apt-get update -q
	known=
	for p in $missing; do # Ubuntu has no chromium; the tests that need it say so
		if apt-cache show "$p" >/dev/null 2>&1; then
			known="$known $p"
		else
			echo "There is no package $p" >&2
		fi
	done
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $known
fi

minor=$(go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
if [ "$minor" -lt 21 ]; then
	version=$(sed -n 's/^toolchain //p' go.mod)
	module="golang.org/toolchain@v0.0.1-$version.linux-$(go env GOHOSTARCH)"
	(cd / && go mod download "$module")
	mkdir -p .tools
	ln -sfn "$(go env GOMODCACHE)/$module" .tools/go
	# A module's files are not executable.
	chmod -R u+x .tools/go/bin/ .tools/go/pkg/tool/
	.tools/go/bin/go version
fi

if [ "${1:-}" = docker ] && ! docker info >/dev/null 2>&1; then
	service docker start
	tries=0
	until docker info >/dev/null 2>&1 || [ $tries = 30 ]; do
		tries=$((tries + 1))
		sleep 1
	done
	docker info >/dev/null
fi
