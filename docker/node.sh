#!/bin/sh
# Starts one process of a node: redis, sentinel, keepalived or haproxy, each by
# its shipped configuration with the addresses of this cluster put in.
set -eu
umask 077
share=/usr/local/share/redis-is-master
secret=/run/secrets/redis-password
address=$(hostname -i)

# In quotes, as Redis and Sentinel read it. It stands on no command line.
password() { sed 's/[\\"]/\\&/g; s/.*/"&"/; q' "$secret"; }

case $1 in
redis)
	# Sentinel rewrites this file, so the one of the last run stands.
	conf=/data/redis.conf
	if [ ! -e $conf ]; then
		sed "s/ADDRESS/$address/; s/VIP/$VIP/" $share/redis.conf >$conf.new
		[ "$address" = "$MASTER" ] || echo "replicaof $MASTER 6379" >>$conf.new
		mv $conf.new $conf
	fi
	sed -i '/^requirepass /d; /^masterauth /d' $conf
	printf 'requirepass %s\nmasterauth %s\n' "$(password)" "$(password)" >>$conf
	exec redis-server $conf
	;;
sentinel)
	conf=/data/sentinel.conf
	if [ ! -e $conf ]; then
		# A Sentinel that begins before the replicas are there looks for them
		# again only after ten seconds.
		tries=0
		until redis-is-master -q -H "$MASTER" --password-file $secret --min-replicas 2 || [ $tries = 100 ]; do
			tries=$((tries + 1))
			sleep 0.1
		done
		sed "s/ADDRESS/$address/; s/MASTER/$MASTER/" $share/sentinel.conf >$conf.new
		mv $conf.new $conf
	fi
	sed -i '/^sentinel auth-pass /d' $conf
	printf 'sentinel auth-pass mymaster %s\n' "$(password)" >>$conf
	exec redis-sentinel $conf
	;;
keepalived)
	sed "s/10\.0\.0\.100/$VIP/" $share/track-file.conf >/tmp/keepalived.conf
	exec keepalived --dont-fork --log-console --no-syslog --vrrp --pid=/tmp/keepalived.pid --vrrp_pid=/tmp/vrrp.pid --use-file=/tmp/keepalived.conf
	;;
haproxy)
	# Port 6379 is that of the node's own Redis, and an engine may allow
	# less than the two files for each of 10000 connections.
	sed "s/maxconn 10000/maxconn 5000/; s/10\.0\.0\.\([123]\)\>/$NET.1\1/g; s/bind :6379/bind :6381/; s,/run/,/tmp/," $share/haproxy.cfg >/tmp/haproxy.cfg
	exec haproxy -db -f /tmp/haproxy.cfg
	;;
*)
	echo "no process of a node: $1" >&2
	exit 1
	;;
esac
