#!/bin/sh
# Installs Go, which is all that the build needs; by an argument also the
# programs that a target runs: "lab" (end-to-end tests and demo), "tests" (all
# tests), "roots" (other releases of Debian), "bench", or "docker" (an engine,
# which is started). As root on Debian and Ubuntu; elsewhere it says what is
# missing.
set -eu
cd "$(dirname "$0")/.."
for_what=${1:-build}

# A command, and Debian's package that has it.
needed=
case $for_what in
lab | tests | bench)
	needed="redis-server:redis-server redis-sentinel:redis-sentinel redis-cli:redis-tools
keepalived:keepalived haproxy:haproxy ip:iproute2 nft:nftables" ;;
esac
case $for_what in
tests)
	needed="$needed git:git gcc:gcc curl:curl ss:iproute2 arping:iputils-arping
systemd-analyze:systemd man:man-db zsh:zsh fish:fish debootstrap:debootstrap lintian:lintian rpm:rpm
promtool:prometheus prometheus-node-exporter:prometheus-node-exporter chromium:chromium
nagios4:nagios4-core /usr/sbin/nrpe:nagios-nrpe-server /usr/lib/nagios/plugins/check_nrpe:nagios-nrpe-plugin
/usr/lib/nagios/plugins/negate:monitoring-plugins-basic" ;;
bench)
	needed="$needed gcc:gcc /usr/bin/time:time debootstrap:debootstrap
arping:iputils-arping /usr/lib/nagios/plugins/check_redis:monitoring-plugins-contrib" ;;
roots)
	needed="debootstrap:debootstrap" ;;
docker)
	needed="docker:docker.io"
	docker compose version >/dev/null 2>&1 || needed="$needed docker-compose:docker-compose"
	[ -n "${DEBIAN:-}" ] || needed="$needed debootstrap:debootstrap" ;;
esac

missing=
for n in $needed; do
	command -v "${n%%:*}" >/dev/null || missing="$missing ${n#*:}"
done
case $for_what in
bench) [ -e /usr/share/perl5/Redis.pm ] || missing="$missing libredis-perl" ;;
esac
case $needed in
*gcc:*) [ -e /usr/include/stdlib.h ] || missing="$missing libc6-dev" ;;
esac
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
	installed() { dpkg-query -Wf '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p'; }
	before=$(installed)
	# The servers are for the tests to start, not for the machine: neither now
	# nor at its next boot.
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
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $known || failed=$?
	now=
	[ ! -d /run/systemd/system ] || now=--now
	for p in $(installed); do
		case "
$before
" in *"
$p
"*) continue ;; esac
		for file in $(dpkg -L "$p"); do
			case $file in
			*@.*) ;;
			/etc/init.d/*) update-rc.d "${file##*/}" disable ;;
			/lib/systemd/system/*.service | /lib/systemd/system/*.socket | /lib/systemd/system/*.timer | \
				/usr/lib/systemd/system/*.service | /usr/lib/systemd/system/*.socket | /usr/lib/systemd/system/*.timer)
				! command -v systemctl >/dev/null || systemctl --quiet disable $now "${file##*/}" ;;
			esac
		done
	done
	[ -z "${failed:-}" ] || exit "$failed"
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

if [ $for_what = docker ] && ! docker info >/dev/null 2>&1; then
	service docker start
	tries=0
	until docker info >/dev/null 2>&1 || [ $tries = 30 ]; do
		tries=$((tries + 1))
		sleep 1
	done
	docker info >/dev/null
fi
