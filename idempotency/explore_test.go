package idempotency

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// This file explores every interleaving of two actions and two compensations of
// one step that use the store as a barrier: a compensation takes the action's
// key before it undoes. Any of them may crash anywhere, an action may fail
// before or after its effect has landed, and leases end at any time. What must
// hold: once a compensation has finished, no effect is left, and none comes.

const exploreLease = time.Minute

var (
	actionKey = Key{Scope: "saga/7/charge", ID: "action"}
	undoKey   = Key{Scope: "saga/7/charge", ID: "compensation"}
)

// barrierRules are the parts of the rule that can be left out, to see that the
// exploration notices.
type barrierRules struct {
	ignoreAttempts bool // a compensation takes every free key for one that never began
	ignoreLeases   bool // who holds a key goes on when its lease has ended
	skipActionKey  bool // a compensation undoes without taking the action's key
}

// participant is an action or a compensation; at is what it does next.
type participant struct {
	compensates bool
	at          string // begin, effect, complete, abort, over; undo… for a compensation's second key
	token       Token
	result      string // to complete with
	finished    bool   // a compensation that said it was done
}

type barrierWorld struct {
	ctx          context.Context
	rules        barrierRules
	store        *MemoryStore
	participants [4]participant
	effects      string // d for do, u for undo, F for a compensation that finished
	schedule     []string
	fault        error
}

func newBarrierWorld(ctx context.Context, rules barrierRules) *barrierWorld {
	w := &barrierWorld{ctx: ctx, rules: rules, store: NewMemoryStore(10)}
	for i := range w.participants {
		w.participants[i] = participant{compensates: i >= 2, at: "begin"}
	}
	return w
}

// choices are what can happen next.
func (w *barrierWorld) choices() []string {
	var out []string
	holders := false
	for i, p := range w.participants {
		name := fmt.Sprintf("%s %d ", map[bool]string{false: "action", true: "compensation"}[p.compensates], i%2+1)
		switch p.at {
		case "over":
			continue
		case "begin", "undo begin":
			out = append(out, name+p.at)
			continue
		case "effect":
			out = append(out, name+"lands", name+"lands and fails", name+"fails")
		default:
			out = append(out, name+p.at)
		}
		out = append(out, name+"crashes")
		holders = true
	}
	if holders || w.held(actionKey) || w.held(undoKey) {
		out = append(out, "leases end")
	}
	return out
}

func (w *barrierWorld) held(k Key) bool {
	r := w.store.find(identify(k), time.Since(w.store.epoch))
	return r != nil && r.phase == held && time.Since(w.store.epoch) < r.lease
}

func (w *barrierWorld) apply(choice string) {
	w.schedule = append(w.schedule, choice)
	if choice == "leases end" {
		time.Sleep(exploreLease)
		for i := range w.participants {
			if p := &w.participants[i]; p.at != "begin" && p.at != "undo begin" && !w.rules.ignoreLeases {
				p.at = "over" // a timeout shorter than the lease stopped it
			}
		}
		return
	}
	who, rest, _ := strings.Cut(choice, " ")
	number, what, _ := strings.Cut(rest, " ")
	i := int(number[0] - '1')
	if who == "compensation" {
		i += 2
	}
	p := &w.participants[i]
	switch {
	case what == "crashes":
		p.at = "over"
	case p.compensates:
		w.compensate(p)
	default:
		w.act(p, what)
	}
	w.check()
}

func (w *barrierWorld) begin(k Key) Outcome {
	out, err := w.store.Begin(w.ctx, Claim{Key: k, Lease: exploreLease, TTL: 1000 * exploreLease})
	if err != nil {
		w.fault = err
	}
	return out
}

func (w *barrierWorld) settle(err error) bool {
	if err != nil && !errors.Is(err, ErrStale) {
		w.fault = err
	}
	return err == nil
}

func (w *barrierWorld) act(p *participant, what string) {
	switch p.at {
	case "begin":
		out := w.begin(actionKey)
		p.at, p.token = "over", out.Token
		if out.State == Acquired {
			p.at = "effect"
		}
	case "effect":
		if strings.HasPrefix(what, "lands") {
			w.effects += "d"
		}
		p.at = "complete"
		if strings.HasSuffix(what, "fails") {
			p.at = "abort"
		}
	case "complete":
		w.settle(w.store.Complete(w.ctx, p.token, []byte("did"), 1000*exploreLease))
		p.at = "over"
	case "abort":
		w.settle(w.store.Abort(w.ctx, p.token))
		p.at = "over"
	}
}

func (w *barrierWorld) compensate(p *participant) {
	switch p.at {
	case "begin":
		p.at = "undo begin"
		if w.rules.skipActionKey {
			return
		}
		out := w.begin(actionKey)
		switch {
		case out.State == InProgress:
			p.at = "over" // comes again later
		case out.State == Done && string(out.Result) == "never did":
			w.finish(p)
		case out.State == Acquired:
			p.at, p.token, p.result = "complete", out.Token, "may have done"
			if out.Attempt == 1 || w.rules.ignoreAttempts {
				p.result = "never did"
			}
		}
	case "complete":
		recorded := w.settle(w.store.Complete(w.ctx, p.token, []byte(p.result), 1000*exploreLease))
		switch {
		case !recorded:
			p.at = "over"
		case p.result == "never did":
			w.finish(p)
		default:
			p.at = "undo begin"
		}
	case "undo begin":
		out := w.begin(undoKey)
		p.at, p.token = "over", out.Token
		switch out.State {
		case Done:
			w.finish(p)
		case Acquired:
			p.at = "undo effect"
		}
	case "undo effect":
		w.effects += "u"
		p.at = "undo complete"
	case "undo complete":
		p.at = "over"
		if w.settle(w.store.Complete(w.ctx, p.token, nil, 1000*exploreLease)) {
			w.finish(p)
		}
	}
}

func (w *barrierWorld) finish(p *participant) {
	p.at, p.finished = "over", true
	w.effects += "F"
}

func (w *barrierWorld) check() {
	end := strings.IndexByte(w.effects, 'F')
	switch {
	case w.fault != nil || end < 0:
	case strings.Contains(w.effects[end:], "d"):
		w.fault = errors.New("an effect landed after the compensation had finished")
	case strings.LastIndexByte(w.effects[:end], 'd') > strings.LastIndexByte(w.effects[:end], 'u'):
		w.fault = errors.New("the compensation finished and an effect is left")
	}
}

// state is all that decides what can happen from here.
func (w *barrierWorld) state() string {
	var b strings.Builder
	for _, p := range w.participants {
		fmt.Fprintf(&b, "%s %s %v;", p.at, p.result, p.finished)
	}
	// Of the effects, only their order at the end and around F matters.
	fmt.Fprintf(&b, "%s;", strings.ReplaceAll(strings.ReplaceAll(w.effects, "dd", "d"), "uu", "u"))
	for _, k := range []Key{actionKey, undoKey} {
		r := w.store.find(identify(k), time.Since(w.store.epoch))
		if r == nil {
			b.WriteString("none;")
			continue
		}
		holder := slices.IndexFunc(w.participants[:], func(p participant) bool { return p.token.Fence == r.fence })
		fmt.Fprintf(&b, "%d %d %v %d %s;", r.phase, r.attempts, w.held(k), holder, r.result())
	}
	return b.String()
}

// explore visits every reachable state, the nearest first, and returns the
// number visited and the world with the shortest faulty schedule, if any.
func explore(ctx context.Context, rules barrierRules) (int, *barrierWorld) {
	seen := map[string]bool{}
	for queue := [][]string{nil}; len(queue) > 0; queue = queue[1:] {
		from := newBarrierWorld(ctx, rules)
		for _, choice := range queue[0] {
			from.apply(choice)
		}
		for _, choice := range from.choices() {
			w := newBarrierWorld(ctx, rules)
			for _, earlier := range queue[0] {
				w.apply(earlier)
			}
			w.apply(choice)
			if w.fault != nil {
				return len(seen), w
			}
			if s := w.state(); !seen[s] {
				seen[s] = true
				queue = append(queue, w.schedule)
			}
		}
	}
	return len(seen), nil
}

func TestBarrierHoldsInEveryInterleaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		states, faulty := explore(t.Context(), barrierRules{})
		t.Logf("%d states", states)
		if faulty != nil {
			t.Fatalf("%v:\n%s", faulty.fault, strings.Join(faulty.schedule, "\n"))
		}
		require.Greater(t, states, 1000, "the exploration stopped early")
	})
}

// Each part of the rule is needed: without it, the exploration finds a loss.
func TestBarrierNeedsItsRules(t *testing.T) {
	for name, rules := range map[string]barrierRules{
		"the count of attempts": {ignoreAttempts: true},
		"the end of leases":     {ignoreLeases: true},
		"the action's key":      {skipActionKey: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, faulty := explore(t.Context(), rules)
				require.NotNil(t, faulty, "no schedule shows the need for it")
				t.Logf("%v: %s", faulty.fault, strings.Join(faulty.schedule, ", "))
			})
		})
	}
}
