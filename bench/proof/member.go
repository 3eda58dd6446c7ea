package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/rpc"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/mainstay-go/mainstay/messaging/messagingtest"
)

// place is where a peer works.
type place struct {
	Servers []string          // host:port
	Through map[string]string // proxies, by server
	Topic   string
}

// handler handles one message and returns when the ledger knows.
type handler func(ctx context.Context, id, key string) error

// beMember is a consumer process. It books every handling with its parent
// before it begins and before it is acknowledged, over stdin and stdout.
func beMember(ctx context.Context, name, at string) error {
	var p *peer
	for _, x := range peers {
		if x.broker+"/"+x.name == name {
			p = x
		}
	}
	var where place
	if err := json.Unmarshal([]byte(at), &where); err != nil || p == nil {
		return fmt.Errorf("member %q at %q: %w", name, at, err)
	}
	books := rpc.NewClient(stdio{})
	handle := func(ctx context.Context, id, key string) error {
		var token int
		if err := books.Call("Books.Begin", Delivery{ID: id, Key: key}, &token); err != nil {
			return err
		}
		d := time.Duration(rand.IntN(3000)) * time.Microsecond
		if rand.IntN(200) == 0 {
			d = 200 * time.Millisecond
		}
		pause(ctx, d)
		end := Outcome{Token: token}
		if ctx.Err() != nil {
			end.Failed = true
		}
		var none struct{}
		if err := books.Call("Books.End", end, &none); err != nil {
			return err
		}
		return context.Cause(ctx)
	}
	for ctx.Err() == nil { // whoever runs a service starts it again
		if err := p.consume(ctx, where, handle); err != nil && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		}
		pause(ctx, 300*time.Millisecond)
	}
	return nil
}

type stdio struct{}

// Read implements io.Reader. A member does not outlive its parent.
func (stdio) Read(b []byte) (int, error) {
	n, err := os.Stdin.Read(b)
	if err != nil {
		os.Exit(0)
	}
	return n, err
}

// Write implements io.Writer.
func (stdio) Write(b []byte) (int, error) { return os.Stdout.Write(b) }

// Close implements io.Closer.
func (stdio) Close() error { return os.Stdin.Close() }

// Delivery is a handling that begins.
type Delivery struct{ ID, Key string }

// Outcome is how it ended.
type Outcome struct {
	Token  int
	Failed bool
}

// Books is what members call.
type Books struct {
	ledger *messagingtest.Ledger
	mu     sync.Mutex
	last   int
	open   map[int]func(error)
}

var errDied = errors.New("the consumer died")

// Begin books a handling.
func (b *Books) Begin(d Delivery, token *int) error {
	done := b.ledger.Handled(d.ID, d.Key)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	*token = b.last
	b.open[b.last] = done
	return nil
}

// End books its end.
func (b *Books) End(o Outcome, _ *struct{}) error {
	b.mu.Lock()
	done := b.open[o.Token]
	delete(b.open, o.Token)
	b.mu.Unlock()
	if done == nil {
		return fmt.Errorf("no handling %d", o.Token)
	}
	if o.Failed {
		done(errDied)
	} else {
		done(nil)
	}
	return nil
}

// process is a running member.
type process struct {
	cmd  *exec.Cmd
	over chan struct{} // closed when it is gone and its books are closed
}

type pipes struct {
	io.Reader
	io.WriteCloser
}

// startMember starts a consumer process of p.
func startMember(p *peer, at place, ledger *messagingtest.Ledger, verbose bool) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	where, err := json.Marshal(at)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.Background(), self, "-member", p.broker+"/"+p.name, "-at", string(where)) //nolint:gosec // it is this program
	if verbose {
		cmd.Stderr = os.Stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	books := &Books{ledger: ledger, open: make(map[int]func(error))}
	server := rpc.NewServer()
	if err := server.Register(books); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	x := &process{cmd: cmd, over: make(chan struct{})}
	go func() {
		defer close(x.over)
		server.ServeConn(pipes{out, in}) // returns when everything it got is booked
		_ = cmd.Wait()                   // a killed process has an exit code
		books.mu.Lock()
		defer books.mu.Unlock()
		for _, done := range books.open {
			done(errDied)
		}
		clear(books.open)
	}()
	return x, nil
}

// kill ends it as a crash does; leave, as a deployment does.
func (x *process) kill() {
	_ = x.cmd.Process.Kill()
	<-x.over
}

func (x *process) leave() {
	_ = x.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-x.over:
	case <-time.After(30 * time.Second):
		x.kill()
	}
}
