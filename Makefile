# swarmfs: `make demo` shows it at work, `make test` proves it.
# On Debian, as root, what is missing is installed (see .ci/setup.sh);
# otherwise one line says what to install.

GO       ?= go
FUZZTIME ?= 20s
# Of each benchmark on real mounts: how often it is measured. SWARMFS_BENCH_MIB
# is the size of the large file.
ROUNDS   ?= 1
SEEDS    ?= 500
KILLS    ?= 1000
# Packages without sockets or mounts of their own: quick under the race detector.
PURE      = ./metainfo/... ./swarm/wire/... ./swarm/engine/... ./swarm/tracker/...

.PHONY: demo test sim crash flips check race race-pure fuzz bench build install-tools integration clean

demo:                    ## make a video, share it, mount it, play it, copy it out
	@.ci/setup.sh demo
	@GO="$(GO)" .ci/demo.sh

test:                    ## all tests, with real clients, a real kernel and real mounts
	@.ci/setup.sh test
	$(GO) test -timeout 30m ./...

sim:                     ## SEEDS random players in simulated swarms beside an omniscient scheduler; fails on goals not reached yet
	$(GO) test ./swarm -count=1 -timeout 30m -run 'TestSim$$|TestLab|TestRealPrograms' -seeds=$(SEEDS)

flips:                   ## 10,000 flipped bits in stored pieces and records, ten minutes and more
	$(GO) test ./cache -count=1 -timeout 60m -v -run TestFlippedBits -flips=10000

crash:                   ## KILLS processes killed in process, an eighth as many mounts, and the value log cut every 4 KiB
	@.ci/setup.sh test
	$(GO) test ./cache -count=1 -timeout 60m -v -run 'TestKilledWriter|TestLogThatIsCut' -kills=$(KILLS) -cuts=0
	$(GO) test ./integration -count=1 -timeout 60m -v -run TestAMountKilled -mountkills=$$(( $(KILLS) / 8 ))

integration:             ## only the tests with real clients, one line each
	@.ci/setup.sh test
	$(GO) test -count=1 -timeout 30m -v ./integration

check: install-tools     ## formatting, vet, staticcheck, who may import whom
	@out=$$(bin/gofumpt -l .); if [ -n "$$out" ]; then echo "not formatted by gofumpt:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	bin/staticcheck ./...
	$(GO) test -short -count=1 ./integration

race:                    ## unit tests of every package under the race detector
	@.ci/setup.sh race
	$(GO) test -race -short -timeout 30m ./...

race-pure:
	@.ci/setup.sh race
	$(GO) test -race -short -timeout 30m $(PURE)

fuzz:                    ## every fuzz target for FUZZTIME
	@GO="$(GO)" .ci/fuzz.sh $(FUZZTIME)

bench:                   ## Go benchmarks with allocations, then those of the command on real mounts
	@.ci/setup.sh test
	$(GO) test -run '^$$' -bench . -benchmem $$($(GO) list ./... | grep -v /integration$$)
	$(GO) test -run '^$$' -bench Mount -benchtime $(ROUNDS)x -timeout 60m ./integration

build:                   ## bin/swarmfs
	$(GO) build -o bin/swarmfs ./cmd/swarmfs

install-tools:           ## bin/gofumpt and bin/staticcheck, at the versions of .ci/tools/go.mod
	@mkdir -p bin
	@cd .ci/tools && $(GO) build -o ../../bin/ mvdan.cc/gofumpt honnef.co/go/tools/cmd/staticcheck

clean:
	rm -rf bin
