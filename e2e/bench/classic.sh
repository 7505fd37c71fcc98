#!/bin/bash
# The check of most keepalived set-ups today: keep what redis-cli says, fail
# if it failed, look for the role.
info=$(redis-cli -p "$1" -a "$2" info replication 2>/dev/null)
if [ $? -ne 0 ]; then
	exit 1
fi
echo "$info" | grep -q role:master
exit $?
