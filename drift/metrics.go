package drift

import (
	"cmp"
	"math"
	"slices"
)

// Metrics say how good the scores of a binary classifier are. The counts may be
// expected ones, and then have fractions. A metric that is not defined, as
// Precision without a predicted positive, is 0; the counts tell. No field is
// ever NaN or infinite.
type Metrics struct {
	Rows      int     `json:"rows"`
	TP        float64 `json:"tp"`        // positive, and predicted so: score >= threshold
	FP        float64 `json:"fp"`        // negative, predicted positive
	FN        float64 `json:"fn"`        // positive, predicted negative
	TN        float64 `json:"tn"`        // negative, and predicted so
	Accuracy  float64 `json:"accuracy"`  // (TP+TN)/Rows
	Precision float64 `json:"precision"` // TP/(TP+FP)
	Recall    float64 `json:"recall"`    // TP/(TP+FN)
	F1        float64 `json:"f1"`        // harmonic mean of the last two
	AUC       float64 `json:"auc"`       // area under the ROC curve, ties counting half
	LogLoss   float64 `json:"log_loss"`  // mean of -ln(score given to the truth), which is taken to be at least 1e-15
	Brier     float64 `json:"brier"`     // mean squared difference of score and truth
	ECE       float64 `json:"ece"`       // expected calibration error over ten equal-width bins of the score
}

// Measure compares scores, probabilities of the label being true, with the labels.
// A score of at least threshold predicts true. A NaN score is missing and its row is left
// out; scores beyond 0 and 1 count as these in LogLoss, Brier and ECE. Slices of unequal length
// are a programming error and panic. The inputs are not modified. Time n log n.
func Measure(scores []float64, labels []bool, threshold float64) Metrics {
	if len(scores) != len(labels) {
		panic("drift: Measure: scores and labels have different lengths")
	}
	order := ranked(scores)
	var bins [scoreBins]scoreBinF
	brier, loss := 0.0, 0.0
	for _, i := range order {
		s, y := min(max(scores[i], 0), 1), 0.0
		if labels[i] {
			y = 1
		}
		b := &bins[scoreBinOf(s)]
		b.sum += s
		b.positives += y
		brier += (s - y) * (s - y)
		loss += rowLoss(s, labels[i])
	}
	m := confusion(len(order), func(k int) (float64, float64, float64) {
		if labels[order[k]] {
			return scores[order[k]], 1, 0
		}
		return scores[order[k]], 0, 1
	}, func(k int) bool { return scores[order[k]] >= threshold })
	m.Rows = len(order)
	m.rates()
	if m.Rows > 0 {
		n := float64(m.Rows)
		m.Brier, m.LogLoss = brier/n, loss/n
		for _, b := range bins {
			m.ECE += math.Abs(b.sum-b.positives) / n
		}
	}
	return m
}

// CBPE estimates, before there are labels, what [Measure] would say of them:
// confidence-based performance estimation. If scores are calibrated
// probabilities, then each row is a true positive with the probability of its score, and
// sums of these are the expected counts; ratios are of expected counts.
// LogLoss, Brier and ECE are not estimated and 0. It sees a change of the inputs that moves
// the scores, and cannot see a change of what a score means: that takes labels. NaN is missing,
// and scores beyond 0 and 1 count as these. scores is not modified. Time n log n.
func CBPE(scores []float64, threshold float64) Metrics {
	order := ranked(scores)
	m := confusion(len(order), func(k int) (float64, float64, float64) {
		s := scores[order[k]]
		p := min(max(s, 0), 1)
		return s, p, 1 - p
	}, func(k int) bool { return scores[order[k]] >= threshold })
	m.Rows = len(order)
	m.rates()
	return m
}

// ranked gives the places of scores in ascending order, without those of NaN.
func ranked(scores []float64) []int {
	order := make([]int, 0, len(scores))
	for i, s := range scores {
		if s == s {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(scores[i], scores[j]) })
	return order
}

// confusion sums n groups in ascending order of their score, each with a
// weight of positives and of negatives, to the counts and AUC.
func confusion(n int, group func(k int) (score, positives, negatives float64), predicted func(k int) bool) Metrics {
	var m Metrics
	won, below := 0.0, 0.0 // pairs that are in order; negatives with a lower score
	for k := 0; k < n; {
		p, q := 0.0, 0.0
		first, _, _ := group(k)
		for k < n {
			s, x, y := group(k)
			if s != first {
				break
			}
			p += x
			q += y
			if predicted(k) {
				m.TP += x
				m.FP += y
			} else {
				m.FN += x
				m.TN += y
			}
			k++
		}
		won += p * (below + q/2)
		below += q
	}
	if pairs := (m.TP + m.FN) * (m.FP + m.TN); pairs > 0 {
		m.AUC = min(1, won/pairs)
	}
	return m
}

// rates fills in what follows from the counts.
func (m *Metrics) rates() {
	m.Accuracy = ratio(m.TP+m.TN, m.TP+m.FP+m.FN+m.TN)
	m.Precision = ratio(m.TP, m.TP+m.FP)
	m.Recall = ratio(m.TP, m.TP+m.FN)
	m.F1 = ratio(2*m.TP, 2*m.TP+m.FP+m.FN)
}

func ratio(a, b float64) float64 {
	if b <= 0 {
		return 0
	}
	return a / b
}

const scoreBins = 10

type scoreBinF struct{ sum, positives float64 }

// scoreBinOf takes a score from 0 to 1.
func scoreBinOf(s float64) int { return min(int(s*scoreBins), scoreBins-1) }

func rowLoss(s float64, label bool) float64 {
	const least = 1e-15
	s = min(max(s, least), 1-least)
	if label {
		return -math.Log(s)
	}
	return -math.Log(1 - s)
}
