package rabbitmq

import (
	"net"
	"sync"
	"time"
)

// stuck is how long the server may not read what is written to it. The client
// holds its locks while it writes, also the one that its own end needs: a write
// must end by itself.
const stuck = 30 * time.Second

// What is gathered is written when it is least, then twice as much each time up
// to most: the server begins while the rest is being made.
const (
	least = 4 << 10
	most  = 64 << 10
)

// guard is a connection whose writes end, and that can be cut at any time, even
// before it is made. The client writes each message by itself; between gather
// and flush they are written together, which costs both sides a fraction.
type guard struct {
	net.Conn // nil until hold
	mu       sync.Mutex
	next     time.Time // when the deadline of writes must be moved

	writing   sync.Mutex // held while bytes go to the connection or into gathered
	gathering bool
	gathered  []byte
	enough    int // bytes that are written at once
}

func (g *guard) hold(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.Conn = c
}

func (g *guard) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.Conn != nil {
		_ = g.Close()
	}
}

// SetDeadline implements net.Conn: the client takes deadlines off once.
func (g *guard) SetDeadline(t time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next = time.Time{}
	return g.Conn.SetDeadline(t)
}

// gather has what is written from now on wait for flush, or until it is enough.
func (g *guard) gather() {
	g.writing.Lock()
	defer g.writing.Unlock()
	g.gathering, g.enough = true, least
}

// flush writes what was gathered. An error has cut the connection, which is how
// the client hears of it.
func (g *guard) flush() {
	g.writing.Lock()
	defer g.writing.Unlock()
	g.gathering = false
	if err := g.out(); err != nil {
		g.cut()
	}
}

// Write implements net.Conn.
func (g *guard) Write(b []byte) (int, error) {
	g.writing.Lock()
	defer g.writing.Unlock()
	if !g.gathering {
		return g.write(b)
	}
	if g.gathered = append(g.gathered, b...); len(g.gathered) >= g.enough {
		g.enough = min(2*g.enough, most)
		if err := g.out(); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func (g *guard) out() error {
	if len(g.gathered) == 0 {
		return nil
	}
	_, err := g.write(g.gathered)
	if g.gathered = g.gathered[:0]; cap(g.gathered) > 4*most { // after a large message
		g.gathered = nil
	}
	return err
}

// write moves the deadline once a second, because that is dear: a write may take
// a second less than stuck.
func (g *guard) write(b []byte) (int, error) {
	g.mu.Lock()
	if now := time.Now(); now.After(g.next) {
		g.next = now.Add(time.Second)
		if err := g.SetWriteDeadline(now.Add(stuck)); err != nil {
			g.mu.Unlock()
			return 0, err
		}
	}
	g.mu.Unlock()
	return g.Conn.Write(b)
}
