package drift

import "math"

// scaled returns n and m divided by their greatest common divisor: one value of
// the reference weighs m', one of the current sample n', and D = h/(n'*m). Products
// of the two do not fit into the int of a 32-bit machine.
func scaled(n, m int) (ns, ms int64) {
	a, b := int64(n), int64(m)
	for b != 0 {
		a, b = b, a%b
	}
	return int64(n) / a, int64(m) / a
}

// maxGap returns the largest F-G and the largest G-F of two ascending samples, in
// units of 1/lcm(n,m), and whether any two pooled values are equal.
func maxGap(a, b []float64) (above, below int64, ties bool) {
	n, m := scaled(len(a), len(b))
	top, bottom, ties := along(a, b, m, n)
	return top, -bottom, ties
}

// along goes along two ascending samples, up by so much at each value of a and down at
// each of b, and returns the highest and the lowest point where a group of equal values
// ends, the beginning among them and not the end of all, and whether there is such a group.
func along(a, b []float64, up, down int64) (top, bottom int64, ties bool) {
	i, j := 0, 0
	var gap int64
	last := math.NaN()
	for i < len(a) && j < len(b) {
		// Which of the two comes next cannot be predicted, so there are no
		// branches on it: what is not taken moves by nothing.
		x, y := a[i], b[j]
		var di, dj int64
		if x <= y {
			di = 1
		}
		if y <= x {
			dj = 1
		}
		i += int(di)
		j += int(dj)
		gap += di*up - dj*down
		last = x
		if dj > 0 {
			last = y
		}
		if (i < len(a) && a[i] == last) || (j < len(b) && b[j] == last) {
			ties = true
			continue // not the end of a group of ties
		}
		ties = ties || x == y
		top, bottom = max(top, gap), min(bottom, gap)
	}
	// One sample is used up. When the last group has ended too, it goes one way only, to an end that the caller knows.
	for ; i < len(a) && a[i] == last; i++ {
		gap += up
	}
	for ; j < len(b) && b[j] == last; j++ {
		gap -= down
	}
	top, bottom = max(top, gap), min(bottom, gap)
	return top, bottom, ties || repeats(a[i:]) || repeats(b[j:])
}

func repeats(s []float64) bool {
	for i := 1; i < len(s); i++ {
		if s[i] == s[i-1] {
			return true
		}
	}
	return false
}
