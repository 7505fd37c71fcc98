# The build needs Go alone. Every target installs what it needs on Debian and
# Ubuntu as root; services among that are neither enabled nor started.
export PATH := $(CURDIR)/.tools/go/bin:$(PATH)
export GOFLAGS := -buildvcs=false
export CGO_ENABLED := 0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME := 30s
ROUNDS := 50
SEED := 0
ONLY :=
RELEASES :=
PARTS :=
FIRST := 1
SEEDS := 1500
TIME := 0

COMMANDS := ./cmd/redis-is-master ./cmd/redis-is-masterd
BUILD = go build -trimpath -ldflags '-s -w -X redis-is-master/cmd/internal/flags.version=$(VERSION)'

build: deps
	$(BUILD) -o bin/ $(COMMANDS)
	ln -sf redis-is-master bin/redis-is-replica

test: build lint race sim e2e
	go run ./e2e/demo
	@if [ -n "$$CI" ] || docker info >/dev/null 2>&1; then $(MAKE) docker-test; \
	else echo "No Docker engine: the cluster is left out"; go test -count 1 ./docker; fi

race: tools
	CGO_ENABLED=1 go test -race -timeout 40m $$(go list ./... | grep -vE '/(e2e|docker|checker/sentinel/sim)$$')

# Three nodes, their faults, and what may never be.
e2e: lab
	go test -count 1 -timeout 45m -parallel 3 ./e2e

# The lab with each release's own packages; RELEASES= and PARTS= choose among them.
matrix: roots
	go run ./e2e/matrix -only "$(RELEASES)" -part "$(PARTS)" $(if $(RELEASES)$(PARTS),,-readme e2e/README.md)

chaos: lab
	go test -count 1 -timeout 60m -v -run TestChaos ./e2e -rounds $(ROUNDS) -seed $(SEED)

# Histories that no lab can hit: fixed seeds and a new one, or new ones for TIME.
sim: tools
	go test ./checker/sentinel/sim -count 1 -timeout 12h -v -first $(FIRST) -seeds $(SEEDS) -attack $(TIME)

sim-mutants: tools
	go run ./checker/sentinel/sim/mutants

lint: deps
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	go vet ./...
	go tool staticcheck -checks all ./...

# What is known to be vulnerable in what is built; it asks vuln.go.dev.
vuln: deps
	go tool govulncheck ./...

fuzz: deps
	@grep -rEo --include='*_test.go' '^func Fuzz\w+' checker keepalived | while IFS=: read -r file func; do \
		set -x; go test "./$${file%/*}" -run '^$$' -fuzz "^$${func#func }$$" -fuzztime $(FUZZTIME) </dev/null || exit; \
	done

bench: build
	@e2e/deps.sh bench
	go run ./e2e/bench -out e2e -readme README.md -only "$(ONLY)"

guards: lab
	go test ./e2e/guards -v -run 'TestFalseYes|TestTwoYes|TestCutOff|TestSuspended' -count 1 -timeout 60m -runs 10

demo: build lab
	go run ./e2e/demo

man: build
	go run ./cmd/internal/man

package: deps
	VERSION=$(VERSION) cmd/package/package.sh

# What docker/Dockerfile puts into the images; GOARCH says for which machine.
image-files: deps
	rm -rf bin/image bin/node
	mkdir -p bin/image/usr/local/bin bin/image/etc/ssl/certs bin/node/usr/local/bin bin/node/empty
	$(BUILD) -o bin/image/usr/local/bin/ $(COMMANDS)
	ln -s redis-is-master bin/image/usr/local/bin/redis-is-replica
	cp /etc/ssl/certs/ca-certificates.crt bin/image/etc/ssl/certs/
	$(BUILD) -o bin/node/usr/local/bin/ ./docker/client ./docker/observer

docker-images: docker-deps image-files
	VERSION=$(VERSION) docker/cluster.sh images

docker-up docker-demo: docker-images
	docker/cluster.sh $(@:docker-%=%)

docker-down docker-clean:
	docker/cluster.sh $(@:docker-%=%)

docker-test: docker-deps image-files
	VERSION=$(VERSION) go test -count 1 -timeout 15m -v ./docker

deps:
	@e2e/deps.sh

lab:
	@e2e/deps.sh lab

roots:
	@e2e/deps.sh roots

tools:
	@e2e/deps.sh tests

docker-deps:
	@e2e/deps.sh docker

clean:
	@! docker info >/dev/null 2>&1 || docker/cluster.sh clean
	rm -rf bin .tools

.PHONY: build test race sim sim-mutants e2e chaos lint vuln fuzz bench guards demo man package deps lab tools clean \
	image-files docker-images docker-up docker-demo docker-down docker-clean docker-test docker-deps
