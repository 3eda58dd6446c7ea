package messaging_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/memory"
)

var texts = messaging.NewTopic("t", messaging.JSON[string]())

// Each message of a batch has its own outcome.
func TestBatchOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		var (
			mu    sync.Mutex
			sizes []int
			runs  = map[string]int{}
		)
		stop := start(t, consumer(t, b, nil, texts.OnBatch(5, time.Second, func(_ context.Context, vs []string, ds []*messaging.Delivery) []error {
			mu.Lock()
			defer mu.Unlock()
			sizes = append(sizes, len(vs))
			errs := make([]error, len(vs))
			for i, v := range vs {
				if ds[i].Key != v {
					errs[i] = fmt.Errorf("delivery of %q beside value %q", ds[i].Key, v)
					continue
				}
				runs[v]++
				switch {
				case v == "bad":
					errs[i] = messaging.Permanent(errBroken)
				case v == "later" && ds[i].Attempt == 1:
					errs[i] = errBroken
				case v == "unwanted":
					errs[i] = messaging.Discard("not wanted")
				}
			}
			return errs
		})))
		dead, stopDead := deadLetters(t, b, "t.dead")
		undecodable := &messaging.Message{ID: "x", Topic: "t", Key: "x", Body: []byte("{")}
		require.NoError(t, b.Publisher().Publish(t.Context(), undecodable))
		for _, v := range []string{"a", "bad", "later", "unwanted", "e", "f"} {
			require.NoError(t, texts.Publish(t.Context(), b.Publisher(), v, v))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.NoError(t, stop())
		require.NoError(t, stopDead())
		require.Equal(t, map[string]int{"a": 1, "bad": 1, "later": 2, "unwanted": 1, "e": 1, "f": 1}, runs)
		require.Equal(t, []int{5, 1, 1}, sizes, "full, then what is left after the wait, then the retry")
		got := map[string]string{}
		for range 2 {
			d := <-dead
			got[d.Key] = string(d.Body) + " " + d.LastError
		}
		require.Equal(t, `"bad" broken`, got["bad"])
		require.True(t, strings.HasPrefix(got["x"], "{ decode: "), got["x"])
	})
}

// A batch never has two messages of a key, and order per key holds over batches.
func TestBatchKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		var (
			mu   sync.Mutex
			seen = map[string][]string{}
			bad  []string
		)
		o := &messaging.ConsumerOptions{Concurrency: 16, Retry: messaging.RetryPolicy{Delays: []time.Duration{time.Second}}}
		stop := start(t, consumer(t, b, o, texts.OnBatch(4, 50*time.Millisecond, func(_ context.Context, vs []string, ds []*messaging.Delivery) []error {
			keys := map[string]bool{}
			errs := make([]error, len(vs))
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			if len(vs) > 4 {
				bad = append(bad, "too large")
			}
			for i, d := range ds {
				if keys[d.Key] {
					bad = append(bad, d.Key)
				}
				keys[d.Key] = true
				if strings.HasSuffix(vs[i], "3") && d.Attempt == 1 {
					errs[i] = errBroken
					continue
				}
				seen[d.Key] = append(seen[d.Key], vs[i])
			}
			return errs
		})))
		var want []string
		for n := range 10 {
			want = append(want, fmt.Sprint(n))
			for k := range 7 {
				require.NoError(t, texts.Publish(t.Context(), b.Publisher(), fmt.Sprint("k", k), fmt.Sprint(n)))
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.NoError(t, stop())
		require.Empty(t, bad)
		require.Len(t, seen, 7)
		for _, got := range seen {
			require.Equal(t, want, got)
		}
	})
}

// What goes wrong with all of a batch is each one's failure.
func TestBatchThatFailsAsAWhole(t *testing.T) {
	for name, fail := range map[string]func(context.Context, []string) []error{
		"panic":  func(context.Context, []string) []error { panic("oh") },
		"length": func(context.Context, []string) []error { return []error{nil} },
		"timeout": func(ctx context.Context, vs []string) []error {
			<-ctx.Done()
			return slices.Repeat([]error{ctx.Err()}, len(vs))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := memory.New(nil)
				var calls [][]string
				o := &messaging.ConsumerOptions{Timeout: 5 * time.Second, Retry: messaging.RetryPolicy{MaxAttempts: 2, Delays: []time.Duration{time.Second}}}
				stop := start(t, consumer(t, b, o, texts.OnBatch(3, time.Second, func(ctx context.Context, vs []string, _ []*messaging.Delivery) []error {
					calls = append(calls, slices.Sorted(slices.Values(vs)))
					return fail(ctx, vs)
				})))
				dead, stopDead := deadLetters(t, b, "t.dead")
				for _, v := range []string{"a", "b", "c"} {
					require.NoError(t, texts.Publish(t.Context(), b.Publisher(), v, v))
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				require.NoError(t, stop())
				require.NoError(t, stopDead())
				require.Equal(t, [][]string{{"a", "b", "c"}, {"a", "b", "c"}}, calls)
				require.Len(t, dead, 3)
			})
		})
	}
}

// The end of Run lets a batch that gathers be handled, without waiting for more than its wait.
func TestBatchAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		got := make(chan int, 10)
		stop := start(t, consumer(t, b, nil, texts.OnBatch(5, 10*time.Second, func(_ context.Context, vs []string, _ []*messaging.Delivery) []error {
			got <- len(vs)
			return nil
		})))
		require.NoError(t, texts.Publish(t.Context(), b.Publisher(), "a", "a"))
		require.NoError(t, texts.Publish(t.Context(), b.Publisher(), "b", "b"))
		synctest.Wait()
		begin := time.Now()
		require.NoError(t, stop())
		require.Equal(t, 10*time.Second, time.Since(begin))
		require.Equal(t, 2, <-got)
		require.Empty(t, got)
	})
}

func TestBatchesThatCannotWork(t *testing.T) {
	b := memory.New(nil)
	f := func(context.Context, []string, []*messaging.Delivery) []error { return nil }
	for _, x := range []struct {
		want string
		o    messaging.ConsumerOptions
		r    messaging.Route
	}{
		{"at least 1", messaging.ConsumerOptions{}, texts.OnBatch(0, time.Second, f)},
		{"never be full", messaging.ConsumerOptions{Concurrency: 9}, texts.OnBatch(10, time.Second, f)},
		{"must be positive", messaging.ConsumerOptions{}, texts.OnBatch(10, 0, f)},
		{"would time out", messaging.ConsumerOptions{Timeout: time.Second}, texts.OnBatch(10, time.Second, f)},
		{"cut off", messaging.ConsumerOptions{Drain: time.Second}, texts.OnBatch(10, time.Second, f)},
		{"no handler", messaging.ConsumerOptions{}, texts.OnBatch(10, time.Second, nil)},
		{"Prefetch 20 is below Concurrency 100", messaging.ConsumerOptions{Prefetch: 20}, texts.OnBatch(100, time.Second, f)},
	} {
		_, err := b.Consumer("g", &x.o, x.r)
		require.ErrorIs(t, err, messaging.ErrConfig)
		require.ErrorContains(t, err, x.want)
	}
	_, err := b.Consumer("g", nil, texts.OnBatch(100, time.Second, f))
	require.NoError(t, err, "Concurrency follows")
}
