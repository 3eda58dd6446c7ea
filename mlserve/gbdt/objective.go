package gbdt

import (
	"fmt"
	"math"
)

// objective is what turns a base score into a margin and a margin into a prediction. All of it is float32, as in XGBoost:
// every operation is rounded by itself.
type objective struct {
	name    string
	link    func(float32) float32
	output  output
	classes bool // needs num_class
}

type output uint8

const (
	identity output = iota + 1
	logistic
	exponential
	hinge
	softprob
	softmax
)

// findObjective knows the objectives by the names XGBoost writes.
func findObjective(name string) (objective, error) {
	switch name {
	case "binary:logistic", "reg:logistic":
		return objective{name: name, link: logit, output: logistic}, nil
	case "count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft":
		return objective{name: name, link: logf, output: exponential}, nil
	case "binary:hinge":
		return objective{name: name, link: same, output: hinge}, nil
	case "multi:softprob":
		return objective{name: name, link: same, output: softprob, classes: true}, nil
	case "multi:softmax":
		return objective{name: name, link: same, output: softmax, classes: true}, nil
	case "reg:squarederror", "reg:absoluteerror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:quantileerror",
		"binary:logitraw", "rank:pairwise", "rank:ndcg", "rank:map":
		return objective{name: name, link: same, output: identity}, nil
	}
	return objective{}, fmt.Errorf("objective %q is not supported", clip(name))
}

func same(score float32) float32 { return score }

// logit is XGBoost's: the probability is first kept away from 0 and 1. The logarithm must be the C library's, see logf.
func logit(p float32) float32 {
	p = min(max(p, 1e-6), 1-1e-6)
	return -logf(1/p - 1)
}

// transform turns the margins of one row, as float32 values, into its prediction.
func (o output) transform(row []float64) {
	switch o {
	case logistic:
		for i, m := range row {
			row[i] = float64(sigmoid(float32(m)))
		}
	case exponential:
		for i, m := range row {
			row[i] = float64(float32(math.Exp(m)))
		}
	case hinge:
		for i, m := range row {
			row[i] = 0
			if m > 0 {
				row[i] = 1
			}
		}
	case softprob:
		normalise(row)
	case identity, softmax:
	}
}

// sigmoid bounds the exponent so that exp stays finite. The 1e-16 XGBoost adds to the denominator is lost beside the 1.
func sigmoid(m float32) float32 {
	z := min(-m, 88.7)
	return 1 / (float32(math.Exp(float64(z))) + 1)
}

// normalise is softmax in XGBoost's widths: differences, exponentials and quotients in float32, the sum in float64.
func normalise(row []float64) {
	top := float32(row[0])
	for _, m := range row[1:] {
		top = max(top, float32(m))
	}
	var sum float64
	for i, m := range row {
		e := float32(math.Exp(float64(float32(m) - top)))
		row[i] = float64(e)
		sum += float64(e)
	}
	for i, e := range row {
		row[i] = float64(float32(e) / float32(sum))
	}
}
