package redisstream

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// keep holds the receiver's partitions: it says that it is alive, renews what
// it owns, takes its share, and gives back what is more.
func (r *receiver) keep(ctx context.Context) {
	lease := r.broker.lease
	beat := min(lease/5, time.Second)
	var trimmed, failing time.Time
	for {
		hungry, err := r.beat(ctx)
		switch {
		case err == nil:
			failing = time.Time{}
		case failing.IsZero():
			failing = time.Now()
		case time.Since(failing) > lease:
			r.fail(err)
		}
		if now := time.Now(); now.Sub(trimmed) > time.Second {
			trimmed = now
			r.trim(ctx)
		}
		pause := beat
		if hungry {
			pause = min(beat, 100*time.Millisecond)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-r.kick:
		case <-r.gone:
			t.Stop()
			err := r.leave(ctx)
			r.mu.Lock()
			r.left = err
			r.mu.Unlock()
			return
		}
		t.Stop()
	}
}

// beat is one round. hungry: it owns less than its share. err is an answer that
// may be another in the next round.
func (r *receiver) beat(ctx context.Context) (hungry bool, err error) {
	r.renew(ctx)
	calls := make([]*call, len(r.sub.Topics))
	for i, topic := range r.sub.Topics {
		calls[i] = &call{
			script: memberScript, keys: []string{r.broker.names.members(topic, r.sub.Group)},
			args: []any{r.name, r.broker.lease.Milliseconds()},
		}
	}
	r.broker.run(ctx, false, calls...)
	for i, topic := range r.sub.Topics {
		members, merr := calls[i].cmd.StringSlice()
		if merr != nil {
			hungry, err = true, fmt.Errorf("members of topic %q: %w", topic, merr)
			continue
		}
		share := quota(r.topics[topic], len(members), slices.Index(members, r.name))
		owned := r.cut(topic, share)
		if owned < share {
			got, aerr := r.acquire(ctx, topic, share-owned)
			owned += got
			err = cmp.Or(err, aerr)
		}
		hungry = hungry || owned < share
	}
	r.release(ctx)
	return hungry, err
}

// quota shares partitions so that members differ by one at most.
func quota(partitions, members, index int) int {
	if members == 0 || index < 0 {
		return 0
	}
	n := partitions / members
	if index < partitions%members {
		n++
	}
	return n
}

// cut gives up what is more than share and returns how many are left.
func (r *receiver) cut(topic string, share int) (owned int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range slices.Clone(r.parts) {
		if p.topic != topic {
			continue
		}
		if owned < share {
			owned++
			continue
		}
		p.revoke(time.Now().Add(max(r.sub.Drain, 0)))
		r.drop(p)
		r.ceding = append(r.ceding, p)
	}
	return owned
}

func (r *receiver) drop(p *partition) {
	r.parts = slices.DeleteFunc(r.parts, func(x *partition) bool { return x == p })
}

// lose is for what was taken away, or is no longer known to be ours.
func (r *receiver) lose(p *partition) {
	if !p.revoked {
		p.revoke(time.Time{})
		r.drop(p)
	}
	r.ceding = slices.DeleteFunc(r.ceding, func(x *partition) bool { return x == p })
	wait.Ring(r.kick)
}

// acquire takes up to n partitions that nobody owns.
func (r *receiver) acquire(ctx context.Context, topic string, n int) (got int, failed error) {
	r.mu.Lock()
	mine := make(map[int]bool)
	for _, p := range slices.Concat(r.parts, r.ceding) {
		if p.topic == topic {
			mine[p.number] = true
		}
	}
	var free []*partition
	var calls []*call
	for i := range r.topics[topic] {
		if !mine[i] {
			r.tokens++
			p := r.partition(topic, i)
			free = append(free, p)
			calls = append(calls, &call{
				script: acquireScript, keys: p.keys[:3], args: []any{p.token, r.sub.Group, r.broker.lease.Milliseconds()},
			})
		}
	}
	r.mu.Unlock()
	for len(calls) > 0 && got < n {
		k := min(n-got, len(calls))
		sent := time.Now()
		r.broker.run(ctx, false, calls[:k]...)
		for i, c := range calls[:k] {
			last, err := c.cmd.Text()
			switch {
			case err == nil && last != "":
				r.own(free[i], last, sent)
				got++
			case redis.HasErrorPrefix(err, "NOGROUP"):
				r.fail(err)
			case err != nil:
				failed = fmt.Errorf("taking %s: %w", free[i].lane, err)
			}
		}
		calls, free = calls[k:], free[k:]
	}
	return got, failed
}

func (r *receiver) partition(topic string, n int) *partition {
	stream := r.broker.names.stream(topic, n)
	g, token := r.sub.Group, r.name+"/"+strconv.Itoa(r.tokens)
	return &partition{
		topic: topic, number: n, stream: stream, lane: topic + "/" + strconv.Itoa(n),
		keys:  []string{stream, owner(stream, g), guard(stream, g, token), delayed(stream, g), headers(stream, g)},
		token: token, lost: make(chan struct{}),
		from: "-", most: 1, size: someBytes, queues: make(map[string]*queue),
	}
}

// own begins the ownership that the server granted at some time after sent.
func (r *receiver) own(p *partition, last string, sent time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.last, p.renewed = last, sent
	p.expiry = time.AfterFunc(r.grace(sent), func() { r.expire(p) })
	r.parts = append(r.parts, p)
	wait.Ring(r.woken)
}

// grace is the time after which an ownership that was not renewed since sent
// ends here: before it ends at the server, so that handlers have time to stop.
func (r *receiver) grace(sent time.Time) time.Duration {
	return time.Until(sent.Add(r.broker.lease * 8 / 10))
}

func (r *receiver) expire(p *partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !p.revoked && time.Since(p.renewed) >= r.broker.lease*8/10 {
		r.lose(p)
		wait.Ring(r.woken)
	}
}

// renew prolongs what is owned, and what is being given back.
func (r *receiver) renew(ctx context.Context) {
	r.mu.Lock()
	all := slices.Concat(r.parts, r.ceding)
	r.mu.Unlock()
	if len(all) == 0 {
		return
	}
	calls := make([]*call, len(all))
	for i, p := range all {
		calls[i] = &call{script: renewScript, keys: p.keys[:3], args: []any{p.token, r.broker.lease.Milliseconds()}}
	}
	sent := time.Now()
	r.broker.run(ctx, false, calls...)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, p := range all {
		switch n, err := calls[i].cmd.Int(); {
		case err != nil: // it may pass; expire knows when it is too late
		case n == 0:
			r.lose(p)
		case !p.revoked:
			p.renewed = sent
			p.expiry.Reset(r.grace(sent))
		}
	}
}

// release lets go of revoked partitions that nobody works on, or too long.
func (r *receiver) release(ctx context.Context) {
	r.mu.Lock()
	now := time.Now()
	var done []*partition
	for _, p := range r.ceding {
		if p.out == 0 || !now.Before(p.till) {
			done = append(done, p)
		}
	}
	r.mu.Unlock()
	_ = r.letGo(ctx, done) // what cannot be told ends with its lease
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ceding = slices.DeleteFunc(r.ceding, func(p *partition) bool { return slices.Contains(done, p) })
}

func (r *receiver) letGo(ctx context.Context, done []*partition) error {
	if len(done) == 0 {
		return nil
	}
	calls := make([]*call, len(done))
	r.mu.Lock()
	for i, p := range done {
		args := append([]any{p.token, r.sub.Group}, p.unused...)
		calls[i] = &call{script: releaseScript, keys: p.keys[:3], args: args}
	}
	r.mu.Unlock()
	r.broker.run(ctx, false, calls...)
	for i, c := range calls {
		if err := c.cmd.Err(); err != nil && !redis.HasErrorPrefix(err, "NOGROUP") && !redis.HasErrorPrefix(err, "ERR no such key") {
			return fmt.Errorf("giving back %s: %w", done[i].lane, err)
		}
	}
	return nil
}

// leave gives everything back.
func (r *receiver) leave(ctx context.Context) error {
	r.mu.Lock()
	for _, p := range slices.Clone(r.parts) {
		p.revoke(time.Time{})
	}
	all := slices.Concat(r.parts, r.ceding)
	r.parts, r.ceding = nil, nil
	r.mu.Unlock()
	err := r.letGo(ctx, all)
	calls := make([]*call, len(r.sub.Topics))
	for i, topic := range r.sub.Topics {
		calls[i] = &call{script: memberScript, keys: []string{r.broker.names.members(topic, r.sub.Group)}, args: []any{r.name, 0}}
	}
	r.broker.run(ctx, false, calls...)
	for _, c := range calls {
		if cerr := c.cmd.Err(); cerr != nil && err == nil {
			err = cerr
		}
	}
	return err
}

// trim drops what every group has settled.
func (r *receiver) trim(ctx context.Context) {
	if r.broker.retain < 0 {
		return
	}
	r.mu.Lock()
	var calls []*call
	for _, p := range r.parts {
		if p.acked {
			p.acked = false
			calls = append(calls, &call{script: trimScript, keys: p.keys[:1], args: []any{r.broker.retain.Milliseconds()}})
		}
	}
	r.mu.Unlock()
	if len(calls) > 0 {
		r.broker.run(ctx, false, calls...) // what fails is tried with the next
	}
}
