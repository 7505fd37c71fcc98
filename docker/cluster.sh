#!/bin/sh
# The cluster of compose.yaml, by one word:
#   images      makes the images that it runs, of what `make image-files` has put into bin/
#   up          starts what does not run, and returns when all is as it should be
#   show        says what the daemon of each node says
#   failover    asks the Sentinels for another master, and waits for it
#   lose NODE   ends all processes of node 1, 2 or 3 at once, as a power cut would
#   demo        ends the master's node, and brings it back
#   down        ends it, with its volumes and the password, if that was made here
#   clean       the same, and removes the images
# From the environment: NET (10.77.0), COMPOSE_PROJECT_NAME (redis-is-master),
# TAG (latest, of the images), DEBIAN (a Debian image; without it, one is made
# by base-image.sh), PASSWORD_FILE, COMPOSE (the command), COMPOSE_PROFILES.
set -eu
cd "$(dirname "$0")"
: "${COMPOSE_PROJECT_NAME:=redis-is-master}" "${NET:=10.77.0}" "${PASSWORD_FILE:=$PWD/password}" "${TAG:=latest}"
export COMPOSE_PROJECT_NAME NET PASSWORD_FILE TAG
image=redis-is-master

if [ -z "${COMPOSE:-}" ]; then
	if docker compose version >/dev/null 2>&1; then COMPOSE="docker compose"; else COMPOSE=docker-compose; fi
fi
compose() { $COMPOSE -f compose.yaml "$@"; }

# containers SERVICE ...: their ids, those that run alone.
containers() {
	for service; do
		docker ps -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --filter "label=com.docker.compose.service=$service"
	done
}

# in_service SERVICE COMMAND ...: its exit code, or 125 if the service does not run.
in_service() {
	id=$(containers "$1")
	shift
	[ -n "$id" ] || return 125
	docker exec "$id" "$@"
}

# Debian's Docker has no BuildKit.
build() {
	docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
	docker build -q -f Dockerfile --build-arg DEBIAN="$debian" --build-arg VERSION="${VERSION:-unknown}" "$@" ..
}

# What the last build left.
prune() {
	for name in $image $image-node $image-prometheus; do
		docker image prune -f --filter "label=org.opencontainers.image.title=$name" >/dev/null
	done
}

images() {
	debian=${DEBIAN:-$image-debian}
	if [ -z "${DEBIAN:-}" ] && ! docker image inspect "$debian" >/dev/null 2>&1; then
		./base-image.sh "$debian"
	fi
	build -t "$image:$TAG" --target prebuilt-image
	build -t $image-debian:packages --target debian
	build -t "$image-node:$TAG" --target prebuilt-node
	[ "${COMPOSE_PROFILES:-}" != prometheus ] || build -t "$image-prometheus:$TAG" --target prometheus
	prune
}

# Makes a password, if there is none. Only the user of the containers may read
# it. Which file this is stands beside it, so that down removes no other.
password() {
	[ ! -e "$PASSWORD_FILE" ] || return 0
	# shellcheck disable=SC2016
	docker run --rm --network none -v "$(dirname "$PASSWORD_FILE"):/secret" "$image-node:$TAG" sh -c '
		umask 077
		od -An -N24 -tx1 /dev/urandom | tr -d " \n" >"/secret/$1.new"
		chown 65532:65532 "/secret/$1.new"
		mv "/secret/$1.new" "/secret/$1"' - "$(basename "$PASSWORD_FILE")"
	file_id >"$PASSWORD_FILE.made"
}
file_id() { stat -c '%i %Z' "$PASSWORD_FILE" 2>/dev/null; }

# holder: the number of the node whose daemon says yes; fails if there is none.
holder() {
	for i in 1 2 3; do
		if in_service masterd$i redis-is-master -q --cached; then
			echo $i
			return
		fi
	done
	return 1
}

# agreed: each Sentinel reaches the others, and has seen two replicas. One that
# has not seen that an old master is a replica by now would demote it at once
# if another Sentinel promoted it again.
agreed() {
	for i in 1 2 3; do
		in_service sentinel$i redis-cli -p 26379 SENTINEL CKQUORUM mymaster 2>/dev/null | grep -q 'OK 3' || return 1
		[ "$(in_service sentinel$i redis-cli -p 26379 SENTINEL REPLICAS mymaster |
			grep -A 1 '^role-reported$' | grep -c '^slave$')" = 2 ] || return 1
	done
}

# settled: the Sentinels agree, a master has two replicas in order, and is
# written to.
settled() {
	agreed || return 1
	master=$(holder) || return 1
	in_service masterd"$master" redis-is-master --cached | grep -q '2 replicas online' || return 1
	docker logs --tail 1 "$(containers client)" | grep -q "node$master acknowledges"
}

# await WHAT CONDITION ...
await() {
	what=$1
	shift
	end=$(($(date +%s) + 60))
	until "$@"; do
		if [ "$(date +%s)" -ge $end ]; then
			echo "not within 60 seconds: $what" >&2
			compose ps >&2
			compose logs --no-color --tail=10 >&2
			exit 1
		fi
		sleep 0.2
	done
}

up() {
	password
	compose up -d
	await "the cluster is in order" settled
}

show() {
	for i in 1 2 3; do
		echo "node$i: $(in_service masterd$i redis-is-master --cached || [ $? != 125 ] || echo "does not run")"
	done
}

lose() {
	# shellcheck disable=SC2046
	docker kill $(containers "keepalived$1" "node$1" "redis$1" "sentinel$1" "masterd$1" "haproxy$1") >/dev/null
}

# failover: by the first Sentinel; it may have to be asked again, where one is
# under way or it has not heard from the replicas yet.
failover() {
	await "the Sentinels see two replicas" agreed
	old=$(master)
	await "the Sentinels begin a failover" begun
	await "another node is master" promoted
}
begun() { in_service sentinel1 redis-cli -p 26379 SENTINEL FAILOVER mymaster | grep -q OK; }
promoted() { [ "$(master)" != "$old" ] && holder >/dev/null; }

# master: the address that the Sentinels name.
master() { in_service sentinel1 redis-cli -p 26379 SENTINEL GET-MASTER-ADDR-BY-NAME mymaster | head -1; }

# story SINCE: what the observers and the client said from then on.
story() {
	for service in node1 node2 node3 client; do
		id=$(containers $service)
		[ -z "$id" ] || docker logs --since "$1" "$id"
	done | sort | cut -c 12-23,27-
}

moved() { now=$(holder) && [ "$now" != "$old" ] && docker logs --tail 1 "$(containers client)" | grep -q "node$now acknowledges"; }

demo() {
	up
	show
	old=$(holder)
	began=$(date +%s)
	printf '\nThe power of node%s fails.\n' "$old"
	lose "$old"
	await "the VIP is on another node" moved
	story "$began"
	show
	began=$(date +%s)
	printf '\nnode%s returns. Its Redis calls itself master until the Sentinels demote it; its daemon does not believe that.\n' "$old"
	up
	story "$began"
	show
}

down() {
	COMPOSE_PROFILES=prometheus compose down -v --remove-orphans -t 5
	prune
	[ -e "$PASSWORD_FILE.made" ] || return 0
	[ "$(file_id)" != "$(cat "$PASSWORD_FILE.made")" ] || rm -f "$PASSWORD_FILE"
	rm -f "$PASSWORD_FILE.made"
}

case ${1:-} in
images | up | show | failover | demo | down) "$1" ;;
lose) lose "$2" ;;
clean)
	down
	for name in "$image:$TAG" "$image-node:$TAG" "$image-prometheus:$TAG" $image-debian $image-debian:packages; do
		! docker image inspect "$name" >/dev/null 2>&1 || docker image rm -f "$name" >/dev/null
	done
	prune
	;;
*)
	sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" >&2
	exit 2
	;;
esac
