package idempotencytest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/idempotency"
)

// mutant is a store with one fault, and a rule that must notice it.
type mutant struct {
	noticedBy string
	store     func() idempotency.Store
}

// wrapped is a memory store whose methods can be replaced one by one.
type wrapped struct {
	idempotency.Store

	begin    func(context.Context, idempotency.Claim) (idempotency.Outcome, error)
	renew    func(context.Context, idempotency.Token, time.Duration) error
	complete func(context.Context, idempotency.Token, []byte, time.Duration) error
	abort    func(context.Context, idempotency.Token) error
}

func (w *wrapped) Begin(ctx context.Context, c idempotency.Claim) (idempotency.Outcome, error) {
	if w.begin != nil {
		return w.begin(ctx, c)
	}
	return w.Store.Begin(ctx, c)
}

func (w *wrapped) Renew(ctx context.Context, t idempotency.Token, lease time.Duration) error {
	if w.renew != nil {
		return w.renew(ctx, t, lease)
	}
	return w.Store.Renew(ctx, t, lease)
}

func (w *wrapped) Complete(ctx context.Context, t idempotency.Token, result []byte, ttl time.Duration) error {
	if w.complete != nil {
		return w.complete(ctx, t, result, ttl)
	}
	return w.Store.Complete(ctx, t, result, ttl)
}

func (w *wrapped) Abort(ctx context.Context, t idempotency.Token) error {
	if w.abort != nil {
		return w.abort(ctx, t)
	}
	return w.Store.Abort(ctx, t)
}

func faulty(fault func(w *wrapped)) func() idempotency.Store {
	return func() idempotency.Store {
		w := &wrapped{Store: idempotency.NewMemoryStore(1000)}
		fault(w)
		return w
	}
}

// claims is a store that changes the claims, and the outcomes of Begin.
func claims(change func(c *idempotency.Claim, out func() *idempotency.Outcome)) func() idempotency.Store {
	return faulty(func(w *wrapped) {
		w.begin = func(ctx context.Context, c idempotency.Claim) (idempotency.Outcome, error) {
			var (
				out    idempotency.Outcome
				err    error
				called bool
			)
			call := func() *idempotency.Outcome {
				if !called {
					out, err = w.Store.Begin(ctx, c)
					called = true
				}
				return &out
			}
			change(&c, call)
			call()
			return out, err
		}
	})
}

var mutants = map[string]mutant{
	"attempts are not counted": {"Abort", claims(func(_ *idempotency.Claim, out func() *idempotency.Outcome) {
		out().Attempt = min(out().Attempt, 1)
	})},
	"leases hardly end":        {"LeaseEnds", claims(func(c *idempotency.Claim, _ func() *idempotency.Outcome) { c.Lease *= 10_000 })},
	"leases are half as long":  {"LeaseEnds", claims(func(c *idempotency.Claim, _ func() *idempotency.Outcome) { c.Lease /= 2 })},
	"claim fences are ignored": {"ClaimFence", claims(func(c *idempotency.Claim, _ func() *idempotency.Outcome) { c.Fence = 0 })},
	"fingerprints are ignored": {"Mismatch", claims(func(c *idempotency.Claim, _ func() *idempotency.Outcome) {
		c.Key.Fingerprint = idempotency.Fingerprint{}
	})},
	"scopes are ignored":   {"KeysApart", claims(func(c *idempotency.Claim, _ func() *idempotency.Outcome) { c.Key.Scope = "kit" })},
	"claims are not kept":  {"UnfinishedTTL", claims(func(c *idempotency.Claim, _ func() *idempotency.Outcome) { c.TTL = 0 })},
	"results are not kept": {"Done", claims(func(_ *idempotency.Claim, out func() *idempotency.Outcome) { out().Result = nil })},
	"results are shared": {"ResultIsCopied", func() idempotency.Store {
		var shared []byte
		w := &wrapped{Store: idempotency.NewMemoryStore(1000)}
		w.complete = func(ctx context.Context, t idempotency.Token, result []byte, ttl time.Duration) error {
			shared = result
			return w.Store.Complete(ctx, t, result, ttl)
		}
		w.begin = func(ctx context.Context, c idempotency.Claim) (idempotency.Outcome, error) {
			out, err := w.Store.Begin(ctx, c)
			if out.State == idempotency.Done {
				out.Result = shared
			}
			return out, err
		}
		return w
	}},
	"renewal does nothing": {"Renew", faulty(func(w *wrapped) {
		w.renew = func(context.Context, idempotency.Token, time.Duration) error { return nil }
	})},
	"stale results are swallowed": {"StaleToken", faulty(func(w *wrapped) {
		w.complete = func(ctx context.Context, t idempotency.Token, result []byte, ttl time.Duration) error {
			if err := w.Store.Complete(ctx, t, result, ttl); !errors.Is(err, idempotency.ErrStale) {
				return err
			}
			return nil
		}
	})},
	"giving back is left to the lease": {"Abort", faulty(func(w *wrapped) {
		w.abort = func(context.Context, idempotency.Token) error { return nil }
	})},
	"saying it twice is an error": {"Twice", faulty(func(w *wrapped) {
		said := map[idempotency.Token]bool{}
		w.abort = func(ctx context.Context, t idempotency.Token) error {
			if said[t] {
				return idempotency.ErrStale
			}
			said[t] = true
			return w.Store.Abort(ctx, t)
		}
	})},
	"results last for ever": {"TTL", faulty(func(w *wrapped) {
		w.complete = func(ctx context.Context, t idempotency.Token, result []byte, _ time.Duration) error {
			return w.Store.Complete(ctx, t, result, 1000*time.Hour)
		}
	})},
	"the longest lease is over at once": {"Forever", faulty(func(w *wrapped) {
		w.renew = func(ctx context.Context, t idempotency.Token, lease time.Duration) error {
			if lease += time.Millisecond; lease <= 0 { // what rounding up makes of it
				return w.Abort(ctx, t)
			}
			return w.Store.Renew(ctx, t, lease)
		}
	})},
	"fences are used again": {"TTL", claims(func(_ *idempotency.Claim, out func() *idempotency.Outcome) {
		if o := out(); o.State == idempotency.Acquired {
			o.Token.Fence = int64(o.Attempt)
		}
	})},
	"contexts are ignored": {"Cancelled", faulty(func(w *wrapped) {
		w.abort = func(ctx context.Context, t idempotency.Token) error {
			return w.Store.Abort(context.WithoutCancel(ctx), t)
		}
	})},
	"two may win": {"ConcurrentBegin", func() idempotency.Store {
		w := &wrapped{Store: idempotency.NewMemoryStore(1000)}
		w.begin = func(ctx context.Context, c idempotency.Claim) (idempotency.Outcome, error) {
			out, err := w.Store.Begin(ctx, c)
			if out.State == idempotency.InProgress && out.Attempt == 1 && c.Lease == long && c.Key.ID > "c" {
				out.State = idempotency.Acquired
			}
			return out, err
		}
		return w
	}},
}

const mutantVariable = "IDEMPOTENCYTEST_MUTANT"

// TestMutants runs the kit on each faulty store in a process of its own, as a
// kit that does its work fails its test, and looks for the rule that must have
// failed.
func TestMutants(t *testing.T) {
	if name := os.Getenv(mutantVariable); name != "" {
		checkAll(t, mutants[name].store)
		return
	}
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMutants$", "-test.timeout=1m")
			cmd.Env = append(os.Environ(), mutantVariable+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("the kit passed a store in which %s", name)
			}
			if want := "--- FAIL: TestMutants/" + m.noticedBy + " "; !strings.Contains(string(out), want) {
				t.Fatalf("rule %s did not notice that %s:\n%s", m.noticedBy, name, out)
			}
		})
	}
}

// TestNoMutant is the check of TestMutants' own machinery: without a fault, the
// wrapped store passes.
func TestNoMutant(t *testing.T) {
	checkAll(t, faulty(func(*wrapped) {}))
}

func checkAll(t *testing.T, store func() idempotency.Store) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { r.check(&kit{T: t, rule: r.text, store: store()}) })
		})
	}
}
