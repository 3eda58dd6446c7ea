package drift

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Within a block all pairs are compared, so a bounded block bounds the work per row.
const (
	mmdBlock  = 200 // rows of both samples in a block, at the most
	mmdBlocks = 25  // blocks, at the most
)

// MMD compares rows of several columns at once, and so sees a change of how they depend on
// each other that no column shows by itself: the maximum mean discrepancy
// (Gretton et al. 2012) with the Gaussian kernel exp(-d^2/(2 sigma^2)), d the Euclidean
// distance. Stat is the unbiased estimate of its square, which without drift is about 0 and may be
// negative; Effect is the root of it, at least 0 and below sqrt(2). sigma is the median distance
// of the pooled rows. Columns are taken as they are: bring them to one scale first, or the widest decides alone.
//
// Up to 200 rows together, all pairs are compared. More rows are dealt at
// random into up to 25 blocks of at most 200, and the estimates of the blocks are averaged
// (Zaremba et al. 2013, but P by permutation). Every block has at least 20 rows of
// each sample, so there are fewer of them beside a small one. Rows that do not fit,
// beyond 5,000 or of a sample that is much larger than the other, are left out, and
// N and M are those that took part. P is by deals drawn from seed
// within the blocks, counted as by [AndersonDarling]; the same seed gives the same
// result. It takes up to half a second.
//
// Rows with a NaN are left out; an infinity counts as the largest float. There
// is no P with fewer than two rows on a side, or if all rows are equal. Rows of
// unequal length are a programming error and panic.
func MMD(ref, cur [][]float64, seed uint64) Score {
	all, n := newMMDRows(ref, cur)
	m := len(all.rows) - n
	s := Score{Method: "mmd", N: n, M: m}
	if n < 2 || m < 2 {
		return s.finite()
	}
	r := rand.New(rand.NewPCG(seed, 0))
	refs, curs := r.Perm(n), r.Perm(m)
	for i := range curs {
		curs[i] += n
	}
	// As many blocks as hold all rows, but none with a handful of one side.
	blocks := max(1, min((n+m+mmdBlock-1)/mmdBlock, mmdBlocks, n/20, m/20))
	perRef, perCur := n/blocks, m/blocks
	// What is too much goes from the larger side first.
	perRef = min(perRef, max(mmdBlock/2, mmdBlock-perCur))
	perCur = min(perCur, mmdBlock-perRef)
	s.N, s.M = blocks*perRef, blocks*perCur
	width := all.medianSquare(refs, curs, r)
	if width == 0 {
		return s.finite()
	}
	list := make([]mmdBlockSums, blocks)
	for k := range list {
		rows := slices.Concat(refs[k*perRef:(k+1)*perRef], curs[k*perCur:(k+1)*perCur])
		list[k] = newMMDBlock(all, rows, perRef, 2*width)
	}
	estimate := func(pick func(size int) []int) float64 {
		sum := 0.0
		for k := range list {
			b := &list[k]
			sum += b.unbiased(b.within(pick(len(b.total))))
		}
		return sum / float64(blocks)
	}
	first := sequence(perRef)
	s.Stat = estimate(func(int) []int { return first })
	s.Effect = math.Sqrt(max(0, s.Stat))
	deck := sequence(perRef + perCur)
	s.P, _ = permutationP(func() bool {
		drawn := estimate(func(size int) []int {
			for i := range perRef {
				j := i + r.IntN(size-i)
				deck[i], deck[j] = deck[j], deck[i]
			}
			return deck[:perRef]
		})
		return drawn >= s.Stat-1e-12*math.Abs(s.Stat)
	})
	s.HasP = true
	s.Method = "mmd permutation"
	return s.finite()
}

// mmdRows are the rows that took part, divided by their largest value where squares would overflow.
type mmdRows struct{ rows [][]float64 }

// newMMDRows returns the rows without NaN, the reference's first, and how many those are.
func newMMDRows(ref, cur [][]float64) (all mmdRows, n int) {
	width := -1
	largest := 0.0
	for i, row := range slices.Concat(ref, cur) {
		if i == len(ref) {
			n = len(all.rows)
		}
		if width >= 0 && len(row) != width {
			panic("drift: MMD: rows of different lengths")
		}
		width = len(row)
		if slices.ContainsFunc(row, math.IsNaN) {
			continue
		}
		for _, x := range row {
			largest = max(largest, min(math.Abs(x), math.MaxFloat64))
		}
		all.rows = append(all.rows, row)
	}
	if len(cur) == 0 {
		n = len(all.rows)
	}
	if largest > 1e140 || (largest > 0 && largest < 1e-140) {
		for i, row := range all.rows {
			row = slices.Clone(row)
			for j, x := range row {
				row[j] = min(max(x, -math.MaxFloat64), math.MaxFloat64) / largest
			}
			all.rows[i] = row
		}
	}
	return all, n
}

func (a mmdRows) square(i, j int) float64 {
	sum := 0.0
	x, y := a.rows[i], a.rows[j]
	for k := range x {
		d := x[k] - y[k]
		sum += d * d
	}
	return sum
}

// medianSquare is the square of the median distance of the pooled rows, from at
// most 200 of them; the mean if half of all pairs are equal, and 0 if all are.
func (a mmdRows) medianSquare(refs, curs []int, r *rand.Rand) float64 {
	pool := slices.Concat(refs, curs)
	r.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
	pool = pool[:min(len(pool), mmdBlock)]
	var squares []float64
	sum := 0.0
	for i, x := range pool {
		for _, y := range pool[:i] {
			d := a.square(x, y)
			squares = append(squares, d)
			sum += d
		}
	}
	sortFloats(squares)
	if d := squares[len(squares)/2]; d > 0 {
		return d
	}
	return sum / float64(len(squares))
}

// mmdBlockSums is the kernel of all pairs of a block, and its sums.
type mmdBlockSums struct {
	n      int       // rows of the first sample
	kernel []float64 // of all pairs, 0 of a row with itself
	total  []float64 // per row, the sum over all others
	all    float64   // the sum over all ordered pairs
}

func newMMDBlock(a mmdRows, rows []int, n int, twoSigmaSquare float64) mmdBlockSums {
	size := len(rows)
	b := mmdBlockSums{n: n, kernel: make([]float64, size*size), total: make([]float64, size)}
	for i, x := range rows {
		for j, y := range rows[:i] {
			k := math.Exp(-a.square(x, y) / twoSigmaSquare)
			b.kernel[i*size+j], b.kernel[j*size+i] = k, k
			b.total[i] += k
			b.total[j] += k
			b.all += 2 * k
		}
	}
	return b
}

// within returns the sums over ordered pairs of different rows within the first
// sample, if that is these rows, and between it and the other.
func (b *mmdBlockSums) within(first []int) (within, between float64) {
	size := len(b.total)
	for p, i := range first {
		between += b.total[i]
		row := b.kernel[i*size : (i+1)*size]
		for _, j := range first[:p] {
			within += row[j]
		}
	}
	within *= 2
	return within, between - within
}

// unbiased is the U-statistic of the squared discrepancy.
func (b *mmdBlockSums) unbiased(within, between float64) float64 {
	n := float64(b.n)
	m := float64(len(b.total)) - n
	other := b.all - within - 2*between
	return within/(n*(n-1)) + other/(m*(m-1)) - 2*between/(n*m)
}

func sequence(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}
