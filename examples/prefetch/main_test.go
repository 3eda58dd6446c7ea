package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
)

func call(args ...string) (code int, out, problems string) {
	var o, p bytes.Buffer
	code = run(args, &o, &p)
	return code, o.String(), p.String()
}

func TestShortRunOnARealServer(t *testing.T) {
	url := servertest.AMQP(t)
	svg := filepath.Join(t.TempDir(), "curve.svg")
	code, out, problems := call("-url", url, "-each", "50ms", "-capacity", "4", "-answer", "1ms", "-concurrency", "2", "-most", "8", "-svg", svg)
	require.Equal(t, exitDone, code, problems)
	require.Empty(t, problems)
	var settings []string
	for _, row := range regexp.MustCompile(`(?m)^ *(\d+) +(\d+) +\d+ +\S+s +\S+s$`).FindAllStringSubmatch(out, -1) {
		settings = append(settings, row[1]+"/"+row[2])
	}
	require.Equal(t, []string{"2/2", "2/4", "2/8", "1/2", "2/4", "4/8"}, settings, out)
	b, err := os.ReadFile(svg)
	require.NoError(t, err)
	require.Equal(t, 4, strings.Count(string(b), "<polyline "))
	require.Equal(t, 12, strings.Count(string(b), "<circle "))
}

func TestNothingIsLeftOnTheServer(t *testing.T) {
	url := servertest.AMQP(t)
	q, err := openQueue(t.Context(), url)
	require.NoError(t, err)
	require.NoError(t, q.fill(t.Context(), 10))
	require.NoError(t, q.close())
	c, err := amqp.Dial(url)
	require.NoError(t, err)
	defer c.Close()
	for _, gone := range []func(*amqp.Channel) error{
		func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclarePassive(q.topic+"/"+group, true, false, false, false, nil)
			return err
		},
		func(ch *amqp.Channel) error {
			return ch.ExchangeDeclarePassive(q.topic, "topic", true, false, false, false, nil)
		},
		func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclarePassive(q.topic+".dead.unclaimed", true, false, false, false, nil)
			return err
		},
	} {
		ch, err := c.Channel()
		require.NoError(t, err)
		var e *amqp.Error
		require.ErrorAs(t, gone(ch), &e)
		require.Equal(t, amqp.NotFound, e.Code)
	}
}

func TestWhatCannotBeRunIsRefusedInOneSentence(t *testing.T) {
	t.Setenv("MAINSTAY_AMQP_URL", "")
	for want, args := range map[string][]string{
		"start one with eval":         nil,
		`"now" is not a flag`:         {"now"},
		"-each is 0s":                 {"-each", "0s"},
		"-capacity is 0":              {"-capacity", "0"},
		"-answer is -1s":              {"-answer", "-1s"},
		"-most is 1":                  {"-most", "1"},
		"-concurrency is 9":           {"-concurrency", "9", "-most", "8"},
		"flag provided but":           {"-no-such"},
		"AMQP scheme must be either":  {"-url", "http://me:secret@localhost"},
		"rabbitmq at 127.0.0.1:1/v: ": {"-url", "amqp://me:secret@127.0.0.1:1/v"},
	} {
		code, out, problems := call(args...)
		require.Equal(t, exitFailed, code, want)
		require.Contains(t, problems, want)
		require.Equal(t, 1, strings.Count(problems, "\n"), problems)
		require.Empty(t, out)
		require.NotContains(t, problems, "secret")
	}
}

func TestHelpShowsNoPassword(t *testing.T) {
	t.Setenv("MAINSTAY_AMQP_URL", "amqp://me:secret@localhost/")
	code, _, problems := call("-h")
	require.Equal(t, exitDone, code)
	require.Contains(t, problems, "usage: prefetch")
	require.NotContains(t, problems, "secret")
}

func TestTheDependencyServesSoManyAtATime(t *testing.T) {
	h := dependency(3, time.Millisecond)
	var wg sync.WaitGroup
	begin := time.Now()
	for range 12 {
		wg.Go(func() {
			if err := h(t.Context(), &messaging.Delivery{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.GreaterOrEqual(t, time.Since(begin), 4*time.Millisecond, "12 of them, 3 at a time")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, h(ended, &messaging.Delivery{}), context.Canceled)
}
