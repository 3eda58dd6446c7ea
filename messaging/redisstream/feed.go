package redisstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

const (
	blockFor   = 250 * time.Millisecond // how long an idle read waits at the server
	probeEvery = 5 * time.Millisecond   // how often partitions without a backlog are looked at while others have one
	readMost   = 256                    // entries of one read
	readLeast  = 32
	readBytes  = 4 << 20 // of all reads in one pipeline, by the sizes of those before: the client waits so long for all
	someBytes  = 1 << 20 // of an entry of which nothing is known
)

// ahead is how many entries may lie here that nobody has asked for. A
// partition belongs to one member, so they are kept from nobody.
func (r *receiver) ahead() int { return min(max(r.sub.Prefetch, readLeast), 2*readMost) }

// idle counts what lies here and is not handed out.
func (r *receiver) idle() (n int) {
	for _, p := range r.parts {
		n += p.held - p.out
	}
	return n
}

// feed reads entries while somebody waits for them, and ahead, so that nobody
// needs to: while some are handled the next are under way.
func (r *receiver) feed(ctx context.Context) {
	var failing time.Time
	for {
		select {
		case <-r.want:
		case <-r.gone:
			return
		}
		for {
			calls, parts, waits := r.plan()
			if !waits {
				break
			}
			var err error
			if len(calls) == 0 {
				err = r.watch(ctx)
			} else {
				r.broker.run(ctx, true, calls...)
				err = r.integrate(calls, parts)
			}
			switch {
			case err == nil:
				failing = time.Time{}
			case redis.HasErrorPrefix(err, "NOGROUP"), redis.HasErrorPrefix(err, "WRONGTYPE"):
				r.fail(err)
			default:
				if failing.IsZero() {
					failing = time.Now()
				}
				if time.Since(failing) > r.broker.lease {
					r.fail(err)
				}
				r.sleep(50 * time.Millisecond)
			}
		}
	}
}

// sleep returns early when the receiver leaves.
func (r *receiver) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.gone:
	}
}

// plan says what to read. waits is false when nobody waits for it and there is
// enough; without calls, there is nothing to be had right now.
func (r *receiver) plan() (calls []*call, parts []*partition, waits bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := max(r.waiting, r.ahead()-r.idle())
	if wanted <= 0 || r.closed || r.err != nil {
		return nil, nil, false
	}
	now := time.Now()
	var busy, quiet []*partition
	for i := range r.parts {
		switch p := r.parts[(i+r.turn)%len(r.parts)]; {
		case p.full():
		case p.from != "" || !p.caught:
			busy = append(busy, p)
		case now.Sub(p.probed) > probeEvery:
			quiet = append(quiet, p)
		}
	}
	r.turn++
	if len(busy) == 0 {
		return nil, nil, r.waiting > 0
	}
	count := min(max(wanted, readLeast), readMost)
	busy = busy[:min(len(busy), max(1, wanted/readLeast))]
	room := readBytes
	for _, p := range slices.Concat(busy, quiet) {
		if room <= 0 {
			break
		}
		n := p.entriesIn(room, count)
		room -= n * p.size
		p.probed = now
		parts = append(parts, p)
		if p.from != "" {
			calls = append(calls, &call{script: recoverScript, keys: p.keys, args: []any{p.token, r.sub.Group, p.from, n}})
		} else {
			calls = append(calls, r.read(p, n))
		}
	}
	return calls, parts, true
}

// integrate puts what was read in line.
func (r *receiver) integrate(calls []*call, parts []*partition) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var failure error
	got := 0
	for i, c := range calls {
		p := parts[i]
		if p.revoked {
			continue // it is in the hands of the server, who gives it to the next
		}
		held, bytes := p.held, p.bytes
		n, err := r.add(p, c)
		if errors.Is(err, errLost) {
			r.lose(p)
			continue
		}
		got += n
		p.learn(err == nil, p.held-held, p.bytes-bytes)
		if err == nil {
			continue
		}
		failure = fmt.Errorf("reading %s: %w", p.lane, err)
		if p.from == "" { // what was read and did not arrive is in the pending list
			p.from = "(" + p.last
		}
	}
	if got > 0 {
		r.waiting = 0
		wait.Ring(r.woken)
	}
	return failure
}

func (r *receiver) add(p *partition, c *call) (n int, _ error) {
	if c.script == nil {
		entries, err := p.entries(c.cmd)
		if err != nil {
			return 0, err
		}
		p.caught = len(entries) == 0
		for _, x := range entries {
			if err := r.addEntry(p, x, 0, -1, ""); err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	from, entries, err := recovered(c.cmd)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if err := r.addEntry(p, e.entry, max(e.count, 0), e.wait, e.headers); err != nil {
			return n, err
		}
		n++
	}
	if p.from = from; from == "" {
		p.caught = false
	}
	return n, nil
}

// addEntry adds one entry: attempt deliveries before, and a retry that is due
// in so many milliseconds, or -1.
func (r *receiver) addEntry(p *partition, x any, attempt int, wait int64, headers string) error {
	e, ok := x.([]any)
	if !ok || len(e) != 2 {
		return errShape
	}
	text, ok := e[0].(string)
	fields, ok2 := e[1].([]any)
	if !ok || !ok2 {
		return errShape
	}
	id, err := parseID(text)
	if err != nil {
		return err
	}
	read := &entry{id: id, attempt: attempt}
	read.msg, read.body = decode(p.topic, p.lane, id, fields)
	if wait >= 0 {
		if h, ok := unpackHeaders(headers); ok {
			read.msg.Headers = h
		}
		if wait > 0 {
			read.attempt, read.until = 0, time.Now().Add(time.Duration(wait)*time.Millisecond)
		}
	}
	if last, err := parseID(p.last); err == nil && id.compare(last) > 0 {
		p.last = text
	}
	p.add(read, r.sub.Unordered)
	return nil
}

// watch waits until one of the partitions may have something. One server waits
// for all of them at once; a cluster is asked again and again.
func (r *receiver) watch(ctx context.Context) error {
	r.mu.Lock()
	var keys, last []string
	by := make(map[string]*partition)
	for _, p := range r.parts {
		if !p.full() {
			keys, last = append(keys, p.stream), append(last, p.last)
			by[p.stream] = p
		}
	}
	r.mu.Unlock()
	client, single := r.broker.client.(*redis.Client)
	if len(keys) == 0 || !single {
		r.sleep(20 * time.Millisecond)
		r.look(by)
		return nil
	}
	got, err := client.XRead(ctx, &redis.XReadArgs{Streams: append(keys, last...), Count: 1, Block: blockFor}).Result()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return err
	}
	ready := make(map[string]*partition)
	for _, s := range got {
		ready[s.Stream] = by[s.Stream]
	}
	r.look(ready)
	return nil
}

func (r *receiver) look(at map[string]*partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range at {
		p.caught = false
	}
}
