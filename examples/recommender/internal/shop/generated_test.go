package shop

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGeneratedIsTheSameForASeed(t *testing.T) {
	a, b, c := NewGenerated(7, time.Minute), NewGenerated(7, time.Minute), NewGenerated(8, time.Minute)
	require.Equal(t, a.History(), b.History())
	require.NotEqual(t, a.History(), c.History())
	for i, p := range a.History() {
		require.Equal(t, i, p.Seq)
	}
	va, pa, _ := a.Next()
	vb, pb, _ := b.Next()
	require.Equal(t, va, vb)
	require.Equal(t, pa, pb)
}

// What shifts is what Shifted names: shelves and items are bought as often as before.
func TestGeneratedShiftKeepsMarginals(t *testing.T) {
	g := NewGenerated(3, 40*time.Second)
	byID := map[string]Item{}
	for _, item := range g.Items() {
		byID[item.ID] = item
	}
	segment := map[string]int64{}
	for _, c := range g.Customers() {
		segment[c.ID] = c.Segment
	}
	count := func() (shelf [shelves]float64, favourite, basket, price float64) {
		n := 0.0
		for range 60_000 {
			visit, bought, ok := g.Next()
			require.True(t, ok)
			basket += math.Log(visit.Basket) / 60_000
			for _, p := range bought {
				item := byID[p.Item]
				shelf[item.Shelf]++
				price += p.Price
				if item.Shelf == segment[p.Customer] {
					favourite++
				}
				n++
			}
		}
		for i := range shelf {
			shelf[i] /= n
		}
		return shelf, favourite / n, basket, price / n
	}
	before, favouriteBefore, basketBefore, priceBefore := count()
	g.Shift()
	after, favouriteAfter, basketAfter, priceAfter := count()
	for i := range before {
		require.InDelta(t, 1.0/shelves, before[i], 0.015)
		require.InDelta(t, before[i], after[i], 0.015)
	}
	require.InEpsilon(t, priceBefore, priceAfter, 0.05)
	require.InDelta(t, 0.60, favouriteBefore, 0.02)
	require.InDelta(t, 0.05, favouriteAfter, 0.02, "the taste has moved on")
	require.InDelta(t, math.Log(1.8), basketAfter-basketBefore, 0.02)
}
