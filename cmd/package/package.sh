#!/bin/sh
# Makes the deb and the rpm for amd64 and arm64 in $OUT/packages. The same
# commit gives the same bytes.
set -eu
cd "$(dirname "$0")/../.."
: "${VERSION:?}" "${ARCHS:=amd64 arm64}" "${OUT:=$PWD/bin}"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}"
: "${MAINTAINER:=The authors of redis-is-master <redis-is-master@example.org>}"
: "${HOMEPAGE:=https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/}"

# A package's version begins with a digit and holds no dash; a commit without
# a tag sorts below every release.
PACKAGE_VERSION=$(echo "${VERSION#v}" | tr - +)
case $PACKAGE_VERSION in
[0-9]*.*) ;;
*) PACKAGE_VERSION=0~$SOURCE_DATE_EPOCH.$PACKAGE_VERSION ;;
esac
export OUT PACKAGE_VERSION MAINTAINER HOMEPAGE SOURCE_DATE_EPOCH
umask 022
mkdir -p "$OUT/packages" "$OUT/man" "$OUT/doc" "$OUT/host"

# -trimpath here, so that all that is built here shares one cache.
export CGO_ENABLED=0 GOFLAGS='-buildvcs=false -trimpath'
build() {
	go build -ldflags "-s -w -X redis-is-master/cmd/internal/flags.version=$VERSION" -o "$1" ./cmd/redis-is-master ./cmd/redis-is-masterd
}
build "$OUT/host/"
go run ./cmd/internal/man -bin "$OUT/host" -out "$OUT/man"
for page in "$OUT"/man/*.[18]; do
	gzip -9nc "$page" >"$page.gz"
done
# The package's socket is open to its own user, whom the profiles then name.
mkdir -p "$OUT/keepalived"
for profile in keepalived/*.conf; do
	sed 's/script_user nobody         /script_user redis-is-master/' "$profile" >"$OUT/$profile"
done
gzip -9nc README.md >"$OUT/doc/README.md.gz"
gzip -9nc CHANGELOG.md >"$OUT/doc/changelog.gz"
printf 'redis-is-master (%s-1) stable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' "$PACKAGE_VERSION" "$MAINTAINER" \
	"$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9nc >"$OUT/doc/changelog.Debian.gz"

for ARCH in $ARCHS; do
	export ARCH
	GOOS=linux GOARCH=$ARCH build "$OUT/$ARCH/"
	for packager in deb rpm; do
		go tool nfpm package --config cmd/package/nfpm.yaml --packager "$packager" --target "$OUT/packages/"
	done
done
