package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// failing counts its runs and returns errs in turn, then 1.
func failing(runs *int, errs ...error) concurrency.Op[int] {
	return concurrency.Idempotent(func(context.Context) (int, error) {
		*runs++
		if *runs <= len(errs) {
			return -*runs, errs[*runs-1]
		}
		return 1, nil
	})
}

func TestRetry(t *testing.T) {
	temporary := errors.New("temporary")
	for name, c := range map[string]struct {
		policy *concurrency.RetryPolicy
		errs   []error
		runs   int
		value  int
		want   error
	}{
		"succeeds":         {nil, nil, 1, 1, nil},
		"third time lucky": {nil, []error{errBoom, errBoom}, 3, 1, nil},
		"three by default": {nil, []error{errBoom, errBoom, temporary, errBoom}, 3, -3, temporary},
		"attempts":         {&concurrency.RetryPolicy{Attempts: 2}, []error{errBoom, temporary, nil}, 2, -2, temporary},
		"never":            {&concurrency.RetryPolicy{Attempts: 1}, []error{errBoom}, 1, -1, errBoom},
		"permanent":        {nil, []error{temporary, fmt.Errorf("x: %w", concurrency.Permanent(errBoom))}, 2, -2, errBoom},
		"not retryable": {&concurrency.RetryPolicy{Retryable: func(err error) bool { return errors.Is(err, temporary) }},
			[]error{temporary, errBoom}, 2, -2, errBoom},
	} {
		synctest.Test(t, func(t *testing.T) {
			runs := 0
			v, err := concurrency.Retry(t.Context(), c.policy, failing(&runs, c.errs...))
			if v != c.value || runs != c.runs || !errors.Is(err, c.want) {
				t.Errorf("%s: %d after %d runs, %v", name, v, runs, err)
			}
			if want := fmt.Sprintf("concurrency: run %d: ", runs); err != nil && runs > 1 && err.Error()[:len(want)] != want {
				t.Errorf("%s: the error does not say how many runs there were: %v", name, err)
			}
		})
	}
}

func TestRetryWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		start := time.Now()
		_, err := concurrency.Retry(t.Context(), &concurrency.RetryPolicy{Backoff: concurrency.Backoff{Min: time.Second, Max: time.Second}},
			failing(&runs, errBoom, concurrency.RetryAfter(errBoom, time.Hour)))
		if took := time.Since(start); err != nil || took < time.Hour || took > time.Hour+time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// Sleeping up to the deadline only to fail wastes what time there was, and
// hides the error that tells why.
func TestRetryNeverSleepsPastTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		runs := 0
		start := time.Now()
		_, err := concurrency.Retry(ctx, nil, failing(&runs, concurrency.RetryAfter(errBoom, time.Minute)))
		if !errors.Is(err, errBoom) || runs != 1 || time.Since(start) != 0 {
			t.Errorf("%v, %d runs in %v", err, runs, time.Since(start))
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the deadline has not passed: %v", err)
		}
	})
}

func TestRetryCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reason := errors.New("user left")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(reason) })
		runs := 0
		start := time.Now()
		_, err := concurrency.Retry(ctx, nil, failing(&runs, concurrency.RetryAfter(errBoom, time.Hour)))
		if !errors.Is(err, errBoom) || !errors.Is(err, reason) || !errors.Is(err, context.Canceled) || runs != 1 || time.Since(start) != time.Second {
			t.Errorf("while waiting: %v, %d runs in %v", err, runs, time.Since(start))
		}
		if _, err := concurrency.Retry(ctx, nil, failing(&runs)); !errors.Is(err, reason) || runs != 1 {
			t.Errorf("before the first run: %v, %d runs", err, runs)
		}

		ctx, cancel = context.WithCancelCause(t.Context())
		runs = 0
		_, err = concurrency.Retry(ctx, nil, concurrency.Idempotent(func(ctx context.Context) (int, error) {
			runs++
			cancel(reason)
			return 0, ctx.Err()
		}))
		if !errors.Is(err, reason) || runs != 1 {
			t.Errorf("during a run: %v, %d runs", err, runs)
		}
	})
}

func TestOp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var keys []string
		keyed := func(_ context.Context, key string) (int, error) { keys = append(keys, key); return 0, errBoom }
		_, _ = concurrency.Retry(t.Context(), nil, concurrency.Keyed("k", keyed))
		if fmt.Sprint(keys) != "[k k k]" {
			t.Errorf("keys %q", keys)
		}
		_, err := concurrency.Retry(t.Context(), nil, concurrency.Keyed("", keyed))
		if permanent, _ := concurrency.Advice(err); !permanent || len(keys) != 3 {
			t.Errorf("empty key: %v, keys %q", err, keys)
		}
		_, err = concurrency.Retry(t.Context(), nil, concurrency.Op[int]{})
		if permanent, _ := concurrency.Advice(err); !permanent {
			t.Errorf("zero Op: %v", err)
		}
	})
}

func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		b    concurrency.Backoff
		n    int
		most time.Duration
	}{
		{concurrency.Backoff{}, 1, 50 * time.Millisecond},
		{concurrency.Backoff{}, 0, 50 * time.Millisecond},
		{concurrency.Backoff{}, -7, 50 * time.Millisecond},
		{concurrency.Backoff{}, 4, 400 * time.Millisecond},
		{concurrency.Backoff{}, 8, 5 * time.Second},
		{concurrency.Backoff{}, math.MaxInt, 5 * time.Second},
		{concurrency.Backoff{Min: 10 * time.Second}, 3, 10 * time.Second},
		{concurrency.Backoff{Min: 10 * time.Second, Max: time.Second}, 3, 10 * time.Second},
		{concurrency.Backoff{Min: -1, Max: -1}, 2, 100 * time.Millisecond},
		{concurrency.Backoff{Min: 1, Max: math.MaxInt64}, math.MaxInt, 1 << 62},
		{concurrency.Backoff{Min: math.MaxInt64}, 1, 1 << 62},
	} {
		const draws = 4000
		var sum float64
		var top time.Duration
		for range draws {
			d := c.b.Delay(c.n)
			if d < 0 || d > c.most {
				t.Fatalf("%+v.Delay(%d) = %v, most is %v", c.b, c.n, d, c.most)
			}
			sum += float64(d) / float64(c.most)
			top = max(top, d)
		}
		// Uniform in [0, most]: the mean of 4000 has a standard deviation of
		// 0.0046, and the chance of a maximum below 0.99 is 3e-18.
		if mean := sum / draws; math.Abs(mean-0.5) > 0.03 || float64(top) < 0.99*float64(c.most) {
			t.Errorf("%+v.Delay(%d): mean %.3f, maximum %v of %v", c.b, c.n, mean, top, c.most)
		}
	}
}

func TestMarks(t *testing.T) {
	if concurrency.Permanent(nil) != nil || concurrency.RetryAfter(nil, 1) != nil {
		t.Error("no error, no mark")
	}
	for name, c := range map[string]struct {
		err       error
		permanent bool
		after     time.Duration
	}{
		"nil":       {nil, false, 0},
		"plain":     {errBoom, false, 0},
		"permanent": {concurrency.Permanent(errBoom), true, 0},
		"after":     {concurrency.RetryAfter(errBoom, time.Second), false, time.Second},
		"negative":  {concurrency.RetryAfter(errBoom, -time.Second), false, 0},
		"wrapped":   {fmt.Errorf("x: %w", concurrency.RetryAfter(errBoom, time.Second)), false, time.Second},
		"joined":    {errors.Join(errors.New("x"), concurrency.Permanent(errBoom)), true, 0},
		"both":      {concurrency.Permanent(concurrency.RetryAfter(errBoom, time.Second)), true, time.Second},
		"outermost": {concurrency.RetryAfter(concurrency.RetryAfter(errBoom, time.Hour), time.Second), false, time.Second},
	} {
		permanent, after := concurrency.Advice(c.err)
		if permanent != c.permanent || after != c.after {
			t.Errorf("%s: %v, %v", name, permanent, after)
		}
		if c.err != nil && !errors.Is(c.err, errBoom) {
			t.Errorf("%s hides the error", name)
		}
	}
	if got := concurrency.Permanent(errBoom).Error() + concurrency.RetryAfter(errBoom, 1).Error(); got != "boomboom" {
		t.Errorf("marks change the text: %q", got)
	}
}
