package sagatest

import (
	"context"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/saga"
)

// A runner makes few calls at a time, and a saga may wait for the others' as long
// as it takes. To make the explored one wait, another takes the only slot.

// occupier is the definition of that other saga. Whoever takes one over ends it.
func (p *process[S]) occupier() *saga.Definition[struct{}] {
	return saga.Define("sagatest.occupier", 1, nil, saga.Pivot("occupy",
		func(ctx context.Context, c saga.Call, _ struct{}) (struct{}, error) {
			p.mu.Lock()
			mine := c.Saga == p.occupying
			p.mu.Unlock()
			if mine {
				close(p.occupied)
				select {
				case <-p.free:
				case <-ctx.Done():
				}
			}
			return struct{}{}, nil
		}, nil).With(saga.StepOptions{Timeout: 2 * week}))
}

// occupy returns when the other saga has the slot.
func (p *process[S]) occupy() error {
	p.w.mu.Lock()
	id := fmt.Sprintf("%s beside %d", sagaID, len(p.w.zombies))
	p.w.mu.Unlock()
	p.mu.Lock()
	p.occupying = id
	p.mu.Unlock()
	if err := p.occupier().Start(context.Background(), p.runner, id, struct{}{}); err != nil {
		return err
	}
	<-p.occupied
	return nil
}

// comeBack lets a process that was cut off reach the store again, and when its
// heart beats, makes it the explored saga's turn.
func (p *process[S]) comeBack() {
	p.mu.Lock()
	cut := p.occupying != ""
	if cut {
		p.frozen, p.back = false, true
	}
	p.mu.Unlock()
	if !cut {
		return
	}
	time.Sleep(lease)
	close(p.free)
	time.Sleep(lease)
}

func (p *process[S]) isBack() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.back
}
