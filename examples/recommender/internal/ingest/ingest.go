// Package ingest turns purchases into features: once each, in order per
// customer, and with an account of what came.
package ingest

import (
	"context"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/examples/recommender/internal/rank"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/wire"
	"github.com/mainstay-go/mainstay/featurestore"
	"github.com/mainstay-go/mainstay/messaging"
)

// Ingest is the consumer's handler and its account.
type Ingest struct {
	store *featurestore.Store
	shop  shop.Shop
	clock *rank.Clock

	mu        sync.Mutex
	applied   []byte         // by Seq
	last      map[string]int // by customer
	delivered int
	dead      int
	inverted  int
	ages      []float64 // milliseconds
}

// New makes an ingest into store, whose clock is clock.
func New(store *featurestore.Store, s shop.Shop, clock *rank.Clock) *Ingest {
	return &Ingest{store: store, shop: s, clock: clock, last: map[string]int{}}
}

// Route is how purchases become features. A purchase whose second view fails
// is delivered again; the first view then knows its id.
func (i *Ingest) Route(t messaging.Topic[shop.Purchase]) messaging.Route {
	spending, sales := rank.Spending.Ingest(i.store), rank.Sales.Ingest(i.store)
	return t.On(func(ctx context.Context, p shop.Purchase, d *messaging.Delivery) error {
		i.clock.Advance(p.Time)
		if err := spending(ctx, p, d); err != nil {
			return err
		}
		if err := sales(ctx, p, d); err != nil {
			return err
		}
		i.account(p, d)
		return nil
	})
}

// Dead is the route of the dead letters.
func (i *Ingest) Dead(t messaging.Topic[shop.Purchase]) messaging.Route {
	return messaging.On(t.Name()+".dead", func(context.Context, *messaging.Delivery) error {
		i.mu.Lock()
		i.dead++
		i.mu.Unlock()
		return nil
	})
}

// Counted counts deliveries before inbox decides which are duplicates.
func (i *Ingest) Counted(inbox messaging.Inbox) messaging.Inbox { return counted{inbox, i} }

type counted struct {
	messaging.Inbox

	ingest *Ingest
}

// Once implements messaging.Inbox.
func (c counted) Once(next messaging.Handler) messaging.Handler {
	once := c.Inbox.Once(next)
	return func(ctx context.Context, d *messaging.Delivery) error {
		c.ingest.mu.Lock()
		c.ingest.delivered++
		c.ingest.mu.Unlock()
		return once(ctx, d)
	}
}

func (i *Ingest) account(p shop.Purchase, d *messaging.Delivery) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if missing := p.Seq + 1 - len(i.applied); missing > 0 {
		i.applied = append(i.applied, make([]byte, missing)...)
	}
	if i.applied[p.Seq] < math.MaxUint8 {
		i.applied[p.Seq]++
	}
	if last, ok := i.last[p.Customer]; ok && last > p.Seq {
		i.inverted++
	} else {
		i.last[p.Customer] = p.Seq
	}
	i.ages = append(i.ages, float64(time.Since(d.Time))/1e6)
}

// Handler serves the account: GET /report, and GET /totals with the features
// of everyone at the event time of the request.
func (i *Ingest) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /report", func(w http.ResponseWriter, _ *http.Request) { wire.Reply(w, i.report()) })
	mux.HandleFunc("GET /totals", func(w http.ResponseWriter, r *http.Request) {
		totals, err := rank.ReadTotals(r.Context(), i.store, i.shop)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		wire.Reply(w, totals)
	})
	mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := i.store.Health(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return wire.Tick(i.clock, mux)
}

func (i *Ingest) report() wire.Ingested {
	i.mu.Lock()
	defer i.mu.Unlock()
	ages := slices.Sorted(slices.Values(i.ages))
	at := func(q float64) float64 {
		if len(ages) == 0 {
			return 0
		}
		return ages[int(q*float64(len(ages)-1))]
	}
	return wire.Ingested{
		Applied: slices.Clone(i.applied), Delivered: i.delivered, Dead: i.dead, Inverted: i.inverted,
		AgeP50: at(0.50), AgeP99: at(0.99),
	}
}
