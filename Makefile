# make             lint and test, with nothing installed but Go
# make integration the real servers, every test with -race, what was used and what was skipped
# make soak        the long forms: chaos counts, calibration, fuzzing, mutation testing
# make proof       clients side by side through the same faults: who loses what
# make ci          what CI runs
# Tools are pinned here, outside go.mod, and live in .tmp/bin.

GOLANGCI_VERSION := v2.15.0
BIN              := $(CURDIR)/.tmp/bin
GOLANGCI         := $(BIN)/golangci-lint-$(GOLANGCI_VERSION)
GREMLINS_VERSION := v0.6.0
GREMLINS         := $(BIN)/gremlins-$(GREMLINS_VERSION)
MUTANTS          ?= concurrency drift
SERVICES         ?= kafka rabbitmq redis postgres
FUZZTIME         ?= 500000x

.PHONY: all test lint layers tidy 32bit consumer conform integration soak fuzz mutants bench overload bench-packages proof ci clean
.DELETE_ON_ERROR:

all: lint test

test:
	go test ./...

lint: $(GOLANGCI)
	$(GOLANGCI) run --allow-parallel-runners ./...
	cd conform && $(GOLANGCI) run --allow-parallel-runners --config ../.golangci.yml ./...
	cd bench && $(GOLANGCI) run --allow-parallel-runners --config ../.golangci.yml ./...

$(GOLANGCI):
	GOBIN=$(BIN) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(BIN)/golangci-lint $@

# The test cache does not see what go list reads.
layers:
	go test -count=1 ./internal/layers

tidy:
	go mod tidy -diff
	cd conform && go mod tidy -diff
	cd bench && go mod tidy -diff

# Counts that 64 bits hold and 32 do not. The streams of the Examples depend on the
# last bit of a logarithm, which is another one there.
32bit:
	GOARCH=386 go build ./...
	GOARCH=386 go test -short -run '^Test' ./drift

# A module of its own imports every package, as a user's does.
consumer:
	scripts/consumer

conform:
	cd conform && go test -race ./...

integration:
	SERVICES="$(SERVICES)" scripts/integration

soak:
	MAINSTAY_SOAK=1 SERVICES="$(SERVICES)" scripts/integration
	$(MAKE) fuzz mutants

# Guards taken out one at a time: what no test notices must be listed in the
# package's testdata/mutants.txt with the reason why it may be. Minutes for
# concurrency, a quarter of an hour for drift, on two cores.
mutants: $(GREMLINS)
	for p in $(MUTANTS); do scripts/mutants $$p || exit 1; done

$(GREMLINS):
	GOBIN=$(BIN) go install github.com/go-gremlins/gremlins/cmd/gremlins@$(GREMLINS_VERSION)
	mv $(BIN)/gremlins $@

# Every fuzz target, FUZZTIME: a count of runs.
fuzz:
	FUZZTIME=$(FUZZTIME) scripts/fuzz

# Beside the libraries people use today, with the goals and whether they are
# met: BENCH='-run stream -rounds 40' for a part, or longer.
bench:
	cd bench && go run . $(BENCH)

# Raw clients, Watermill and Mainstay through the same kills, cuts and
# rebalances on brokers of their own: PROOF=-long for 25 minutes of it.
proof:
	cd bench && go run ./proof $(PROOF)

# Limiters in front of a callee that gets too much, in virtual time:
# OVERLOAD='-seeds 1 -run Admission' for a part.
overload:
	cd bench && go run ./overload $(OVERLOAD)

# Each package alone, for benchstat.
bench-packages:
	go test -run '^$$' -bench . -benchmem -count 8 ./concurrency ./drift ./mlserve ./mlserve/gbdt ./featurestore

ci:
	.ci/run

clean:
	rm -rf .tmp
	scripts/services stop --delete
