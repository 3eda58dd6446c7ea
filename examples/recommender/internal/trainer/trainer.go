// Package trainer grows gradient-boosted trees for the recommender: a small learner whose artefact is a model file like any
// other, XGBoost's JSON, so that what serves it need not know where it was trained.
//
// It learns the probability of a label (objective binary:logistic) by Newton boosting on histograms, as described for XGBoost
// in Chen and Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016, sections 2 and 3: values are cut into at most
// [Options].Bins quantiles once, every tree is grown level by level, the second child's histogram is its parent's minus the
// first child's, and a missing value (NaN) goes where it lowers the loss more.
//
// Training runs beside live serving, so it stays on the caller's goroutine, lets others run every fraction of a millisecond, and
// calls [Options].Pause between trees.
package trainer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"

	"github.com/mainstay-go/mainstay/mlserve/gbdt"
)

// Options of a training run. The zero value of a field is its default.
type Options struct {
	Rounds         int     // trees; 40, at most 10,000
	Depth          int     // splits from root to leaf; 5, at most 10
	LearningRate   float64 // what of each tree is used, in (0, 1]; 0.2
	MinChildWeight float64 // least sum of hessians, p(1-p) a row, in a child; 1
	Lambda         float64 // L2 penalty on leaves; 1
	Bins           int     // cuts per column; 64, at most 255
	Subsample      float64 // part of the rows drawn for each tree, in (0, 1]; 0.8
	Seed           uint64  // of that draw; equal data, options and seed give equal bytes
	Pause          func()  // called between trees, for example to sleep; nil: none
}

// Booster is a trained model. It is immutable and safe for concurrent use.
type Booster struct {
	columns    []string
	baseScore  float32 // a probability
	baseMargin float32
	trees      []tree
}

// Train learns to predict labels, each in [0, 1], from rows with a value per column; NaN is missing. Values are rounded to
// float32, as they will be when the model is evaluated, and must be finite then. Nothing passed in is modified or kept. It
// returns the context's cause soon after ctx ends.
func Train(ctx context.Context, columns []string, rows [][]float64, labels []float64, o Options) (*Booster, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	base, err := check(columns, rows, labels)
	if err != nil {
		return nil, err
	}
	b := &Booster{columns: slices.Clone(columns), baseScore: base}
	if b.baseMargin, err = b.start(); err != nil {
		return nil, err
	}
	data, err := discretise(ctx, rows, len(columns), o.Bins)
	if err != nil {
		return nil, err
	}
	margins := make([]float32, len(rows))
	for i := range margins {
		margins[i] = b.baseMargin
	}
	g := newGrower(data, o)
	random := rand.New(rand.NewPCG(o.Seed, 0x6d61696e73746179))
	for round := range o.Rounds {
		if round > 0 && o.Pause != nil {
			o.Pause()
		}
		if err := g.gradients(ctx, margins, labels, random); err != nil {
			return nil, err
		}
		t, err := g.grow(ctx)
		if err != nil {
			return nil, err
		}
		g.update(t, margins)
		b.trees = append(b.trees, t)
	}
	return b, nil
}

func (o Options) withDefaults() (Options, error) {
	o.Rounds = orDefault(o.Rounds, 40)
	o.Depth = orDefault(o.Depth, 5)
	o.LearningRate = orDefault(o.LearningRate, 0.2)
	o.MinChildWeight = orDefault(o.MinChildWeight, 1)
	o.Lambda = orDefault(o.Lambda, 1)
	o.Bins = orDefault(o.Bins, 64)
	o.Subsample = orDefault(o.Subsample, 0.8)
	switch {
	case o.Rounds < 0 || o.Rounds > 10_000:
		return o, fmt.Errorf("trainer: Rounds %d is not within 1 and 10000", o.Rounds)
	case o.Depth < 0 || o.Depth > 10:
		return o, fmt.Errorf("trainer: Depth %d is not within 1 and 10", o.Depth)
	case !(o.LearningRate > 0 && o.LearningRate <= 1):
		return o, fmt.Errorf("trainer: LearningRate %v is not in (0, 1]", o.LearningRate)
	case !(o.MinChildWeight > 0) || math.IsInf(o.MinChildWeight, 0):
		return o, fmt.Errorf("trainer: MinChildWeight %v is not positive", o.MinChildWeight)
	case !(o.Lambda > 0) || math.IsInf(o.Lambda, 0):
		return o, fmt.Errorf("trainer: Lambda %v is not positive", o.Lambda)
	case o.Bins < 2 || o.Bins > maxBins:
		return o, fmt.Errorf("trainer: Bins %d is not within 2 and %d", o.Bins, maxBins)
	case !(o.Subsample > 0 && o.Subsample <= 1):
		return o, fmt.Errorf("trainer: Subsample %v is not in (0, 1]", o.Subsample)
	}
	return o, nil
}

func orDefault[T int | float64](v, standard T) T {
	if v == 0 {
		return standard
	}
	return v
}

// check refuses what cannot be learned from, and returns the mean of the labels, kept away from 0 and 1.
func check(columns []string, rows [][]float64, labels []float64) (float32, error) {
	switch {
	case len(columns) == 0:
		return 0, errors.New("trainer: no columns")
	case len(rows) == 0:
		return 0, errors.New("trainer: no rows")
	case len(rows) > math.MaxInt32:
		return 0, fmt.Errorf("trainer: %d rows, more than %d", len(rows), math.MaxInt32)
	case len(rows) != len(labels):
		return 0, fmt.Errorf("trainer: %d labels for %d rows", len(labels), len(rows))
	}
	var sum float64
	for i, row := range rows {
		if len(row) != len(columns) {
			return 0, fmt.Errorf("trainer: row %d has %d values for %d columns", i, len(row), len(columns))
		}
		if !(labels[i] >= 0 && labels[i] <= 1) {
			return 0, fmt.Errorf("trainer: label %d is %v, not in [0, 1]", i, labels[i])
		}
		sum += labels[i]
		for j, v := range row {
			if math.IsInf(float64(float32(v)), 0) {
				return 0, fmt.Errorf("trainer: row %d, column %q: %v is not finite as a float32", i, columns[j], v)
			}
		}
	}
	const edge = 1e-4 // a base score nearer to 0 or 1 would take many trees to leave again
	return float32(min(max(sum/float64(len(rows)), edge), 1-edge)), nil
}

// start asks the evaluator for the margin of the base score: the sum that training continues must begin where serving begins,
// in bits, and the evaluator has the one logarithm that counts.
func (b *Booster) start() (float32, error) {
	var file bytes.Buffer
	if err := b.WriteJSON(&file); err != nil {
		return 0, err
	}
	m, err := gbdt.Parse(file.Bytes())
	if err != nil {
		return 0, fmt.Errorf("trainer: the model without trees: %w", err)
	}
	out := make([]float32, 1)
	err = m.Margins(out, make([]float32, len(b.columns)))
	return out[0], err
}

// Margin is the sum of the trees for one row, the log-odds of the label, as float32 in the order XGBoost sums. The row must
// have a value per column.
func (b *Booster) Margin(row []float64) float32 {
	m := b.baseMargin
	for _, t := range b.trees {
		m += t.leaf(row)
	}
	return m
}

// Trees returns the number of trees.
func (b *Booster) Trees() int { return len(b.trees) }

// yieldEvery is how many rows of work are done, at some nanoseconds a value, before others may run.
const yieldEvery = 4096

// yield lets other goroutines run and says whether ctx has ended.
func yield(ctx context.Context) error {
	runtime.Gosched()
	return context.Cause(ctx)
}
