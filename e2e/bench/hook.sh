#!/bin/sh
# The client-reconfig-script of those who let Sentinel move the VIP. Sentinel
# calls it on every node when the master has changed, with
#   MASTER-NAME ROLE STATE FROM-IP FROM-PORT TO-IP TO-PORT
vip=10.0.0.100
if ip -4 -o addr show dev eth0 | grep -q " $6/"; then
	ip addr add $vip/32 dev eth0 && arping -q -c 3 -A -I eth0 $vip
else
	ip addr del $vip/32 dev eth0
fi
exit 0
