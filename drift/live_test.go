package drift

import (
	"reflect"
	"runtime"
	"testing"
)

func TestStripeCount(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for processors, want := range map[int]int{1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 16: 16, 40: maxStripes} {
		runtime.GOMAXPROCS(processors)
		if got := stripeCount(); got != want {
			t.Errorf("%d blocks for %d processors, want %d", got, processors, want)
		}
	}
}

func TestLanesAreApart(t *testing.T) {
	seen := map[uint32]bool{}
	for l := newLanes(); len(seen) < maxStripes; {
		got, ok := l.pool.New().(*lane)
		if !ok || got.i >= maxStripes || seen[got.i] {
			t.Fatalf("lane %+v after %d others", got, len(seen))
		}
		seen[got.i] = true
	}
}

// on is the lanes of a writer who always gets the same.
func on(i uint32) *lanes {
	l := new(lanes)
	l.pool.New = func() any { return &lane{i: i} }
	return l
}

func TestColumnsByHand(t *testing.T) {
	w := newWindow(fitted(t, Categories("x", []string{"a", "b"})))
	c := &w.columns[0]
	if !w.empty() {
		t.Error("a new window is not empty")
	}
	for i, place := range []int{atMissing, atCells, atCells + 1, atCells + 1, atCells + 2} {
		if full := c.add(place, 5, newLanes()); full != (i == 4) {
			t.Errorf("row %d of 5: full is %v", i+1, full)
		}
	}
	want := observed{rows: 5, missing: 1, unseen: 1, present: 4, counts: []int{1, 2}}
	if got := c.observed(); !reflect.DeepEqual(got, want) || w.empty() {
		t.Errorf("%+v, want %+v", got, want)
	}
	c.split(4)
	for i := range uint32(4) {
		c.add(atCells, 100, on(i))
	}
	c.add(atMissing, 100, on(1))
	c.add(atCells+2, 100, on(3))
	c.split(2) // someone else was first
	want = observed{rows: 11, missing: 2, unseen: 2, present: 9, counts: []int{5, 2}}
	if got := c.observed(); !reflect.DeepEqual(got, want) || c.counted() != 11 {
		t.Errorf("%+v and %d rows, want %+v", got, c.counted(), want)
	}

	labels := newWindow(newWorld(61).predictions(t, 100))
	if !labels.empty() {
		t.Error("a new window is not empty")
	}
	if labels.labels.add(0, 0, true); labels.empty() {
		t.Error("a label is nothing")
	}
}

// Who writes into blocks adds them all up each time a power of two of his rows is full, here of 4: a
// sixteenth of 106 over one block, and a sixteenth of 1,024 over 16.
func TestStripesAreAddedUp(t *testing.T) {
	ref := fitted(t, Numbers("x", []float64{1}))
	for _, c := range []struct {
		blocks     int
		rows, full uint64
	}{{1, 106, 108}, {1, 20, 20}, {16, 1024, 1024}, {16, 1030, 1073}} {
		col := &newWindow(ref).columns[0]
		col.split(c.blocks)
		n := uint64(1)
		for ; !col.add(atMissing, c.rows, on(uint32(n-1)%uint32(c.blocks))) && n < 2*c.rows; n++ {
		}
		if n != c.full {
			t.Errorf("%d blocks: full after %d rows of %d, want %d", c.blocks, n, c.rows, c.full)
		}
	}
	col := &newWindow(ref).columns[0]
	col.split(1)
	for range 100 {
		if col.add(atMissing, 0, on(0)) {
			t.Fatal("full, where the clock decides")
		}
	}
	if o := col.observed(); o.rows != 100 || col.counted() != 0 {
		t.Errorf("%d rows; and %d counted, for which there is no need", o.rows, col.counted())
	}
}

// Writers part when they have met often, and not before; until then the count of rows is exact.
func TestWritersMeet(t *testing.T) {
	col := &newWindow(fitted(t, Numbers("x", []float64{1}))).columns[0]
	for i := range clashLimit {
		if col.stripes.Load() != nil {
			t.Fatalf("parted after %d times", i)
		}
		if full := col.met(10); full != (i == 9) {
			t.Errorf("row %d of 10: full is %v", i+1, full)
		}
	}
	if col.stripes.Load() == nil || col.counted() != clashLimit {
		t.Errorf("%d rows of writers who have met %d times", col.counted(), clashLimit)
	}
}
