package messagingtest

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echo answers what it is sent.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func ask(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 5))
	return err
}

func TestProxyCuts(t *testing.T) {
	p := NewProxy(t, echo(t))
	c, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, ask(c))
	done := make(chan struct{})
	go func() {
		p.Cut(300 * time.Millisecond)
		close(done)
	}()
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err, "the connection is broken")
	during, err := net.Dial("tcp", p.Addr())
	if err == nil {
		defer during.Close()
		require.Error(t, ask(during), "no new one meanwhile")
	}
	<-done
	after, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	defer after.Close()
	require.NoError(t, ask(after))
}

func TestProxyStalls(t *testing.T) {
	p := NewProxy(t, echo(t))
	c, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, ask(c))
	begun, ended := make(chan struct{}), make(chan time.Time, 1)
	go func() {
		close(begun)
		p.Stall(300 * time.Millisecond)
		ended <- time.Now()
	}()
	<-begun
	for { // until an answer is held back, and comes all the same
		require.NoError(t, ask(c))
		select {
		case <-ended:
			return
		default:
		}
	}
}
