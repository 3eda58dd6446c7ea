package kafka

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"time"

	"github.com/IBM/sarama"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// commit tells the group's coordinator the frontiers of dirty, and returns an
// error of ErrRevoked for each that belongs to somebody else now. The client's
// own way reports failures elsewhere and later.
func (r *receiver) commit(ctx context.Context, dirty []*claim) (refused []error, _ error) {
	return wait.Answer(ctx, r.broker.start, func() ([]error, error) {
		select { // one at a time: a late answer must not be overtaken
		case r.commits <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		r.hold(dirty, true)
		defer func() {
			r.hold(dirty, false)
			<-r.commits
		}()
		return r.commitAll(ctx, dirty)
	}, func([]error) {})
}

// hold keeps revoked claims from ending in the middle of a commit.
func (r *receiver) hold(claims []*claim, committing bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range claims {
		c.committing = committing
		c.rest()
	}
}

// commitAll tries again while the group is between two generations.
func (r *receiver) commitAll(ctx context.Context, dirty []*claim) (refused []error, _ error) {
	var looked bool
	for {
		session, request, sent := r.request(dirty)
		if len(sent) == 0 {
			for _, c := range dirty {
				if r.over(c) {
					refused = append(refused, fmt.Errorf("%w: the position of %s is not committed", driver.ErrRevoked, c.lane))
				}
			}
			return refused, nil
		}
		err := r.send(request, sent)
		switch {
		case err == nil:
			continue // until nothing is left to commit
		case errors.Is(err, sarama.ErrIllegalGeneration), errors.Is(err, sarama.ErrUnknownMemberId), errors.Is(err, sarama.ErrRebalanceInProgress):
			if session.Context().Err() != nil { // its claims are being lost
				r.abandon(sent)
				continue
			}
		case errors.Is(err, sarama.ErrOffsetMetadataTooLarge): // the broker is set to take less
			r.shorten()
			continue
		case !looked:
			looked = true
			if err := r.broker.control.RefreshCoordinator(r.sub.Group); err != nil {
				return nil, fmt.Errorf("committing positions of group %q: %w", r.sub.Group, err)
			}
			continue
		default:
			return nil, fmt.Errorf("committing positions of group %q: %w", r.sub.Group, err)
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return nil, context.Cause(ctx)
		}
	}
}

// word is what is told about one claim.
type word struct {
	offset  int64
	changes int
}

// request is made of the claims of one session.
func (r *receiver) request(dirty []*claim) (session sarama.ConsumerGroupSession, q *sarama.OffsetCommitRequest, sent map[*claim]word) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent = make(map[*claim]word)
	for _, c := range dirty {
		if c.ended || !c.dirty() || session != nil && c.session != session {
			continue
		}
		if session == nil {
			session = c.session
			q = &sarama.OffsetCommitRequest{
				Version: 7, ConsumerGroup: r.sub.Group, ConsumerID: session.MemberID(), ConsumerGroupGeneration: session.GenerationID(),
			}
			if id := r.client.Config().Consumer.Group.InstanceId; id != "" {
				q.GroupInstanceId = &id
			}
		}
		at := c.done.Frontier()
		text, complete := encodeMemo(at, c.known(), c.beyond(), r.room)
		c.overflow = !complete
		sent[c] = word{at, c.changes}
		q.AddBlockWithLeaderEpoch(c.topic, c.partition, at, -1, 0, text)
	}
	return session, q, sent
}

// known returns the notes of all that waits for a retry, beyond what has been
// read as former owners wrote them: the text is replaced as a whole.
func (c *claim) known() map[int64]driver.Note {
	if len(c.before.notes) == 0 {
		return c.notes
	}
	all := maps.Clone(c.notes)
	for offset, n := range c.before.notes {
		if offset >= c.next {
			all[offset] = n
		}
	}
	return all
}

// beyond returns the spans of what is settled beyond the frontier, those of
// former owners beyond what has been read.
func (c *claim) beyond() iter.Seq2[int64, int64] {
	return func(yield func(from, to int64) bool) {
		for from, to := range c.done.Spans() {
			if !yield(from, to) {
				return
			}
		}
		for _, s := range c.before.done {
			if s.to > c.next && !yield(max(s.from, c.next), s.to) {
				return
			}
		}
	}
}

// send returns the first error of all partitions.
func (r *receiver) send(q *sarama.OffsetCommitRequest, sent map[*claim]word) error {
	coordinator, err := r.broker.control.Coordinator(r.sub.Group)
	if err != nil {
		return err
	}
	answer, err := coordinator.CommitOffset(q)
	if err != nil {
		_ = coordinator.Close()
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for c, told := range sent {
		switch kind, ok := answer.Errors[c.topic][c.partition]; {
		case !ok:
			err = sarama.ErrIncompleteResponse
		case kind == sarama.ErrNoError:
			c.committed, c.told = max(c.committed, told.offset), told.changes
			c.flow()
		default:
			err = kind
		}
	}
	return err
}

// shorten lets less be written down.
func (r *receiver) shorten() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.room /= 2
}

// commitBehind tells the group, within limit, of what it would not hear with a
// settlement: a frontier that moved by itself, and at the end of a claim what is
// settled beyond it. What fails is told with the next one, or delivered again.
func (r *receiver) commitBehind(c *claim, limit time.Duration) {
	r.mu.Lock()
	dirty := c.dirty()
	r.mu.Unlock()
	if !dirty {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, _ = r.commit(ctx, []*claim{c})
}

// tellLater has what is settled beyond the frontier written down when the record
// that is in its way is a stuck one, and no sooner than in pause, unless a
// settlement does it before: perhaps there comes none any more.
func (c *claim) tellLater(pause time.Duration) {
	if c.revoked || c.alarm != nil || c.changes == c.told {
		return
	}
	_, since, _ := c.done.Oldest()
	r := c.receiver
	c.alarm = time.AfterFunc(max(time.Until(since.Add(long)), pause), func() {
		r.broker.start(func() {
			r.commitBehind(c, patience)
			r.mu.Lock()
			defer r.mu.Unlock()
			c.alarm = nil
			c.tellLater(100 * time.Millisecond) // it failed, or another record is in the way
		})
	})
}

// over reports whether c ended with a frontier that nobody knows of.
func (r *receiver) over(c *claim) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.ended && c.done.Frontier() > c.committed
}

// abandon gives up the claims of a session that has ended.
func (r *receiver) abandon(claims map[*claim]word) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range claims {
		c.ended = true
		c.revoke()
	}
}
