#!/bin/sh
# Before a removal, by dpkg or rpm: a daemon without its program and its unit
# could no longer be managed. An upgrade stops nothing.
set -e
case $1 in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl stop redis-is-masterd.service 'redis-is-masterd@*.service' 'redis-is-masterd*.socket'
	fi
	;;
esac
