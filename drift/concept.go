package drift

import "math"

// stratum is one cell of scores with the labels of both sides. If a score still means what it
// did, then which of the k positives among its N rows are the window's is chance: their
// number x is hypergeometric, whatever the scores of the window are.
type stratum struct {
	total, window, positives float64 // N, m and k
	seen                     float64 // x
	weight                   float64
}

func (s *stratum) expected() float64 { return s.window * s.positives / s.total }

func (s *stratum) variance() float64 {
	if s.total < 2 {
		return 0
	}
	return s.expected() * (s.total - s.positives) / s.total * (s.total - s.window) / (s.total - 1)
}

// strata of the reference's labels and a window's, weighted by the middle rank of their scores
// less the mean of these, so that a change of the share of positives alone does not count.
func strata(ref, cur *labelled) []stratum {
	var out []stratum
	rank, ranks, variances := 0.0, 0.0, 0.0
	for k := range ref.positives {
		m := float64(cur.positives[k] + cur.negatives[k])
		s := stratum{
			total: m + float64(ref.positives[k]+ref.negatives[k]), window: m,
			positives: float64(cur.positives[k] + ref.positives[k]), seen: float64(cur.positives[k]),
		}
		s.weight = rank + s.total/2
		rank += s.total
		if v := s.variance(); v > 0 {
			variances += v
			ranks += v * s.weight
			out = append(out, s)
		}
	}
	for i := range out {
		out[i].weight = (out[i].weight - ranks/variances) / rank
	}
	return out
}

// concept compares what scores mean, cell by cell: the area under the curve, and the share of
// positives against what the reference has at the same scores. A window of other scores with the
// same meaning is no change of either P.
func concept(ref, cur *labelled, before, now Metrics) (auc, calibration Score) {
	auc = Score{Method: "auc chernoff", N: before.Rows, M: now.Rows}
	calibration = Score{Method: "calibration chernoff", N: before.Rows, M: now.Rows}
	all := strata(ref, cur)
	if len(all) == 0 {
		return auc.finite(), calibration.finite()
	}
	tail := func(sign float64, weight func(*stratum) float64) float64 {
		return tailBound(all, func(s *stratum) float64 { return sign * weight(s) })
	}
	one := func(*stratum) float64 { return 1 }
	for i := range all {
		// As many more positives as there would be were the cell's share the reference's.
		calibration.Stat += (all[i].seen - all[i].expected()) * all[i].total / (all[i].total - all[i].window)
	}
	calibration.Stat /= float64(now.Rows)
	calibration.P, calibration.HasP = min(1, 2*min(tail(1, one), tail(-1, one))), true
	calibration.Effect = math.Abs(calibration.Stat)
	if defined := func(m Metrics) bool { return m.TP+m.FN > 0 && m.FP+m.TN > 0 }; defined(before) && defined(now) {
		auc.Stat = now.AUC - before.AUC
		auc.Effect = math.Abs(auc.Stat)
		auc.P, auc.HasP = tail(-1, func(s *stratum) float64 { return s.weight }), true
	}
	return auc.finite(), calibration.finite()
}

// tailBound is at least the probability that the weighted sum of what was seen less what was
// expected is as large as it is: Chernoff's bound, with the generating function of a
// hypergeometric variable below that of the binomial ones with its mean (Hoeffding
// 1963). It holds at any level, however few rows a cell has.
func tailBound(all []stratum, weight func(*stratum) float64) float64 {
	sum, variance := 0.0, 0.0
	for i := range all {
		w := weight(&all[i])
		sum += w * (all[i].seen - all[i].expected())
		variance += w * w * all[i].variance()
	}
	if sum <= 0 || variance <= 0 {
		return 1
	}
	exponent := func(at float64) float64 {
		e := -at * sum
		for i := range all {
			e += all[i].logMoment(at * weight(&all[i]))
		}
		return e
	}
	// Convex in at: any value gives a bound, the least is near what a normal sum would have.
	lo, hi := 0.0, 2*sum/variance
	for exponent(2*hi) < exponent(hi) && hi < 1e6 {
		hi *= 2
	}
	hi *= 2
	for range 40 {
		a, b := lo+(hi-lo)*0.4, lo+(hi-lo)*0.6
		if exponent(a) < exponent(b) {
			hi = b
		} else {
			lo = a
		}
	}
	return min(1, math.Exp(exponent((lo+hi)/2)))
}

// logMoment is at least ln E exp(s (x - expected)). A hypergeometric x counts the window's among
// the positives, or the positives among the window's, or is what these leave of the other
// side: four binomial variables, of which the narrowest serves.
func (s *stratum) logMoment(at float64) float64 {
	share, part := s.positives/s.total, s.window/s.total
	up, down := math.Expm1(at), math.Expm1(-at)
	least := min(
		s.window*math.Log1p(share*up),
		s.positives*math.Log1p(part*up),
		at*s.positives+(s.total-s.window)*math.Log1p(share*down),
		at*s.window+(s.total-s.positives)*math.Log1p(part*down),
	)
	return max(0, least-at*s.expected())
}
