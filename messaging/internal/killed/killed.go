// Package killed runs consumers in processes of their own and kills them, for
// the tests of adapters.
package killed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/messaging"
)

// delay of each retry. A broker may need most of it to notice a death.
const delay = 15 * time.Second

// Retries fails a message in two processes, one after the other, kills each
// with SIGKILL while the retry waits, and handles it here: its attempts are
// counted on, it comes no sooner than it was due, and behind it its key in
// order. The test that calls it is what the processes run, and does nothing
// else; open connects to the broker.
func Retries(t *testing.T, open func(*testing.T) *messaging.Broker, order messaging.Order) {
	t.Helper()
	if topic := os.Getenv("MAINSTAY_KILLED"); topic != "" {
		child(t, open(t), topic, order)
		return
	}
	topic := fmt.Sprintf("killed-%d", time.Now().UnixNano())
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	b := open(t)
	defer func() { _ = b.Close(context.WithoutCancel(ctx)) }()
	type run struct {
		d  *messaging.Delivery
		at time.Time
	}
	runs := make(chan run, 10)
	here, err := consumer(b, topic, order, func(_ context.Context, d *messaging.Delivery) error {
		runs <- run{d, time.Now()}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Declare(ctx, topic), here.Declare(ctx)); err != nil {
		t.Fatal(err)
	}
	var msgs []*messaging.Message
	for n := range 3 {
		msgs = append(msgs, &messaging.Message{ID: strconv.Itoa(n), Topic: topic, Key: "k"})
	}
	if order == messaging.Unordered {
		msgs = msgs[:1]
	}
	if err := b.Publisher().Publish(ctx, msgs...); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for n := 1; n <= 2; n++ {
		if got, want := victim(ctx, t, topic), fmt.Sprintf("message 0 attempt %d", n); got != want {
			t.Fatalf("process %d was given %q, want %q", n, got, want)
		}
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- here.Run(running) }()
	for n := range msgs {
		select {
		case x := <-runs:
			if x.d.ID != strconv.Itoa(n) {
				t.Fatalf("got message %s, want %d", x.d.ID, n)
			}
			if n == 0 && (x.d.Attempt != 3 || x.d.LastError != "attempt 2 fails" || x.at.Sub(begin) < 2*delay || x.d.FirstSeen.Sub(begin).Abs() > delay) {
				t.Errorf("after two processes were killed it has attempt %d after %v, last error %q, first seen %v after it was published",
					x.d.Attempt, x.at.Sub(begin), x.d.LastError, x.d.FirstSeen.Sub(begin))
			}
		case <-ctx.Done():
			t.Fatalf("message %d did not come", n)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func consumer(b *messaging.Broker, topic string, order messaging.Order, h messaging.Handler) (*messaging.Consumer, error) {
	return b.Consumer("g", &messaging.ConsumerOptions{
		Order: order, Retry: messaging.RetryPolicy{Delays: []time.Duration{delay}},
	}, messaging.On(topic, h))
}

// child fails what it is given, says so, and waits to be killed.
func child(t *testing.T, b *messaging.Broker, topic string, order messaging.Order) {
	t.Helper()
	c, err := consumer(b, topic, order, func(_ context.Context, d *messaging.Delivery) error {
		fmt.Fprintf(os.Stdout, "message %s attempt %d\n", d.ID, d.Attempt)
		return fmt.Errorf("attempt %d fails", d.Attempt)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Error("nobody killed it: ", c.Run(t.Context()))
}

// victim runs this test in a process, and kills it after it has failed a message.
func victim(ctx context.Context, t *testing.T, topic string) (got string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v") //nolint:gosec // this very test
	cmd.Env = append(os.Environ(), "MAINSTAY_KILLED="+topic)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "message ") {
			time.Sleep(2 * time.Second) // what it has to tell the broker is on its way
			return lines.Text()
		}
	}
	t.Fatal("it ended by itself: run it alone with MAINSTAY_KILLED=", topic)
	return ""
}
