package sagatest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mainstay-go/mainstay/saga"
)

// point is a place of a run where a fault can be put: the nth durable write, the
// nth claim that finds the saga, or the nth call of a step's action or compensation.
type point struct {
	step  string // empty: a write or a claim
	op    saga.Op
	claim bool
	n     int // from 1
}

func (p point) String() string {
	switch {
	case p.claim:
		return fmt.Sprintf("claim#%d", p.n)
	case p.step == "":
		return fmt.Sprintf("write#%d", p.n)
	}
	return fmt.Sprintf("%s.%s#%d", p.step, p.op, p.n)
}

func parsePoint(s string) (point, bool) {
	name, number, ok := strings.Cut(s, "#")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 1 {
		return point{}, false
	}
	if name == "write" || name == "claim" {
		return point{claim: name == "claim", n: n}, true
	}
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 {
		return point{}, false
	}
	var op saga.Op
	if err := op.UnmarshalText([]byte(name[dot+1:])); err != nil || op == 0 {
		return point{}, false
	}
	return point{step: name[:dot], op: op, n: n}, true
}

// kind is what happens at a point.
type kind string

const (
	// At writes; the second and the fourth also at claims.
	crashBefore kind = "crash-before" // the process ends, and nothing was written
	crashAfter  kind = "crash-after"  // the process ends, and the write is durable
	storeFails  kind = "store-fails"  // an error, and nothing was written
	answerLost  kind = "answer-lost"  // an error, and the write is durable
	zombie      kind = "zombie"       // the runner stops here until another has finished its sagas
	cutOff      kind = "cut-off"      // the runner's link ends while the saga waits for its turn, until another has finished it
	// At calls.
	reject         kind = "reject"           // a rejection at every call from here on, without effect
	failsBefore    kind = "fails-before"     // an error once, without effect
	failsAfter     kind = "fails-after"      // an error once, with the effect
	unknownNotDone kind = "unknown-not-done" // an error at every call from here on, without effect
	unknownDone    kind = "unknown-done"     // an error at every call from here on, with the effect
	duplicate      kind = "duplicate"        // the effect happens twice
)

var (
	writeKinds = []kind{crashBefore, crashAfter, storeFails, answerLost, zombie, cutOff}
	claimKinds = []kind{crashAfter, answerLost}
	callKinds  = []kind{failsBefore, failsAfter, unknownNotDone, unknownDone, duplicate}
)

// neutral reports whether a fault must not change how the saga ends.
func (k kind) neutral() bool {
	return slices.Contains(writeKinds, k) || k == duplicate
}

// fault is a kind at a point.
type fault struct {
	kind kind
	at   point
}

func (f fault) String() string { return string(f.kind) + ":" + f.at.String() }

// schedule is the faults of one run.
type schedule []fault

func (s schedule) String() string {
	parts := make([]string, len(s))
	for i, f := range s {
		parts[i] = f.String()
	}
	return strings.Join(parts, " ")
}

// parseSchedule reads what String writes.
func parseSchedule(text string) (schedule, error) {
	var s schedule
	for part := range strings.FieldsSeq(text) {
		k, at, _ := strings.Cut(part, ":")
		p, ok := parsePoint(at)
		kinds := append([]kind{reject}, callKinds...)
		switch {
		case p.claim:
			kinds = claimKinds
		case p.step == "":
			kinds = writeKinds
		}
		if !ok || !slices.Contains(kinds, kind(k)) {
			return nil, fmt.Errorf("sagatest: %q is not a fault; want one like %q or %q",
				part, fault{crashAfter, point{n: 2}}, fault{failsAfter, point{step: "hotel", op: saga.Action, n: 1}})
		}
		s = append(s, fault{kind(k), p})
	}
	return s, nil
}

// faultsAt lists what can happen at a point.
func faultsAt(p point, rejectable map[string]bool) []fault {
	var out []fault
	add := func(k kind) { out = append(out, fault{k, p}) }
	if p.claim {
		for _, k := range claimKinds {
			add(k)
		}
		return out
	}
	if p.step == "" {
		for _, k := range writeKinds {
			if k != zombie || p.n > 1 { // who creates is not a runner yet
				add(k)
			}
		}
		return out
	}
	if p.op == saga.Action && p.n == 1 && rejectable[p.step] {
		add(reject)
	}
	for _, k := range callKinds {
		add(k)
	}
	return out
}
