package idempotency

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// modelRecord is what the model knows of one key. The model is the text of
// Store as a map and a clock, without digests, heaps or sweeps.
type modelRecord struct {
	phase       string // held, free, done
	fence, seen int64
	attempts    int
	fingerprint Fingerprint
	result      []byte
	lease       time.Time
	expires     time.Time
}

// TestMemoryStoreModel drives the store and the model with the same random
// calls, with time passing between them, and compares every answer.
func TestMemoryStoreModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) { // TB: a bubble forbids Deadline
			m := &model{T: t, store: NewMemoryStore(100), records: map[string]*modelRecord{}}
			t.Repeat(map[string]func(*rapid.T){
				"begin":    func(*rapid.T) { m.begin() },
				"renew":    func(*rapid.T) { m.renew() },
				"complete": func(*rapid.T) { m.complete() },
				"abort":    func(*rapid.T) { m.abort() },
				"pass":     func(*rapid.T) { time.Sleep(m.duration("pass")) },
			})
		})
	})
}

type model struct {
	*rapid.T

	store   *MemoryStore
	records map[string]*modelRecord
	tokens  []Token
	highest int64
}

func (m *model) duration(label string) time.Duration {
	return time.Duration(rapid.IntRange(1, 8).Draw(m.T, label)) * time.Second
}

// find returns the record of a key that is not forgotten.
func (m *model) find(id string) *modelRecord {
	r := m.records[id]
	if r != nil && !time.Now().Before(r.expires) {
		delete(m.records, id)
		return nil
	}
	return r
}

func (m *model) begin() {
	var prints [3]Fingerprint // none, one, another
	prints[1], prints[2] = Sum([]byte("one")), Sum([]byte("another"))
	c := Claim{
		Key:   Key{Scope: "s", ID: rapid.SampledFrom([]string{"a", "b"}).Draw(m.T, "id")},
		Lease: m.duration("lease"),
		TTL:   3 * m.duration("ttl"),
		Fence: rapid.Int64Range(0, 3).Draw(m.T, "fence"),
	}
	c.Key.Fingerprint = rapid.SampledFrom(prints[:]).Draw(m.T, "fingerprint")
	out, err := m.store.Begin(m.Context(), c)

	now, r := time.Now(), m.find(c.Key.ID)
	if r == nil {
		r = &modelRecord{phase: "free"}
		m.records[c.Key.ID] = r
	}
	differs := r.fingerprint != prints[0] && c.Key.Fingerprint != prints[0] && r.fingerprint != c.Key.Fingerprint
	want := Outcome{}
	switch {
	case c.Fence < r.seen:
		if !errors.Is(err, ErrStale) {
			m.Fatalf("claim fence %d below %d: got %+v, %v", c.Fence, r.seen, out, err)
		}
		return
	case differs:
		want.State = Mismatch
	case r.phase == "done":
		want = Outcome{State: Done, Attempt: r.attempts, Result: r.result}
	case r.phase == "held" && now.Before(r.lease):
		want = Outcome{State: InProgress, Attempt: r.attempts, Until: r.lease}
	default:
		r.attempts++
		r.phase, r.lease, r.expires = "held", now.Add(c.Lease), now.Add(max(c.TTL, c.Lease))
		if c.Key.Fingerprint != prints[0] {
			r.fingerprint = c.Key.Fingerprint
		}
		want = Outcome{State: Acquired, Attempt: r.attempts, Until: r.lease}
		r.fence = out.Token.Fence
		if out.Token.Key != c.Key || out.Token.Fence <= m.highest {
			m.Fatalf("token %+v after fence %d", out.Token, m.highest)
		}
		m.highest = out.Token.Fence
		m.tokens = append(m.tokens, out.Token)
	}
	if want.State != Mismatch {
		r.seen = c.Fence
	}
	if err != nil || out.State != want.State || out.Attempt != want.Attempt || !out.Until.Equal(want.Until) || !bytes.Equal(out.Result, want.Result) {
		m.Fatalf("Begin(%+v) = %+v, %v; want %+v", c, out, err, want)
	}
}

// settle calls f with some token there was, and returns the record if the call
// is to have an effect.
func (m *model) settle(to string, f func(Token) error) *modelRecord {
	if len(m.tokens) == 0 {
		m.Skip("nothing was taken yet")
	}
	latest := m.tokens[max(0, len(m.tokens)-4):]
	token := rapid.SampledFrom(latest).Draw(m.T, "token")
	err := f(token)
	r := m.find(token.Key.ID)
	holds := r != nil && r.fence == token.Fence && (r.phase == "held" || r.phase == to)
	if holds && err != nil || !holds && !errors.Is(err, ErrStale) {
		m.Fatalf("%s with %+v: got %v, holds is %v", to, token, err, holds)
	}
	if !holds || r.phase != "held" {
		return nil
	}
	r.phase = to
	return r
}

func (m *model) renew() {
	lease := m.duration("lease")
	r := m.settle("held", func(t Token) error { return m.store.Renew(m.Context(), t, lease) })
	if r == nil {
		return
	}
	if until := time.Now().Add(lease); until.After(r.lease) {
		r.lease = until
	}
	if r.lease.After(r.expires) {
		r.expires = r.lease
	}
}

func (m *model) complete() {
	result := rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(m.T, "result")
	ttl := m.duration("ttl")
	r := m.settle("done", func(t Token) error { return m.store.Complete(m.Context(), t, result, ttl) })
	if r != nil {
		r.result, r.expires = bytes.Clone(result), time.Now().Add(ttl)
	}
}

func (m *model) abort() {
	m.settle("free", func(t Token) error { return m.store.Abort(m.Context(), t) })
}
