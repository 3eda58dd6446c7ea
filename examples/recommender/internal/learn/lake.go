// Package learn is the model service: it serves versions of the ranking model,
// watches what it is asked for drift, trains a successor when the input has
// shifted, and rolls it out by a saga.
package learn

import (
	"context"
	"slices"
	"sync"

	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
	"github.com/mainstay-go/mainstay/messaging"
)

// maxLog bounds the purchases kept for training; the oldest leave first.
const maxLog = 200_000

// Lake keeps purchases to learn from, in the order of the shop. It is safe for
// concurrent use.
type Lake struct {
	mu      sync.Mutex
	log     []shop.Purchase
	waiting map[int]shop.Purchase // those that came before their predecessor
}

// NewLake begins with history.
func NewLake(history []shop.Purchase) *Lake {
	return &Lake{log: append([]shop.Purchase(nil), history...), waiting: map[int]shop.Purchase{}}
}

// Route is how purchases come in. A purchase that came before is known by its
// Seq, so this needs no inbox.
func (l *Lake) Route(t messaging.Topic[shop.Purchase]) messaging.Route {
	return t.On(func(_ context.Context, p shop.Purchase, _ *messaging.Delivery) error {
		l.add(p)
		return nil
	})
}

func (l *Lake) add(p shop.Purchase) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[p.Seq] = p
	for next := l.next(); ; next++ {
		p, ok := l.waiting[next]
		if !ok {
			break
		}
		delete(l.waiting, next)
		if len(l.log) == maxLog {
			l.log = append(l.log[:0:0], l.log[maxLog/10:]...)
		}
		l.log = append(l.log, p)
	}
	for seq := range l.waiting {
		if seq < l.next() {
			delete(l.waiting, seq)
		}
	}
}

// recent is what a training set is made of: enough to fill a week's windows.
func recent(log []shop.Purchase) []shop.Purchase { return log[max(0, len(log)-40_000):] }

func (l *Lake) next() int {
	if len(l.log) == 0 {
		return 0
	}
	return l.log[len(l.log)-1].Seq + 1
}

// Log returns what is there, oldest first; the caller must not modify it.
func (l *Lake) Log() []shop.Purchase {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clip(l.log)
}
