package drift_test

import (
	"fmt"

	"github.com/mainstay-go/mainstay/drift"
)

// Whether there is a difference and how far it goes are two questions: the test
// has the p-value, the distance the unit of the column.
func ExampleWasserstein() {
	ref, cur := ages(5000, 18), ages(1000, 22)
	far := drift.Wasserstein(ref, cur)
	fmt.Printf("%.2f years, %.2f without drift, %.2f of the interquartile range\n", far.Stat, far.Null, far.Effect)
	fmt.Println("by chance:", !drift.CramerVonMises(ref, cur).Drifted(0.001))
	// Output:
	// 3.86 years, 0.55 without drift, 0.15 of the interquartile range
	// by chance: false
}

func ExampleEnergy() {
	s := drift.Energy(ages(5000, 18), ages(1000, 28))
	fmt.Printf("%.2f, without drift about %.2f; effect %.3f\n", s.Stat, s.Null, s.Effect)
	// Output:
	// 1.91, without drift about 0.14; effect 0.098
}

// The shares of three payment methods, last month's and today's.
func ExampleJensenShannon() {
	before, today := []int{500, 300, 200}, []int{40, 30, 30}
	for _, s := range []drift.Score{
		drift.JensenShannon(before, today),
		drift.Hellinger(before, today),
		drift.KullbackLeibler(before, today),
		drift.TotalVariation(before, today),
	} {
		fmt.Printf("%-16s %.3f, without drift about %.3f\n", s.Method, s.Stat, s.Null)
	}
	// Output:
	// jensen-shannon   0.106, without drift about 0.063
	// hellinger        0.089, without drift about 0.052
	// kullback-leibler 0.031, without drift about 0.011
	// total-variation  0.100, without drift about 0.057
}

func ExampleGTest() {
	s := drift.GTest([]int{500, 300, 200}, []int{40, 30, 30})
	fmt.Printf("%.2f with %.0f degrees of freedom: p %.3f, effect %.3f\n", s.Stat, s.Null, s.P, s.Effect)
	// Output:
	// 5.85 with 2 degrees of freedom: p 0.054, effect 0.059
}

// Which way did it go, and how often is a value of today above one of before?
func ExampleCliffDelta() {
	s := drift.CliffDelta(ages(5000, 18), ages(1000, 28))
	fmt.Printf("%+.2f: above in %.0f%% of all pairs\n", s.Stat, 50*(1+s.Stat))
	// Output:
	// +0.36: above in 68% of all pairs
}

// Neither column has drifted; that they now go in opposite directions is seen
// only by looking at both.
func ExampleMMD() {
	ref, cur := make([][]float64, 500), make([][]float64, 500)
	x := ages(500, 0)
	for i := range x {
		ref[i] = []float64{x[i], x[i]}
		cur[i] = []float64{x[i], 50 - x[i]}
	}
	s := drift.MMD(ref, cur, 1)
	fmt.Println(s.Method, s.Drifted(0.01))
	// Output:
	// mmd permutation true
}

// Tests that depend on each other in ways nobody knows, as those of correlated features.
func ExampleBenjaminiYekutieli() {
	p := []float64{0.001, 0.04, 0.3, 0.012}
	fmt.Printf("%.3f\n", drift.BenjaminiHochberg(p))
	fmt.Printf("%.3f\n", drift.BenjaminiYekutieli(p))
	// Output:
	// [0.004 0.053 0.300 0.024]
	// [0.008 0.111 0.625 0.050]
}
