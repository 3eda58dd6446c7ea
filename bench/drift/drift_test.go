package drift

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/bench/measure"
	"github.com/mainstay-go/mainstay/drift"
)

func short(t *testing.T, g measure.Group) {
	t.Helper()
	if _, _, err := measure.Run(g, measure.Options{Rounds: 1, Each: time.Microsecond}); err != nil {
		t.Error(err)
	}
}

// Every group runs, and its cases and goals fit together; the large ones with fewer values. Each
// contender checks what it finds.
func TestGroups(t *testing.T) {
	groups, _ := Groups(t.Context(), "no-python-here")
	for i, g := range groups {
		if i >= 2 {
			short(t, g)
		}
	}
	short(t, ks(t.Context(), "no-python-here", 2000))
	short(t, psi(10_000))
}

// SciPy finds the same distance, where there is one.
func TestScipy(t *testing.T) {
	const python = "python3"
	if !hasScipy(t.Context(), python) {
		t.Skip(python, "has no scipy")
	}
	g := ks(t.Context(), python, 2000)
	if len(g.Cases) != 4 || g.Goals[0].Against != "scipy ks_2samp" {
		t.Fatalf("SciPy is not measured: %+v", g.Goals)
	}
	short(t, g)
}

func TestNoScipy(t *testing.T) {
	groups, missing := Groups(t.Context(), "no-python-here")
	if missing != "no-python-here with scipy" || len(groups[0].Cases) != 3 || groups[0].Goals[0].Against != "" {
		t.Errorf("%q is missing, %+v", missing, groups[0])
	}
}

// What is done without a sliding test is the same test.
func TestResortIsTheSameTest(t *testing.T) {
	ref, values := normals(1, 10_000), normals(3, stream+1000)
	d, err := drift.NewSlidingKS(ref, 1000, 1e-9)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range values[:1000] {
		d.Observe(x)
	}
	slices.Sort(ref)
	resort()(1)
	if math.Abs(d.Score().Stat-kept) > 1e-12 {
		t.Errorf("%v and %v", d.Score().Stat, kept)
	}
}
