package drift

import "math"

// compare runs the feature's tests on what a window observed.
func (f *feature) compare(o observed) FeatureReport {
	rep := FeatureReport{Name: f.name, P: 1}
	if o.rows > 0 {
		rep.Missing = float64(o.missing) / float64(o.rows)
	}
	if o.present > 0 {
		rep.Unseen = float64(o.unseen) / float64(o.present)
		rep.OutOfRange = float64(f.outOfRange(o.counts)) / float64(o.present)
	}
	rep.Bars = f.bars(o)
	n := int(f.present)
	chi := homogeneity(f.joined(o))
	r, c := f.binned(o)
	once := 0
	if f.kind == categorical {
		once = leaveOneOut(r)
		r, c = joinCategories(r, c, few)
	}
	psi := f.psi(r, c, once, o)
	rep.Scores = []Score{psi}
	rep.Effect = psi.Effect
	if f.kind == numeric {
		ks := f.ks(o)
		rep.Scores = append(rep.Scores, ks)
		rep.Effect = max(rep.Effect, ks.Effect)
	}
	rep.Scores = append(rep.Scores, chi)
	if f.missing > 0 || o.missing > 0 {
		rep.Scores = append(rep.Scores, shareScore("missing fisher", int(f.missing), n+int(f.missing), o.missing, o.rows))
	}
	if once+o.unseen > 0 {
		rep.Scores = append(rep.Scores, f.unseen(once, o))
	}
	tests := float64(rep.tests())
	for _, s := range rep.Scores[1:] {
		if s.HasP {
			rep.P = min(rep.P, s.P*tests)
		}
	}
	return rep
}

// psi is PSI of the bins, with unseen and missing as two more, none of them empty on both sides.
func (f *feature) psi(r, c []int, once int, o observed) Score {
	r, c = dropEmpty(append(r, once, int(f.missing)), append(c, o.unseen, o.missing))
	return PSICounts(r, c, AddHalf)
}

// joined are the bins or categories, joined where they are too few for the tail of chi-square.
func (f *feature) joined(o observed) (ref, cur []int) {
	ref, cur = f.binned(o)
	if f.kind == categorical {
		leaveOneOut(ref)
		return joinCategories(ref, cur, sparse)
	}
	return joinNeighbours(ref, cur)
}

// leaveOneOut looks at each row of the reference as at one of the window, by whether the others of the reference have its category:
// what only one row has is unseen. So the shares of both sides have the same mean without drift, however many categories no
// row has (Good 1953). It empties those categories and returns how many they are.
func leaveOneOut(ref []int) (once int) {
	for i, c := range ref {
		if c == 1 {
			ref[i] = 0
			once++
		}
	}
	return once
}

// unseen compares the share of unseen values with that of the reference's rows whose category no other has. As an estimate
// that share has the variance of once rows and of twice the categories that two rows have (Esty 1983), so the test takes it for that of fewer rows.
func (f *feature) unseen(once int, o observed) Score {
	n, twice := int(f.present), 0
	for _, c := range f.counts {
		if c == 2 {
			twice++
		}
	}
	s := shareScore("unseen fisher", once, n, o.unseen, o.present)
	if s.HasP {
		weight := float64(once+1) / float64(once+1+2*twice)
		s.P = fisher(int(math.Round(weight*float64(once))), int(math.Round(weight*float64(n))), o.unseen, o.present)
	}
	return s
}

// tests is how many of the scores are tests that P is corrected for. PSI is
// not: it tells the size, and chi-square on the same bins has the better tail.
func (r *FeatureReport) tests() int {
	n := 0
	for _, s := range r.Scores[1:] {
		if s.HasP {
			n++
		}
	}
	return max(1, n)
}

// binned returns the counts of both sides per PSI bin or category, missing and
// unseen left out. The slices are the caller's to append to.
func (f *feature) binned(o observed) (ref, cur []int) {
	if f.kind == categorical {
		ref = make([]int, len(f.counts), len(f.counts)+2)
		cur = make([]int, len(f.counts), len(f.counts)+2)
		for k, c := range f.counts {
			ref[k], cur[k] = int(c), o.counts[k]
		}
		return ref, cur
	}
	ref, cur = make([]int, f.bins, f.bins+2), make([]int, f.bins, f.bins+2)
	for k, b := range f.bin {
		ref[b] += int(f.counts[k])
		cur[b] += o.counts[k]
	}
	return ref, cur
}

// outOfRange counts the numeric values below the reference's least and above its
// greatest. There is an edge at either.
func (f *feature) outOfRange(counts []int) int {
	if f.kind != numeric {
		return 0
	}
	lo, hi := 0, len(counts)-1
	for lo <= hi && f.counts[lo] == 0 {
		lo++
	}
	for hi > lo && f.counts[hi] == 0 {
		hi--
	}
	out := 0
	for k, c := range counts {
		if k < lo || k > hi {
			out += c
		}
	}
	return out
}

// ks is KS on the cells. Its D is at most that of the values themselves and at
// least that less one cell's share, so its P, from the law of the values' D, is
// too large if anything. Frequent values are cells of their own and ties
// are counted as ties; looking at D inside other cells only adds to P.
func (f *feature) ks(o observed) Score {
	const most = min(1<<31, math.MaxInt>>2) // their sum is an int
	n, m := int(f.present), o.present
	if f.present == 0 || m == 0 {
		return Score{Method: "ks", N: n, M: m}.finite()
	}
	if f.present > most || m > most {
		// Sums of products would overflow; halving counts of this size loses nothing.
		small := *f
		small.counts = make([]int64, len(f.counts))
		half := observed{counts: make([]int, len(o.counts))}
		for k := range f.counts {
			small.counts[k], half.counts[k] = f.counts[k], o.counts[k]
			if f.present > most {
				small.counts[k] /= 2
			}
			if m > most {
				half.counts[k] /= 2
			}
			half.present += half.counts[k]
		}
		small.present = 0
		for _, c := range small.counts {
			small.present += c
		}
		return small.ks(half)
	}
	ns, ms := scaled(n, m)
	var h, i, j int64
	ties := false
	for k := range f.counts {
		i += f.counts[k]
		j += int64(o.counts[k])
		h = max(h, i*ms-j*ns, j*ns-i*ms)
		ties = ties || single(f.edges, k) && f.counts[k]+int64(o.counts[k]) > 1
	}
	s := ksScore(n, m, h, twoSided, nil, 0)
	// Without ties the other forms are as good as exact; with ties they are too
	// large, which matters only where a decision is near.
	if !ties || s.P > 0.2 || s.P < 1e-12 {
		return s
	}
	return ksScore(n, m, h, twoSided, func() []int { return f.tieGroups(o.counts) }, judgeCells)
}

// tieGroups are the groups of pooled values: a single value's cell is one,
// and in other cells each value is one of its own.
func (f *feature) tieGroups(counts []int) []int {
	var groups []int
	for k := range f.counts {
		c := int(f.counts[k]) + counts[k]
		if single(f.edges, k) && c > 0 {
			groups = append(groups, c)
			continue
		}
		for range c {
			groups = append(groups, 1)
		}
	}
	return groups
}

// shareScore compares a share of rows by Fisher's exact test. Stat and Effect are the
// difference of the shares, current less reference, and its size.
func shareScore(method string, x, n, y, m int) Score {
	s := Score{Method: method, N: n, M: m}
	if n == 0 || m == 0 {
		return s.finite()
	}
	s.Stat = float64(y)/float64(m) - float64(x)/float64(n)
	s.Effect = math.Abs(s.Stat)
	s.P, s.HasP = fisher(x, n, y, m), true
	return s.finite()
}

// minDetectable is the debiased PSI at which chi-square would confirm a drift that
// lasts for as many windows as are tested together.
func (f *feature) minDetectable(level float64, tests int, o observed, together int) float64 {
	if f.present == 0 || o.present == 0 || level <= 0 {
		return 0
	}
	all := observed{counts: make([]int, len(o.counts))} // joined by how many there are, and not by which
	for k, c := range o.counts {
		all.counts[k] = together * c
	}
	bins, _ := f.joined(all)
	df := float64(max(len(bins)-1, 1))
	q := chiSquareQuantile(level/float64(tests), df)
	return (q - df) * (1/float64(f.present) + 1/float64(o.present*together))
}
