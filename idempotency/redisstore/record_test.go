package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/idempotency"
	"github.com/mainstay-go/mainstay/internal/servertest"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: servertest.Redis(t)})
	prefix := "test:" + uuid.NewString() + ":"
	t.Cleanup(func() {
		ctx := context.Background()
		keys := client.Scan(ctx, 0, prefix+"*", 1000).Iterator()
		for keys.Next(ctx) {
			require.NoError(t, client.Del(ctx, keys.Val()).Err())
		}
		require.NoError(t, keys.Err())
		require.NoError(t, client.Close())
	})
	return New(client, &Options{Prefix: prefix})
}

var claim = idempotency.Claim{Key: idempotency.Key{Scope: "charge", ID: "order 17"}, Lease: time.Minute, TTL: time.Hour}

func TestName(t *testing.T) {
	require.Equal(t, "idempotency:{charge/order%2017}", New(nil, nil).name(claim.Key))
	braces := idempotency.Key{Scope: "}{", ID: "{}"}
	require.Equal(t, "p:{%7D%7B/%7B%7D}", New(nil, &Options{Prefix: "p:"}).name(braces), "one hash tag, whatever the key")
}

// The record is a format: other versions of this package read and write it.
func TestRecord(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	fields := func() map[string]string {
		got, err := s.client.HGetAll(ctx, s.name(claim.Key)).Result()
		require.NoError(t, err)
		return got
	}
	lives := func(want time.Duration) {
		t.Helper()
		ttl, err := s.client.PTTL(ctx, s.name(claim.Key)).Result()
		require.NoError(t, err)
		require.InDelta(t, want.Seconds(), ttl.Seconds(), 30)
	}
	c := claim
	c.Fence, c.Key.Fingerprint = 5, idempotency.Sum([]byte("body"))
	begun := time.Now()
	first, err := s.Begin(ctx, c)
	require.NoError(t, err)
	got := fields()
	till, err := strconv.ParseInt(got["u"], 10, 64)
	require.NoError(t, err)
	require.WithinDuration(t, begun.Add(time.Minute), time.UnixMicro(till), 10*time.Second)
	require.Len(t, got["x"], 8)
	require.Equal(t, map[string]string{
		"v": "1", "s": "h", "f": fmt.Sprint(first.Token.Fence), "n": "1", "u": got["u"], "x": got["x"],
		"c": "5", "p": string(c.Key.Fingerprint[:]),
	}, got)
	require.WithinDuration(t, begun, time.UnixMicro(first.Token.Fence), 10*time.Second)
	lives(time.Hour)

	require.NoError(t, s.Renew(ctx, first.Token, 2*time.Hour))
	lives(2 * time.Hour)
	require.NoError(t, s.Abort(ctx, first.Token))
	require.Equal(t, map[string]string{
		"v": "1", "s": "f", "f": fmt.Sprint(first.Token.Fence), "n": "1", "c": "5", "p": string(c.Key.Fingerprint[:]),
	}, fields())
	lives(2 * time.Hour)

	second, err := s.Begin(ctx, c)
	require.NoError(t, err)
	require.NoError(t, s.Complete(ctx, second.Token, []byte("r"), 3*time.Hour))
	require.Equal(t, map[string]string{
		"v": "1", "s": "d", "f": fmt.Sprint(second.Token.Fence), "n": "2", "c": "5", "p": string(c.Key.Fingerprint[:]), "r": "r",
	}, fields())
	lives(3 * time.Hour)
}

// A record of a version to come is refused by name, and left as it is.
func TestUnknownVersion(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	token := idempotency.Token{Key: claim.Key, Fence: 7}
	require.NoError(t, s.client.HSet(ctx, s.name(claim.Key), "v", "2", "s", "h", "f", "7", "new", "field").Err())
	_, err := s.Begin(ctx, claim)
	for op, err := range map[string]error{
		"begin":    err,
		"renew":    s.Renew(ctx, token, time.Minute),
		"complete": s.Complete(ctx, token, nil, time.Minute),
		"abort":    s.Abort(ctx, token),
	} {
		require.EqualError(t, err, "idempotency: "+op+` charge/order%2017: the record has format version "2", known is 1: a newer version of this package wrote it`)
	}
	got, err := s.client.HGetAll(ctx, s.name(claim.Key)).Result()
	require.NoError(t, err)
	require.Equal(t, map[string]string{"v": "2", "s": "h", "f": "7", "new": "field"}, got)
}

// go-redis sends a command again when the answer was lost. The claim that took
// the key must then get it, not find it in progress.
func TestBeginSentTwice(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	args := []any{"", time.Minute.Microseconds(), time.Hour.Milliseconds(), int64(0), "nonce-01"}
	first, err := s.run(ctx, beginScript, claim.Key, args...)
	require.NoError(t, err)
	require.Equal(t, "acquired", first.text(0))
	second, err := s.run(ctx, beginScript, claim.Key, args...)
	require.NoError(t, err)
	require.Equal(t, first[:3], second[:3], "the same answer, attempt and fence")
	require.Positive(t, second.number(3))
	out, err := s.Begin(ctx, claim)
	require.NoError(t, err)
	require.Equal(t, idempotency.InProgress, out.State)
	require.Equal(t, 1, out.Attempt)
}

// lossy loses the answer of the first script of each kind, after the server has
// run it; go-redis then sends it again.
type lossy struct {
	redis.Hook

	mu   sync.Mutex
	lost map[string]bool
}

func TestLostAnswers(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	hook := &lossy{lost: map[string]bool{}}
	s.client.AddHook(hook)
	out, err := s.Begin(ctx, claim)
	require.NoError(t, err)
	require.Equal(t, idempotency.Acquired, out.State)
	require.Equal(t, 1, out.Attempt)
	require.NoError(t, s.Renew(ctx, out.Token, time.Minute))
	require.NoError(t, s.Complete(ctx, out.Token, []byte("r"), time.Minute))
	require.Len(t, hook.lost, 3)

	other := claim
	other.Key.ID = "18"
	out, err = s.Begin(ctx, other)
	require.NoError(t, err)
	require.NoError(t, s.Abort(ctx, out.Token))
	require.Len(t, hook.lost, 4)
}

func (h *lossy) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *lossy) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *lossy) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		script := fmt.Sprint(cmd.Args()[1])
		h.mu.Lock()
		again := cmd.Name() == "evalsha" && err == nil && !h.lost[script]
		if again {
			h.lost[script] = true
		}
		h.mu.Unlock()
		if again {
			return next(ctx, cmd) // the second answer overwrites the first
		}
		return err
	}
}

// A server that lost its script cache, by a restart or a fail-over, is given
// the scripts again.
func TestScriptsAreLoadedAgain(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	require.NoError(t, s.client.ScriptFlush(ctx).Err())
	out, err := s.Begin(ctx, claim)
	require.NoError(t, err)
	require.NoError(t, s.client.ScriptFlush(ctx).Err())
	require.NoError(t, s.Renew(ctx, out.Token, time.Minute))
	require.NoError(t, s.client.ScriptFlush(ctx).Err())
	require.NoError(t, s.Complete(ctx, out.Token, nil, time.Minute))
}

// A clock that was set back does not bring a fence back while the record lives.
func TestFencesRiseWithoutTheClock(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	ahead := time.Now().Add(24 * time.Hour).UnixMicro()
	require.NoError(t, s.client.HSet(ctx, s.name(claim.Key), "v", "1", "s", "f", "f", ahead, "n", "1").Err())
	out, err := s.Begin(ctx, claim)
	require.NoError(t, err)
	require.Equal(t, ahead+1, out.Token.Fence)
	require.Equal(t, 2, out.Attempt)
}

func TestServerUnreachable(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	_, err := New(client, nil).Begin(t.Context(), claim)
	require.ErrorContains(t, err, "idempotency: begin charge/order%2017: dial tcp 127.0.0.1:1")
	e, ok := errors.AsType[*idempotency.Error](err)
	require.True(t, ok)
	require.Equal(t, claim.Key, e.Key)
	for _, known := range []error{idempotency.ErrStale, idempotency.ErrKey, idempotency.ErrFull, idempotency.ErrInProgress} {
		require.NotErrorIs(t, err, known)
	}

}

func TestNameUsedBySomethingElse(t *testing.T) {
	s := newStore(t)
	require.NoError(t, s.client.Set(t.Context(), s.name(claim.Key), "text", 0).Err())
	_, err := s.Begin(t.Context(), claim)
	require.ErrorContains(t, err, "WRONGTYPE")
}

// The package says what a record costs.
func TestBytesPerRecord(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	k := idempotency.Key{Scope: "billing/orders/inbox", ID: uuid.NewString()}
	out, err := s.Begin(ctx, idempotency.Claim{Key: k, Lease: time.Minute})
	require.NoError(t, err)
	require.NoError(t, s.Complete(ctx, out.Token, nil, time.Hour))
	bytes, err := s.client.MemoryUsage(ctx, s.name(k)).Result()
	require.NoError(t, err)
	t.Logf("%d bytes with a name of %d", bytes, len(s.name(k)))
	require.Less(t, bytes, int64(400))
}

// Sixteen callers of each of two stores of one server, as of two processes,
// run an effect once between them.
func TestTwoProcesses(t *testing.T) {
	s := newStore(t)
	other := redis.NewClient(&redis.Options{Addr: servertest.Redis(t)})
	defer other.Close()
	guards := []*idempotency.Guard{
		idempotency.New(s, nil),
		idempotency.New(New(other, &Options{Prefix: s.prefix}), nil),
	}
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		runs  int
	)
	for i := range 32 {
		group.Go(func() {
			for {
				v, err := idempotency.Do(t.Context(), guards[i%2], claim.Key, func(context.Context) (int, error) {
					mu.Lock()
					defer mu.Unlock()
					runs++
					return 41 + runs, nil
				})
				if errors.Is(err, idempotency.ErrInProgress) {
					time.Sleep(time.Millisecond)
					continue
				}
				if err != nil || v != 42 {
					t.Errorf("got %d, %v", v, err)
				}
				return
			}
		})
	}
	group.Wait()
	require.Equal(t, 1, runs)
}
