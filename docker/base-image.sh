#!/bin/sh
# Makes a minimal Debian image where no registry can be reached: by debootstrap,
# as root, from Debian's packages alone. Usage: base-image.sh [NAME [SUITE [MIRROR]]]
set -eu
name=${1:-redis-is-master-debian}
suite=${2:-bookworm}
mirror=${3:-}

[ "$(id -u)" = 0 ] || {
	echo "debootstrap needs root; where a registry can be reached, take its image: DEBIAN=debian:$suite-slim" >&2
	exit 1
}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
# shellcheck disable=SC2086
debootstrap --variant=minbase "$suite" "$dir" $mirror >"$dir.log" 2>&1 || {
	tail -20 "$dir.log" >&2
	rm -f "$dir.log"
	exit 1
}
rm -f "$dir.log"

# As in the registry's image: no service is started by its installation, and
# nothing is kept that can be fetched again or that nobody reads.
printf '#!/bin/sh\nexit 101\n' >"$dir/usr/sbin/policy-rc.d"
chmod 755 "$dir/usr/sbin/policy-rc.d"
printf 'Acquire::Languages "none";\nDir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n' >"$dir/etc/apt/apt.conf.d/docker"
printf 'path-exclude /usr/share/doc/*\npath-exclude /usr/share/man/*\npath-exclude /usr/share/locale/*\nforce-unsafe-io\n' >"$dir/etc/dpkg/dpkg.cfg.d/docker"
rm -rf "$dir"/var/cache/apt/* "$dir"/var/lib/apt/lists/* "$dir"/var/log/* \
	"$dir"/usr/share/doc/* "$dir"/usr/share/man/* "$dir"/usr/share/locale/* \
	"$dir"/dev/* "$dir"/etc/hostname "$dir"/etc/resolv.conf
tar -C "$dir" --sort=name -c . | docker import --change 'CMD ["bash"]' - "$name" >/dev/null
echo "made the image $name of Debian $suite"
