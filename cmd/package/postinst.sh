#!/bin/sh
# After an installation or an upgrade, by dpkg or rpm. It starts and restarts
# nothing. What runs is reloaded: the new program goes on where the old one was,
# and the VIP stays.
set -e
if ! getent passwd redis-is-master >/dev/null; then
	if command -v systemd-sysusers >/dev/null; then
		systemd-sysusers redis-is-master.conf
	else
		useradd --system --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin redis-is-master
	fi
fi
# It must be there when keepalived starts. In a chroot without /proc there is
# no systemd-tmpfiles.
systemd-tmpfiles --create redis-is-master.conf 2>/dev/null || install -d -m 0755 -o redis-is-master -g redis-is-master /run/redis-is-master
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	for unit in $(systemctl list-units --plain --no-legend --state=active 'redis-is-masterd.service' \
		'redis-is-masterd@*.service' | cut -d' ' -f1); do
		echo "redis-is-master: reloading $unit, which keeps its answer"
		systemctl reload "$unit" || echo "redis-is-master: $unit is not reloaded, and runs the program of before: see its log"
	done
fi
