package drift

import (
	"errors"
	"fmt"
	"math"
	"sync"
)

// labelled counts predictions whose labels are known, by the cell of their score. The
// sums are integers, so that it does not matter in which order they were added.
type labelled struct {
	negatives, positives []int64 // per cell
	brier                uint64  // sum of squared errors, in units of 1/brierUnit
	logLoss              uint64  // in units of 1/lossUnit
	bins                 [scoreBins]scoreBin
}

type scoreBin struct {
	n, positives int64
	sum          uint64 // of scores, in units of 1/brierUnit
}

const (
	brierUnit = 1 << 24 // 2^38 rows of at most 1 stay below 2^64
	lossUnit  = 1 << 18 // as do 2^38 of at most 34.6
)

func newLabelled(cells int) *labelled {
	return &labelled{negatives: make([]int64, cells), positives: make([]int64, cells)}
}

func (l *labelled) rows() int64 {
	var n int64
	for k := range l.positives {
		n += l.positives[k] + l.negatives[k]
	}
	return n
}

// plus is the sum, a new value; either may be nil.
func (l *labelled) plus(o *labelled) *labelled {
	if l == nil || o == nil {
		if l == nil {
			return o
		}
		return l
	}
	s := newLabelled(len(l.positives))
	for k := range s.positives {
		s.positives[k] = l.positives[k] + o.positives[k]
		s.negatives[k] = l.negatives[k] + o.negatives[k]
	}
	s.addSums(l)
	s.addSums(o)
	return s
}

func (l *labelled) addSums(o *labelled) {
	l.brier += o.brier
	l.logLoss += o.logLoss
	for b := range l.bins {
		l.bins[b].n += o.bins[b].n
		l.bins[b].positives += o.bins[b].positives
		l.bins[b].sum += o.bins[b].sum
	}
}

// add counts one row.
func (l *labelled) add(cell int, score float64, label bool) {
	l.addRow(cell, newLabelRow(score, label), label)
}

func (l *labelled) addRow(cell int, r labelRow, label bool) {
	b := &l.bins[r.bin]
	if label {
		l.positives[cell]++
		b.positives++
	} else {
		l.negatives[cell]++
	}
	b.n++
	b.sum += r.sum
	l.brier += r.brier
	l.logLoss += r.loss
}

type labelRow struct {
	bin              int
	sum, brier, loss uint64
}

func newLabelRow(score float64, label bool) labelRow {
	s, y := min(max(score, 0), 1), 0.0
	if label {
		y = 1
	}
	return labelRow{
		bin: scoreBinOf(s), sum: uint64(s*brierUnit + 0.5),
		brier: uint64((s-y)*(s-y)*brierUnit + 0.5), loss: uint64(rowLoss(s, label)*lossUnit + 0.5),
	}
}

// check refuses labels that are not those of so many scores in each cell.
func (l *labelled) check(counts []int64) error {
	if len(l.negatives) != len(counts) || len(l.positives) != len(counts) {
		return fmt.Errorf("labels of %d and %d cells for %d", len(l.negatives), len(l.positives), len(counts))
	}
	if err := l.sound(); err != nil {
		return err
	}
	for k, n := range counts {
		if l.positives[k]+l.negatives[k] != n {
			return fmt.Errorf("%d labels for %d scores in a cell", l.positives[k]+l.negatives[k], n)
		}
	}
	return nil
}

// sound refuses what no rows add up to.
func (l *labelled) sound() error {
	var n int64
	for k := range l.positives {
		p, q := l.positives[k], l.negatives[k]
		if p < 0 || q < 0 || p > maxRows || q > maxRows {
			return fmt.Errorf("a count of %d labels", min(p, q))
		}
		n += p + q
	}
	for _, b := range l.bins {
		if b.n < 0 || b.n > maxRows || b.positives < 0 || b.positives > b.n || b.sum > uint64(b.n+1)*brierUnit {
			return fmt.Errorf("a bin of %d labels", b.n)
		}
		n -= b.n
	}
	if n != 0 {
		return errors.New("the bins of the scores do not hold the labels of the cells")
	}
	if l.brier > maxRows*brierUnit || l.logLoss > maxRows*35*lossUnit {
		return errors.New("sums of losses beyond what rows can add up to")
	}
	return nil
}

// metrics of the rows; positive is the first cell whose scores predict true.
func (l *labelled) metrics(positive int) Metrics {
	m := confusion(len(l.positives), func(k int) (float64, float64, float64) {
		return float64(k), float64(l.positives[k]), float64(l.negatives[k])
	}, func(k int) bool { return k >= positive })
	n := l.rows()
	m.Rows = int(n)
	m.rates()
	m.Brier = ratio(float64(l.brier)/brierUnit, float64(n))
	m.LogLoss = ratio(float64(l.logLoss)/lossUnit, float64(n))
	for _, b := range l.bins {
		m.ECE += ratio(math.Abs(float64(b.sum)/brierUnit-float64(b.positives)), float64(n))
	}
	return m
}

// calibrated gives each cell the share of positives in it, after neighbours that are
// out of order were pooled (isotonic regression by pooling adjacent violators, Ayer and
// others 1955). An empty cell takes the share of the one below.
func (l *labelled) calibrated() []float64 {
	type group struct {
		p, n float64
		to   int // first cell after it
	}
	var groups []group
	for k := range l.positives {
		p := float64(l.positives[k])
		g := group{p: p, n: p + float64(l.negatives[k]), to: k + 1}
		for len(groups) > 0 {
			last := groups[len(groups)-1]
			if last.p*g.n < g.p*last.n { // never if either is empty
				break
			}
			g.p += last.p
			g.n += last.n
			groups = groups[:len(groups)-1]
		}
		groups = append(groups, g)
	}
	out, k := make([]float64, len(l.positives)), 0
	for _, g := range groups {
		for ; k < g.to; k++ {
			out[k] = ratio(g.p, g.n)
		}
	}
	return out
}

// expected is CBPE of the predictions in each cell, calibrated by the reference's labels.
func (f *feature) expected(counts []int) Metrics {
	if len(counts) == 0 {
		return Metrics{}
	}
	p := f.labels.calibrated()
	m := confusion(len(counts), func(k int) (float64, float64, float64) {
		c := float64(counts[k])
		return float64(k), c * p[k], c * (1 - p[k])
	}, func(k int) bool { return k >= f.positive })
	for _, c := range counts {
		m.Rows += c
	}
	m.rates()
	return m
}

// performance compares the labelled rows of a window with the reference's, and estimates
// that of all its predictions. A loss that is not below least is one that is called drift.
func (f *feature) performance(l *labelled, predictions observed, least float64) (FeatureReport, PerformanceReport) {
	ref, cur := f.labels.metrics(f.positive), l.metrics(f.positive)
	rep := FeatureReport{Name: f.performanceName(), P: 1}
	share := func(method string, x, n, y, m float64) {
		rep.Scores = append(rep.Scores, shareScore(method+" fisher", int(x), int(n), int(y), int(m)))
	}
	share("accuracy", ref.TP+ref.TN, float64(ref.Rows), cur.TP+cur.TN, float64(cur.Rows))
	share("precision", ref.TP, ref.TP+ref.FP, cur.TP, cur.TP+cur.FP)
	share("recall", ref.TP, ref.TP+ref.FN, cur.TP, cur.TP+cur.FN)
	auc, calibration := concept(f.labels, l, ref, cur)
	rep.Scores = append(rep.Scores, auc, calibration)
	tests := 0
	for _, s := range rep.Scores {
		if s.HasP {
			tests++
		}
	}
	// What is told is the surest of the losses that are large enough to be called drift: a larger one
	// that is in doubt does not hide it. Only without any is it the surest of the smaller. The P is times the number of
	// all the tests, so whichever is chosen, that any of them comes below a level by chance is no likelier than the
	// level. What may well be an accident is none; to have become better is no decay.
	loss := func(s Score) float64 {
		if s.Method == calibration.Method {
			return s.Effect // to have too many positives is as bad as too few
		}
		return -s.Stat
	}
	for _, s := range rep.Scores {
		p, lost := min(1, s.P*float64(tests)), loss(s)
		if !s.HasP || p > agreeLevel || lost <= 0 {
			continue
		}
		if large, before := lost >= least, rep.Effect >= least; large && !before || large == before && p < rep.P {
			rep.P, rep.Effect = p, lost
		}
	}
	return rep, PerformanceReport{Actual: cur, Expected: f.expected(predictions.counts), Reference: ref}
}

func (f *feature) performanceName() string { return f.name + " (performance)" }

// labelCells is labelled while it is being counted. A row is in several counts, and who reads finds it in all of
// them or in none; hence a lock, where of an observation one count is read, and none is needed. Labels have passed a
// lock of the join already.
type labelCells struct {
	mu  sync.Mutex
	n   uint64 // rows in sum
	sum *labelled
}

func newLabelCells(cells int) *labelCells { return &labelCells{sum: newLabelled(cells)} }

// add counts one row and returns how many there are.
func (l *labelCells) add(cell int, score float64, label bool) uint64 {
	r := newLabelRow(score, label) // its logarithm is not taken under the lock
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum.addRow(cell, r, label)
	l.n++
	return l.n
}

func (l *labelCells) rows() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// read returns what was counted so far, a value of the caller's.
func (l *labelCells) read() *labelled {
	l.mu.Lock()
	defer l.mu.Unlock()
	return newLabelled(len(l.sum.positives)).plus(l.sum)
}
