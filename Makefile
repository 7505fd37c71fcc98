# Every target installs what it needs on Debian and Ubuntu as root.
export PATH := $(CURDIR)/.tools/go/bin:$(PATH)
export GOFLAGS := -buildvcs=false
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME := 30s
ROUNDS := 50
SEED := 0

BUILD = CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X redis-is-master/cmd/internal/flags.version=$(VERSION)'

build: deps
	$(BUILD) -o bin/ ./cmd/...
	ln -sf redis-is-master bin/redis-is-replica

test: build lint race e2e
	CGO_ENABLED=0 go run ./e2e/demo
	@if [ -n "$$CI" ] || docker info >/dev/null 2>&1; then $(MAKE) docker-test; else echo "No Docker engine: docker-test is left out"; fi

race: tools
	go test -race -timeout 20m $$(go list ./... | grep -vE '/(e2e|docker)$$')

# Three nodes, their faults, and what may never be.
e2e: deps
	go test -count 1 -timeout 30m -parallel 3 ./e2e

chaos: deps
	go test -count 1 -timeout 60m -v -run TestChaos ./e2e -rounds $(ROUNDS) -seed $(SEED)

lint: deps
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	go vet ./...
	go run $(STATICCHECK) -checks all ./...

fuzz: deps
	go test ./checker -run '^$$' -fuzz FuzzParseInfo -fuzztime $(FUZZTIME)
	go test ./checker -run '^$$' -fuzz FuzzDecode -fuzztime $(FUZZTIME)
	go test ./checker -run '^$$' -fuzz FuzzGuard -fuzztime $(FUZZTIME)
	go test ./keepalived -run '^$$' -fuzz FuzzLint -fuzztime $(FUZZTIME)

bench: build
	@e2e/deps.sh bench
	CGO_ENABLED=0 go run ./e2e/bench -out e2e -readme README.md

guards: deps
	go test ./e2e/guards -v -run TestFalseYes -count 1 -timeout 30m -runs 10

demo: build
	CGO_ENABLED=0 go run ./e2e/demo

man: build
	CGO_ENABLED=0 go run ./e2e/man

package: deps
	VERSION=$(VERSION) cmd/package.sh

# What docker/Dockerfile puts into the images; GOARCH says for which machine.
image-files: deps
	rm -rf bin/image bin/node
	mkdir -p bin/image/usr/local/bin bin/image/etc/ssl/certs bin/node/usr/local/bin bin/node/empty
	$(BUILD) -o bin/image/usr/local/bin/ ./cmd/...
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

tools:
	@e2e/deps.sh tests

docker-deps:
	@e2e/deps.sh docker

clean:
	@! docker info >/dev/null 2>&1 || docker/cluster.sh clean
	rm -rf bin .tools

.PHONY: build test race e2e chaos lint fuzz bench guards demo man package deps tools clean \
	image-files docker-images docker-up docker-demo docker-down docker-clean docker-test docker-deps
