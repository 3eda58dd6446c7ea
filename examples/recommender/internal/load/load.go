// Package load is the customers: it visits at a fixed rate, whatever the
// answers take (open loop), and publishes what is bought.
package load

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/examples/recommender/internal/rank"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/wire"
	"github.com/mainstay-go/mainstay/messaging"
)

const (
	waiting      = 4096 // visits without an answer; more are errors of their own
	giveUp       = 2 * time.Second
	lastPublish  = time.Minute // after the last visit
	publishBatch = 100
	repeatEach   = 200  // every so many purchases one is published twice, on purpose
	damageEach   = 1000 // and one that cannot be read, on purpose
)

// Options of a Load.
type Options struct {
	Gateway   string
	Rate      float64
	For       time.Duration
	ShiftAt   time.Duration // 0: never
	Client    *http.Client
	Publisher *messaging.Publisher
	Topic     messaging.Topic[shop.Purchase]
	Excused   func(at time.Duration) bool // an injected fault may degrade answers then
	Hold      func() bool                 // true: go on after For, up to HoldFor
	HoldFor   time.Duration
}

// Visit is what became of one visit.
type Visit struct {
	At       time.Duration // scheduled, since the start
	Latency  time.Duration // from the scheduled time to the whole answer
	Stages   wire.Stages
	Version  string
	Degraded string
	Err      string
	Excused  bool
	Bought   bool
	Hit      bool // what was bought was recommended
}

// Load is the load generator.
type Load struct {
	o    Options
	shop shop.Shop

	mu       sync.Mutex
	visits   []Visit
	log      []shop.Purchase // what was published, history not included
	shiftSeq int             // the first purchase after the shift; -1: none
	repeated int
	damaged  int
	clock    rank.Clock
}

// New makes a load generator for a shop whose history is already known to the
// services.
func New(s shop.Shop, o Options) *Load { return &Load{o: o, shop: s, shiftSeq: -1} }

// pending are purchases that wait for their visit's answer.
type pending struct {
	answered <-chan struct{}
	bought   []shop.Purchase
}

// Run visits for the time given, then waits until all answers are there and
// all purchases are published, for up to a minute. It returns an error when
// ctx ends first.
func (l *Load) Run(ctx context.Context) error {
	queue := make(chan pending, 1<<16)
	published := make(chan error, 1)
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	go func() { published <- l.publish(publishing, queue) }()
	l.visitAll(ctx, queue)
	close(queue)
	// A broker that does not come back must not keep the report from saying so.
	last := time.AfterFunc(lastPublish, stop)
	defer last.Stop()
	err := <-published
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if publishing.Err() != nil {
		return nil // what was not published is counted as lost
	}
	return err
}

func (l *Load) visitAll(ctx context.Context, queue chan<- pending) {
	var answers sync.WaitGroup
	defer answers.Wait()
	slots := make(chan struct{}, waiting)
	start, interval := time.Now(), time.Duration(float64(time.Second)/l.o.Rate)
	shifted := false
	for i := 0; ctx.Err() == nil; i++ {
		at := time.Duration(i) * interval
		if at >= l.o.For && (l.o.Hold == nil || at >= l.o.For+l.o.HoldFor || !l.o.Hold()) {
			return
		}
		if !shifted && l.o.ShiftAt > 0 && at >= l.o.ShiftAt {
			shifted = true
			l.shop.Shift()
			l.mark()
		}
		if !sleepUntil(ctx, start.Add(at)) {
			return
		}
		visit, bought, ok := l.shop.Next()
		if !ok {
			return
		}
		l.clock.Advance(visit.Time)
		done := make(chan struct{})
		if len(bought) > 0 {
			queue <- pending{done, bought}
		}
		select {
		case slots <- struct{}{}:
		default:
			close(done)
			l.add(Visit{At: at, Err: "more than 4096 visits without an answer", Latency: giveUp})
			continue
		}
		answers.Go(func() {
			l.visit(ctx, start, at, visit, bought)
			close(done)
			<-slots
		})
	}
}

func sleepUntil(ctx context.Context, t time.Time) bool {
	wait := time.Until(t)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *Load) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shiftSeq = len(l.log)
}

func (l *Load) visit(ctx context.Context, start time.Time, at time.Duration, v shop.Visit, bought []shop.Purchase) {
	ctx, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	q := url.Values{"customer": {v.Customer}, "basket": {strconv.FormatFloat(v.Basket, 'g', -1, 64)}, "depth": {strconv.Itoa(v.Depth)}}
	var answer wire.Recommendation
	err := wire.Get(ctx, l.o.Client, l.o.Gateway+"/recommend?"+q.Encode(), v.Time, &answer)
	r := Visit{At: at, Latency: time.Since(start.Add(at)), Stages: answer.Stages, Version: answer.Version, Degraded: answer.Degraded}
	r.Excused = l.o.Excused != nil && (l.o.Excused(at) || l.o.Excused(at+r.Latency))
	if err == nil && len(answer.Items) == 0 {
		err = errors.New("an answer without items")
	}
	if err != nil {
		r.Err = err.Error()
	}
	for _, p := range bought {
		r.Bought = true
		r.Hit = r.Hit || slices.Contains(answer.Items, p.Item)
	}
	l.add(r)
}

func (l *Load) add(v Visit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.visits = append(l.visits, v)
}

// publish sends purchases in the shop's order, after the visit they belong to
// was answered. It keeps what the broker does not hold and tries again, under
// the same ids, for as long as it takes.
func (l *Load) publish(ctx context.Context, queue <-chan pending) error {
	var batch []*messaging.Message
	for p := range queue {
		select {
		case <-p.answered:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for _, purchase := range p.bought {
			messages, err := l.messages(purchase)
			if err != nil {
				return err
			}
			batch = append(batch, messages...)
		}
		if len(queue) > 0 && len(batch) < publishBatch {
			continue
		}
		if err := l.send(ctx, batch); err != nil {
			return err
		}
		batch = batch[:0]
	}
	return l.send(ctx, batch)
}

// messages are the purchase's own, and now and then a repetition or a message
// that nobody can read.
func (l *Load) messages(p shop.Purchase) ([]*messaging.Message, error) {
	m, err := l.o.Topic.Message(p.Customer, p)
	if err != nil {
		return nil, fmt.Errorf("purchase %d: %w", p.Seq, err)
	}
	m.ID = rank.PurchaseID(p) // its time stays the wall clock's: brokers delete what is old
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, p)
	messages := []*messaging.Message{m}
	if n := len(l.log); n%repeatEach == 0 {
		again := *m
		messages = append(messages, &again)
		l.repeated++
	}
	if n := len(l.log); n%damageEach == 0 {
		messages = append(messages, &messaging.Message{
			ID: fmt.Sprintf("damaged-%d", n), Topic: l.o.Topic.Name(), Key: p.Customer, Body: []byte(`{"seq":`),
		})
		l.damaged++
	}
	return messages, nil
}

func (l *Load) send(ctx context.Context, batch []*messaging.Message) error {
	for wait := 50 * time.Millisecond; len(batch) > 0; wait = min(2*wait, time.Second) {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := l.o.Publisher.Publish(attempt, batch...)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		failed, ok := errors.AsType[*messaging.Error](err)
		if ok && len(failed.Unsent) > 0 {
			batch = failed.Unsent
		}
		sleepUntil(ctx, time.Now().Add(wait))
	}
	return nil
}

// Result is what the load generator saw.
type Result struct {
	Visits   []Visit
	Log      []shop.Purchase // published, in order
	ShiftSeq int             // index into Log of the first purchase after the shift; -1: none
	Repeated int             // published twice on purpose
	Damaged  int             // published unreadable on purpose
	End      time.Time       // event time of the last visit
}

// Published is how many purchases have been handed to the publisher.
func (l *Load) Published() (purchases, damaged int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.log), l.damaged
}

// Progress is how many visits were answered, and how many of them degraded.
func (l *Load) Progress() (visits, degraded int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range l.visits {
		if v.Degraded != "" {
			degraded++
		}
	}
	return len(l.visits), degraded
}

// Result returns what was seen; call it after Run.
func (l *Load) Result() Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Result{
		Visits: l.visits, Log: l.log, ShiftSeq: l.shiftSeq, Repeated: l.repeated, Damaged: l.damaged, End: l.clock.Now(),
	}
}
