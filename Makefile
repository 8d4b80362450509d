# Everything is built into bin/, static. Each target installs what it needs by itself (apt packages by
# name, Go modules), as root on Debian or Ubuntu.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
PREFIX  ?= /usr/local
LDFLAGS = -s -w -X main.version=$(VERSION)
# An entry point that has the command line's pages mapped at once (internal/mapped).
LDFLAGS_CLI = $(LDFLAGS) -E=berth_mapped_entry
# One more, that makes the runtime run from a file that nobody can write to (runtime/sealed); without it the same
# happens in Go, for the price of a second start.
LDFLAGS_RUNTIME = $(LDFLAGS) -E=berth_sealed_entry
PROGRAMS = berth berthd berth-runtime
# The version is pinned: another one finds other things.
GOLANGCI = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# One set of flags for everything that compiles, so that build, vet, lint and tests share the build cache.
export CGO_ENABLED = 0
export GOFLAGS = -trimpath -buildvcs=false

.PHONY: all build build-arm64 install uninstall test test-all lint bench demo clean tools

all: build

build:
	@mkdir -p bin
	go build -ldflags "$(LDFLAGS_CLI)" -o bin/ ./cmd/berth
	go build -ldflags "$(LDFLAGS)" -o bin/ ./cmd/berthd
	go build -ldflags "$(LDFLAGS_RUNTIME)" -o bin/ ./cmd/berth-runtime

# Nothing of arm64 can be run here; it is compiled and vetted.
build-arm64:
	@mkdir -p out/arm64
	GOARCH=arm64 go build -ldflags "$(LDFLAGS_CLI)" -o out/arm64/ ./cmd/berth
	GOARCH=arm64 go build -ldflags "$(LDFLAGS)" -o out/arm64/ ./cmd/berthd
	GOARCH=arm64 go build -ldflags "$(LDFLAGS_RUNTIME)" -o out/arm64/ ./cmd/berth-runtime
	GOARCH=arm64 go vet ./cmd/berth-runtime ./cmd/berth ./runtime/...

install: build
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(PROGRAMS:%=bin/%)
	install -d $(DESTDIR)/etc/systemd/system
	sed 's|@BINDIR@|$(PREFIX)/bin|g' docs/systemd/berth.service.in > $(DESTDIR)/etc/systemd/system/berth.service
	sed 's|@BINDIR@|$(PREFIX)/bin|g' docs/systemd/berth-shutdown.service.in > $(DESTDIR)/etc/systemd/system/berth-shutdown.service
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	bin/berth completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/berth
	bin/berth completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_berth
	bin/berth completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/berth.fish

uninstall:
	rm -f $(PROGRAMS:%=$(DESTDIR)$(PREFIX)/bin/%) $(DESTDIR)/etc/systemd/system/berth.service $(DESTDIR)/etc/systemd/system/berth-shutdown.service
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/berth $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_berth $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/berth.fish

tools:
	test/packages.sh

# Unit and end-to-end tests, as root: real namespaces, mounts, networks.
test: tools build
	test/run.sh

# The same, and the story and the storage contract on every other storage form and forced fallback.
test-all: tools build
	test/run.sh all

lint:
	go vet ./...
	go run $(GOLANGCI) run

bench: tools build
	test/bench/bench.sh

demo: build
	test/demo/demo.sh

clean:
	rm -rf bin out
