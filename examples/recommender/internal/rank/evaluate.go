package rank

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
	"github.com/mainstay-go/mainstay/featurestore"
)

// Scorer scores rows of the ranking service's columns.
type Scorer interface {
	Score(out []float64, rows []float32) error
}

// HitRates say how often a later purchase was among the ten recommended.
type HitRates struct {
	Purchases  int                `json:"purchases"`
	Popularity float64            `json:"popularity"`
	Models     map[string]float64 `json:"models"` // by version
}

// HitRates lets models rank the candidates for the purchases with from <= Seq
// < to, at most limit of them, evenly spaced, with the features as of each.
// What was bought outside the candidates counts: nobody can hit it.
func (d *Dataset) HitRates(ctx context.Context, from, to, limit int, models map[string]Scorer) (HitRates, error) {
	var later []shop.Purchase
	for _, p := range d.log {
		if p.Seq >= from && p.Seq < to {
			later = append(later, p)
		}
	}
	if len(later) == 0 {
		return HitRates{}, errors.New("no later purchases to judge by")
	}
	if stride := len(later) / limit; stride > 1 {
		some := later[:0:0]
		for i := 0; i < len(later) && len(some) < limit; i += stride {
			some = append(some, later[i])
		}
		later = some
	}
	j := judging{models: models, hits: map[string]int{}}
	labels := func(yield func(featurestore.Label[Candidate], error) bool) {
		for _, p := range later {
			for _, item := range d.pools.at(p.Time) {
				if !yield(featurestore.Label[Candidate]{Request: candidate(p.Visit(), item), Time: p.Time}, nil) {
					return
				}
			}
		}
	}
	judged, rows := 0, 0
	for example, err := range d.services.Ranking.Join(ctx, d.store, labels, &featurestore.JoinOptions{Strict: true}) {
		if err != nil {
			return HitRates{}, err
		}
		j.rows = append(j.rows, example.Values...)
		pool := d.pools.at(later[judged].Time)
		if rows++; rows == len(pool) {
			if err := j.judge(pool, later[judged].Item); err != nil {
				return HitRates{}, err
			}
			judged, rows = judged+1, 0
		}
	}
	rates := HitRates{Purchases: len(later), Popularity: j.rate("", len(later)), Models: map[string]float64{}}
	for version := range models {
		rates.Models[version] = j.rate(version, len(later))
	}
	return rates, nil
}

type judging struct {
	models map[string]Scorer
	hits   map[string]int // by version; "" is popularity
	rows   []float64      // of one visit
	input  []float32
}

func (j *judging) judge(pool []string, bought string) error {
	j.input = j.input[:0]
	for _, x := range j.rows {
		j.input = append(j.input, float32(x))
	}
	width := len(j.rows) / len(pool)
	j.count("", pool, j.column(width, width-1), bought) // the week's orders are the last column
	scores := make([]float64, len(pool))
	for version, m := range j.models {
		if err := m.Score(scores, j.input); err != nil {
			return fmt.Errorf("version %s: %w", version, err)
		}
		j.count(version, pool, scores, bought)
	}
	j.rows = j.rows[:0]
	return nil
}

func (j *judging) column(width, c int) []float64 {
	out := make([]float64, len(j.rows)/width)
	for i := range out {
		out[i] = j.rows[i*width+c]
	}
	return out
}

func (j *judging) count(version string, pool []string, scores []float64, bought string) {
	if slices.Contains(Best(pool, scores, Top), bought) {
		j.hits[version]++
	}
}

func (j *judging) rate(version string, n int) float64 { return float64(j.hits[version]) / float64(n) }
