package rabbitmq

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// written is a connection that keeps what each write brings.
type written struct {
	net.Conn
	pieces []string
	fails  error
	closed bool
}

func (w *written) Write(b []byte) (int, error) {
	if w.fails != nil {
		return 0, w.fails
	}
	w.pieces = append(w.pieces, string(b))
	return len(b), nil
}

func (w *written) Close() error {
	w.closed = true
	return nil
}

func held(t *testing.T) (*guard, *written) {
	t.Helper()
	a, b := net.Pipe() // for its deadlines
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
	})
	w := &written{Conn: a}
	g := new(guard)
	g.hold(w)
	return g, w
}

func TestWhatIsGatheredIsWrittenAtOnce(t *testing.T) {
	g, w := held(t)
	write := func(s string) {
		n, err := io.WriteString(g, s)
		require.NoError(t, err)
		require.Equal(t, len(s), n)
	}
	write("a")
	require.Equal(t, []string{"a"}, w.pieces)
	g.gather()
	write("b")
	write("c")
	require.Equal(t, []string{"a"}, w.pieces)
	g.flush()
	require.Equal(t, []string{"a", "bc"}, w.pieces)
	write("d")
	require.Equal(t, []string{"a", "bc", "d"}, w.pieces)
	g.flush()
	require.Len(t, w.pieces, 3, "there was nothing")

	g.gather()
	w.pieces = nil
	kilo := string(make([]byte, 1<<10))
	for range 250 {
		write(kilo)
	}
	var sizes []int
	for _, p := range w.pieces {
		sizes = append(sizes, len(p)>>10)
	}
	require.Equal(t, []int{4, 8, 16, 32, 64, 64}, sizes, "much does not wait")
	write("g")
	g.flush()
	require.Len(t, w.pieces[6], 62<<10+1)
	g.gather()
	write(kilo)
	write(kilo + kilo + kilo)
	require.Len(t, w.pieces, 8, "the next begins with few")
	g.flush()
}

// The client believes that what was gathered is written: it must hear.
func TestAFailureToFlushCutsTheConnection(t *testing.T) {
	g, w := held(t)
	w.fails = errors.New("gone")
	g.gather()
	_, err := g.Write([]byte("a"))
	require.NoError(t, err)
	require.False(t, w.closed)
	g.flush()
	require.True(t, w.closed)

	g, w = held(t)
	w.fails = errors.New("gone")
	g.gather()
	_, err = g.Write(make([]byte, most))
	require.ErrorIs(t, err, w.fails)
}
