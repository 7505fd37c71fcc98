#!/bin/sh
# After a removal, by dpkg (remove, purge) or rpm (0). rpm has no purge, and
# keeps what an operator has changed.
set -e
case $1 in
purge | 0)
	rm -f /etc/systemd/system/*.wants/redis-is-masterd.service /etc/systemd/system/*.wants/redis-is-masterd@*.service
	rm -rf /run/redis-is-master
	;;
esac
case $1 in
purge)
	rm -rf /etc/redis-is-master
	if getent passwd redis-is-master >/dev/null; then
		userdel redis-is-master
	fi
	if getent group redis-is-master >/dev/null; then # it has members
		groupdel redis-is-master
	fi
	;;
esac
case $1 in
remove | purge | 0)
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
	fi
	;;
esac
