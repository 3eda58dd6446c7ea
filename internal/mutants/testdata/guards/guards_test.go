package guards

import (
	"os"
	"testing"
)

func TestNoticed(t *testing.T) {
	for _, c := range []struct {
		a, b int
		f    Level
		on   bool
		n    int
		half Level
		ok   bool
	}{
		{1, 3, 4, true, 11, -2, true},
		{1, 1, 4, false, 13, -2, true},
		{2, 9, 5, true, 23, -2.5, true},
		{2, 9, 5, false, 0, -2.5, false},
		{1, 4, 6, true, 0, -3, false},
		{4, 4, 6, false, 43, -3, false},
	} {
		if n, f, ok := Noticed(c.a, c.b, c.f, c.on); n != c.n || f != c.half || ok != c.ok {
			t.Errorf("%+v: %d, %g, %t", c, n, float64(f), ok)
		}
	}
	if Diff(3, 1) != 2 || Diff(2.5, 1) != 1.5 {
		t.Error("differences")
	}
	if Sum(2, 1) != 3 || Sum("a", "b") != "ab" || Name("a") != "a!" {
		t.Error("sums")
	}
}

func TestOverlooked(t *testing.T) { Overlooked(1, 2, 3) }

func TestUntil(t *testing.T) { Until(3) }

func TestWait(t *testing.T) { Wait(3) }

func TestLazy(t *testing.T) {
	one, minus := 1, -1
	if !Lazy(nil) || !Lazy(&one) || Lazy(&minus) {
		t.Error("lazy")
	}
}

func TestHalf(t *testing.T) {
	if Half() != 0.5 {
		t.Error(Half())
	}
}

// It fails in the rewritten package, and would notice everything.
func TestLeftOut(t *testing.T) {
	Overlooked(1, 2, 3)
	if _, ok := os.LookupEnv("MUTANTS_ON"); ok {
		t.Error("rewritten")
	}
}
