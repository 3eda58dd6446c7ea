package saga

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// once returns a saga of one step, and how often it was called for each ID.
func once() (*Definition[order], map[string]int) {
	calls := map[string]int{}
	return Define("d", 1, nil, Pivot("p", func(_ context.Context, c Call, _ order) (string, error) {
		calls[c.Saga]++
		return "p", nil
	}, (*order).add)), calls
}

// What was claimed by a call whose answer was lost is found and executed, also
// if the store applied it long after.
func TestClaimWhoseAnswerIsLost(t *testing.T) {
	for _, late := range []time.Duration{0, 20 * time.Second, 10 * time.Minute} {
		t.Run(late.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, calls := once()
				store := &lossyStore{MemoryStore: NewMemoryStore(), claims: 2, late: late}
				r := runner(t, store, &Options{Concurrency: 1}, d)
				const sagas = 3 * heldPerSlot
				for i := range sagas {
					require.NoError(t, d.Start(t.Context(), r, fmt.Sprint(i), order{}))
				}
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				stop := start(t, r)
				for i := range sagas {
					_, err := d.Wait(ctx, r, fmt.Sprint(i))
					require.NoError(t, err)
				}
				require.Less(t, time.Since(began), 2*late+20*time.Second)
				stop()
				require.Len(t, calls, sagas)
				for id, n := range calls {
					require.Equal(t, 1, n, id)
				}
			})
		})
	}
}

// So is what was created when its execution had looked for it already.
func TestCreateThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, calls := once()
		store := &lossyStore{MemoryStore: NewMemoryStore(), creates: 1, late: time.Minute}
		r := runner(t, store, nil, d)
		stop := start(t, r)
		synctest.Wait()
		require.ErrorIs(t, d.Start(t.Context(), r, "1", order{}), errLost)
		time.Sleep(3 * time.Minute)
		info, err := r.Get(t.Context(), "1")
		require.NoError(t, err)
		require.Equal(t, Completed, info.Status)
		stop()
		require.Equal(t, map[string]int{"1": 1}, calls)
	})
}

// The search costs little: it ends, and is not repeated at every lost answer.
func TestTheSearchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := once()
		store := &lossyStore{MemoryStore: NewMemoryStore(), creates: 60}
		r := runner(t, store, nil, d)
		stop := start(t, r)
		synctest.Wait()
		for i := range 60 {
			require.ErrorIs(t, d.Start(t.Context(), r, fmt.Sprint(i), order{}), errLost)
			time.Sleep(time.Second)
		}
		require.LessOrEqual(t, store.searches(), 5, "in a minute, with a lease of 15 s")
		time.Sleep(2 * time.Hour)
		scans := store.searches()
		require.LessOrEqual(t, scans, 20)
		time.Sleep(2 * time.Hour)
		require.Equal(t, scans, store.searches())
		stop()
	})
}

var errLost = errors.New("the answer is lost")

// lossyStore loses the answers of the first Creates, and of the first Claims, and
// applies them late.
type lossyStore struct {
	*MemoryStore

	mu              sync.Mutex
	creates, claims int // still to be lost
	late            time.Duration
	lost            time.Time // the last answer
	scans           int
}

func (l *lossyStore) lose(left *int, do func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if *left == 0 {
		return nil
	}
	*left--
	l.lost = time.Now()
	if l.late == 0 {
		do()
	} else {
		time.AfterFunc(l.late, do)
	}
	return errLost
}

func (l *lossyStore) Create(ctx context.Context, r Record) error {
	if err := l.lose(&l.creates, func() { _ = l.MemoryStore.Create(context.WithoutCancel(ctx), r) }); err != nil {
		return err
	}
	return l.MemoryStore.Create(ctx, r)
}

func (l *lossyStore) Claim(ctx context.Context, owner string, shapes []Shape, limit int) ([]Record, error) {
	err := l.lose(&l.claims, func() { _, _ = l.MemoryStore.Claim(context.WithoutCancel(ctx), owner, shapes, limit) })
	if err != nil || l.behind() { // what is lost comes first
		return nil, err
	}
	return l.MemoryStore.Claim(ctx, owner, shapes, limit)
}

func (l *lossyStore) behind() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.lost.Add(l.late))
}

func (l *lossyStore) searches() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.scans
}

func (l *lossyStore) Scan(ctx context.Context, q Query) iter.Seq2[Record, error] {
	l.mu.Lock()
	l.scans++
	l.mu.Unlock()
	return l.MemoryStore.Scan(ctx, q)
}
