package serve

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/mainstay-go/mainstay/examples/recommender/internal/rank"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/wire"
	"github.com/mainstay-go/mainstay/featurestore"
)

// Users answers with the features of a visit.
//
//	GET /visitor?customer=c0001&basket=12.5&depth=3
func Users(services *rank.Services, store *featurestore.Store, clock *rank.Clock) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /visitor", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		basket, err1 := strconv.ParseFloat(q.Get("basket"), 64)
		depth, err2 := strconv.ParseFloat(q.Get("depth"), 64)
		if err1 != nil || err2 != nil || q.Get("customer") == "" {
			http.Error(w, "customer, basket and depth are needed", http.StatusBadRequest)
			return
		}
		vectors, err := services.Visitors.Vectors(r.Context(), store,
			rank.Visitor{Customer: q.Get("customer"), Basket: basket, Depth: depth})
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		wire.Reply(w, wire.Values{Values: vectors.Values[0], Fingerprint: services.Visitors.Fingerprint()})
	})
	healthy(mux, store)
	return wire.Tick(clock, mux)
}

// Items answers with the candidates and their features.
type Items struct {
	services *rank.Services
	store    *featurestore.Store
	clock    *rank.Clock
	items    []shop.Item
	pool     atomic.Pointer[[]rank.Thing]
	latest   atomic.Pointer[answer]
	asking   atomic.Bool
}

// fresh is for how long an answer is given again: the candidates and their
// features are the same for all visits of a moment.
const fresh = 10 * time.Millisecond

type answer struct {
	wire.Candidates

	at time.Time
}

// NewItems makes the service and its first candidates.
func NewItems(ctx context.Context, services *rank.Services, store *featurestore.Store, clock *rank.Clock, items []shop.Item) (*Items, error) {
	s := &Items{services: services, store: store, clock: clock, items: items}
	return s, s.refresh(ctx)
}

// Run chooses the candidates anew a few times a second.
func (s *Items) Run(ctx context.Context) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_ = s.refresh(ctx) // what was chosen last still serves
		}
	}
}

func (s *Items) refresh(ctx context.Context) error {
	sold, err := rank.WeeklySales(ctx, s.store, s.items)
	if err != nil {
		return fmt.Errorf("choosing candidates: %w", err)
	}
	ids := rank.Pool(s.items, sold)
	things := make([]rank.Thing, len(ids))
	for i, id := range ids {
		things[i].Item = id
	}
	s.pool.Store(&things)
	return nil
}

// Handler serves GET /candidates.
func (s *Items) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /candidates", func(w http.ResponseWriter, r *http.Request) {
		a, err := s.candidates(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		wire.Reply(w, a.Candidates)
	})
	healthy(mux, s.store)
	return wire.Tick(s.clock, mux)
}

// candidates reads the features, unless that was done a moment ago or is being
// done by another request, which then gets what was read before.
func (s *Items) candidates(ctx context.Context) (*answer, error) {
	last := s.latest.Load()
	if last != nil && time.Since(last.at) < fresh {
		return last, nil
	}
	if mine := s.asking.CompareAndSwap(false, true); mine {
		defer s.asking.Store(false)
	} else if last != nil && time.Since(last.at) < 10*fresh {
		return last, nil
	}
	things := *s.pool.Load()
	vectors, err := s.services.Things.Vectors(ctx, s.store, things...)
	if err != nil {
		return nil, err
	}
	a := &answer{at: time.Now(), Candidates: wire.Candidates{Values: vectors.Values, Fingerprint: s.services.Things.Fingerprint()}}
	for i := range things {
		a.Items = append(a.Items, things[i].Item)
	}
	s.latest.Store(a)
	return a, nil
}

// healthy adds the probes of a service that is well when its store is.
func healthy(mux *http.ServeMux, store *featurestore.Store) {
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := store.Health(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
}
