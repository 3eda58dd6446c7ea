package messagingtest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy passes TCP connections on to a server, and can break them. It ends with
// its test. All methods are safe for concurrent use.
type Proxy struct {
	target string
	listen net.Listener
	dial   func(network, addr string) (net.Conn, error)
	wg     sync.WaitGroup

	mu     sync.Mutex
	ended  bool
	refuse int           // cuts under way
	stalls int           // stalls under way
	flow   chan struct{} // closed while bytes may pass
	open   map[net.Conn]struct{}
}

// NewProxy starts a proxy for the server at target, host:port, on a port of its
// own.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("proxy for %s: %v", target, err)
	}
	p := &Proxy{
		target: target, listen: l, dial: (&net.Dialer{Timeout: 5 * time.Second}).Dial, flow: make(chan struct{}), open: make(map[net.Conn]struct{}),
	}
	close(p.flow)
	p.wg.Go(p.accept)
	t.Cleanup(p.end)
	return p
}

// Addr returns the address to connect to, host:port.
func (p *Proxy) Addr() string { return p.listen.Addr().String() }

// Cut breaks every connection, closes new ones at once for d, and returns then.
func (p *Proxy) Cut(d time.Duration) {
	p.mu.Lock()
	p.refuse++
	p.closeAll()
	p.mu.Unlock()
	time.Sleep(d)
	p.mu.Lock()
	p.refuse--
	p.mu.Unlock()
}

// Stall lets no byte pass for d, in either direction and on any connection, and
// returns then. Connections stay open, as they do when a network loses packets:
// what was sent meanwhile arrives afterwards.
func (p *Proxy) Stall(d time.Duration) {
	p.mu.Lock()
	if p.stalls++; p.stalls == 1 {
		p.flow = make(chan struct{})
	}
	p.mu.Unlock()
	time.Sleep(d)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalls--; p.stalls == 0 && !p.ended {
		close(p.flow)
	}
}

func (p *Proxy) accept() {
	for {
		c, err := p.listen.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	if !p.hold(client) {
		return
	}
	defer p.drop(client)
	server, err := p.dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.hold(server) {
		return
	}
	defer p.drop(server)
	var wg sync.WaitGroup
	defer wg.Wait()
	copying := func(to, from net.Conn) {
		_, _ = io.Copy(to, &gate{p, from}) // ends when either side is closed
		_ = to.Close()
		_ = from.Close()
	}
	wg.Go(func() { copying(server, client) })
	wg.Go(func() { copying(client, server) })
}

// hold books c, unless connections are being refused.
func (p *Proxy) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.refuse > 0 {
		return false
	}
	p.open[c] = struct{}{}
	return true
}

func (p *Proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

func (p *Proxy) closeAll() {
	for c := range p.open {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // what is in buffers is lost, as in a crash
		}
		_ = c.Close()
	}
	clear(p.open)
}

func (p *Proxy) end() {
	_ = p.listen.Close()
	p.mu.Lock()
	if !p.ended && p.stalls > 0 {
		close(p.flow)
	}
	p.ended = true
	p.closeAll()
	p.mu.Unlock()
	p.wg.Wait()
}

// gate holds back what it reads while the proxy stalls.
type gate struct {
	p *Proxy
	io.Reader
}

// Read implements io.Reader.
func (g *gate) Read(b []byte) (int, error) {
	n, err := g.Reader.Read(b)
	g.p.mu.Lock()
	flow := g.p.flow
	g.p.mu.Unlock()
	<-flow
	return n, err
}
