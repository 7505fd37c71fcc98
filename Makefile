# Every target installs what it needs on Debian and Ubuntu as root.
export PATH := $(CURDIR)/.tools/go/bin:$(PATH)
export GOFLAGS := -buildvcs=false
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME := 30s

build: deps
	CGO_ENABLED=0 go build -trimpath -ldflags '-X redis-is-master/cmd/internal/flags.version=$(VERSION)' -o bin/ ./cmd/...
	ln -sf redis-is-master bin/redis-is-replica

test: build lint race
	CGO_ENABLED=0 go run ./e2e/demo

race: deps
	go test -race -timeout 20m ./...

lint: deps
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	go vet ./...
	go run $(STATICCHECK) -checks all ./...

fuzz: deps
	go test ./checker -run '^$$' -fuzz FuzzParseInfo -fuzztime $(FUZZTIME)
	go test ./checker -run '^$$' -fuzz FuzzDecode -fuzztime $(FUZZTIME)

bench: build
	CGO_ENABLED=0 go run ./e2e/bench

demo: build
	CGO_ENABLED=0 go run ./e2e/demo

deps:
	@e2e/deps.sh

clean:
	rm -rf bin .tools

.PHONY: build test race lint fuzz bench demo deps clean
