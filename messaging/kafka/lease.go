package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"

	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// A member that was cut off, or whose machine stood still, is expelled after the
// session's timeout and hears of it last: until then it would go on with what it
// has fetched, while the next owner does too. So the receiver has a lease: from
// a heartbeat that the coordinator answers, nobody else gets its partitions for
// as long as that timeout. The client sends its own, and tells nobody of the
// answers.

// keepLease renews the lease while there are claims, until ctx ends.
func (r *receiver) keepLease(ctx context.Context) {
	timeout := r.client.Config().Consumer.Group.Session.Timeout
	for ctx.Err() == nil {
		pause, unsure := timeout/5, r.unsure
		if session := r.session(); session != nil {
			sent := time.Now()
			if err := r.beat(ctx, session); err == nil {
				r.renew(sent.Add(timeout))
			} else {
				pause, unsure = min(pause, 100*time.Millisecond), nil
			}
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-unsure:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// session returns that of the claims, nil if there are none.
func (r *receiver) session() sarama.ConsumerGroupSession {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.claims) == 0 {
		return nil
	}
	return r.claims[len(r.claims)-1].session // the latest
}

func (r *receiver) renew(until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sure = until
	r.wake()
	if r.renewed != nil {
		close(r.renewed)
		r.renewed = nil
	}
}

// isSure reports whether the lease holds, and has it renewed if not.
func (r *receiver) isSure() bool {
	if held(time.Now(), r.sure) {
		return true
	}
	wait.Ring(r.unsure)
	return false
}

// inDoubt is Doubt of the deliveries.
func (r *receiver) inDoubt() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isSure() {
		return nil
	}
	if r.renewed == nil {
		r.renewed = make(chan struct{})
	}
	return r.renewed
}

// held reports whether the lease is. Where a machine is suspended the monotonic
// clock stands still; where the wall clock is set back, that one would hold.
func held(now, sure time.Time) bool {
	return now.Before(sure) && now.Round(0).Before(sure.Round(0))
}

// beat returns nil if the coordinator knows the member.
func (r *receiver) beat(ctx context.Context, session sarama.ConsumerGroupSession) error {
	return wait.Call(ctx, r.broker.start, func() error {
		coordinator, err := r.broker.control.Coordinator(r.sub.Group)
		if err != nil {
			return err
		}
		q := &sarama.HeartbeatRequest{Version: 3, GroupId: r.sub.Group, MemberId: session.MemberID(), GenerationId: session.GenerationID()}
		if id := r.client.Config().Consumer.Group.InstanceId; id != "" {
			q.GroupInstanceId = &id
		}
		answer, err := coordinator.Heartbeat(q)
		switch {
		case err != nil: // it may be another one by now
			_ = coordinator.Close()
			return errors.Join(err, r.broker.control.RefreshCoordinator(r.sub.Group))
		case errors.Is(answer.Err, sarama.ErrNoError), errors.Is(answer.Err, sarama.ErrRebalanceInProgress):
			return nil
		case errors.Is(answer.Err, sarama.ErrNotCoordinatorForConsumer), errors.Is(answer.Err, sarama.ErrConsumerCoordinatorNotAvailable):
			return errors.Join(answer.Err, r.broker.control.RefreshCoordinator(r.sub.Group))
		}
		return answer.Err
	})
}
