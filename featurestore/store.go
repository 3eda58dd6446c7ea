package featurestore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Options configures a Store. Nil or the zero value is a good default.
type Options struct {
	// TracerProvider makes the spans; nil: OpenTelemetry's global one.
	TracerProvider trace.TracerProvider
	// MeterProvider makes the instruments; nil: OpenTelemetry's global one.
	MeterProvider metric.MeterProvider
	// Logger is told of events that came too late or lie in the future; nil:
	// silent. That a redelivery came too late is a warning, since the event may
	// be offline alone.
	Logger *slog.Logger
	// MaxFuture is how far ahead of now an event may lie before it is refused,
	// since it would stand in the way of all that come after it until then.
	// 0: 10 minutes; negative: no limit; at most 20 years. It must not change while windows
	// with events of the last hours are stored, and be the same in a Store that
	// joins what another one wrote.
	MaxFuture time.Duration
	// Now is the clock that ages rows, evaluates windows and dates what is
	// written. Replaying history sets it to the time of the events. It must be
	// safe for concurrent use. nil: time.Now.
	Now func() time.Time
}

// Store ties an online and an offline store to a clock and to telemetry. It is
// what definitions are read from and written to. It owns no goroutine and needs
// no closing. Methods may be called concurrently.
type Store struct {
	online    Online
	offline   Offline // may be nil
	maxFuture time.Duration
	now       func() time.Time
	tel       *telemetry
}

// New returns a Store. offline may be nil: then nothing is kept for training
// and Join is ErrNoOffline. It panics if online is nil.
func New(online Online, offline Offline, o *Options) *Store {
	if online == nil {
		panic("featurestore: New needs an online store")
	}
	if o == nil {
		o = &Options{}
	}
	s := &Store{online: online, offline: offline, maxFuture: min(o.MaxFuture, longestWindow), now: o.Now, tel: newTelemetry(o)}
	if s.maxFuture == 0 {
		s.maxFuture = 10 * time.Minute
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// Health returns nil if the online store can be reached.
func (s *Store) Health(ctx context.Context) error {
	if err := s.online.Health(ctx); err != nil {
		return fmt.Errorf("featurestore: online store: %w", err)
	}
	return nil
}

// clock is now without its monotonic part, which no store could keep.
func (s *Store) clock() time.Time { return plain(s.now()) }

func plain(t time.Time) time.Time { return t.Round(0).UTC() }

// tooFarAhead says whether an event must be refused.
func (s *Store) tooFarAhead(event, now time.Time) bool {
	return s.maxFuture > 0 && event.After(now.Add(s.maxFuture))
}

// read reads refs, aligned.
func (s *Store) read(ctx context.Context, refs []Ref) ([]Record, error) {
	if len(refs) == 0 {
		return nil, nil
	}
	start := time.Now()
	recs, err := s.online.Read(ctx, refs)
	s.tel.read(ctx, start, err)
	if err != nil {
		return nil, err
	}
	if len(recs) != len(refs) {
		return nil, fmt.Errorf("online store answered %d refs with %d records", len(refs), len(recs))
	}
	return recs, nil
}

// keep appends records offline, where there is an offline store.
func (s *Store) keep(ctx context.Context, recs []Record) error {
	if s.offline == nil || len(recs) == 0 {
		return nil
	}
	if err := s.offline.Append(ctx, sequence(recs)); err != nil {
		return fmt.Errorf("offline append: %w", err)
	}
	return nil
}

// write writes records online.
func (s *Store) write(ctx context.Context, recs []Record) ([]Outcome, error) {
	if len(recs) == 0 {
		return nil, nil
	}
	outcomes, err := s.online.Write(ctx, recs)
	if err == nil && len(outcomes) != len(recs) {
		err = fmt.Errorf("online store answered %d records with %d outcomes", len(recs), len(outcomes))
	}
	if err != nil {
		return nil, fmt.Errorf("online write, outcome unknown, safe to repeat: %w", err)
	}
	return outcomes, nil
}

func (s *Store) swapper() (Swapper, error) {
	if sw, ok := s.online.(Swapper); ok {
		return sw, nil
	}
	return nil, errors.New("the online store cannot compare and swap, which windows need: it is no Swapper")
}

func sequence(recs []Record) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for i := range recs {
			if !yield(recs[i], nil) {
				return
			}
		}
	}
}
