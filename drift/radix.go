package drift

import (
	"math"
	"slices"
)

const (
	radixFrom = 1 << 10 // from this length on sorting by digits beats comparing
	digit     = 11      // bits of a digit: six of them make a float
	low       = 31      // bits that are looked at only where the others are equal
)

// sortFloats sorts values that are not NaN; -0 and 0 are equal and end up beside each other.
func sortFloats(s []float64) {
	if len(s) < radixFrom {
		slices.Sort(s)
		return
	}
	keys := make([]uint64, 2*len(s))
	keys, spare := keys[:len(s)], keys[len(s):]
	for i, x := range s {
		keys[i] = ordered(x)
	}
	// Three digits of sign, exponent and 21 bits of mantissa tell most values
	// apart; only what they do not is sorted by the rest.
	keys, spare = byDigits(keys, spare, low)
	for i := 0; i < len(keys); {
		j := i + 1
		for j < len(keys) && keys[j]>>low == keys[i]>>low {
			j++
		}
		switch n := j - i; {
		case n >= radixFrom:
			run, _ := byDigits(keys[i:j], spare[i:j], 0)
			copy(keys[i:j], run)
		case n > 1:
			slices.Sort(keys[i:j])
		}
		i = j
	}
	for i, k := range keys {
		s[i] = unordered(k)
	}
}

// byDigits sorts keys by three digits from bit low on, with spare of the same
// length to move between. It returns the sorted one of the two and the other. A
// digit that is the same everywhere costs nothing.
func byDigits(keys, spare []uint64, low uint) (sorted, other []uint64) {
	const mask = 1<<digit - 1
	counts := new([3][1 << digit]uint32)
	for _, k := range keys {
		k >>= low
		counts[0][k&mask]++
		counts[1][k>>digit&mask]++
		counts[2][k>>(2*digit)&mask]++
	}
	for d := range counts {
		at, shift := &counts[d], low+uint(d)*digit
		if at[keys[0]>>shift&mask] == uint32(len(keys)) {
			continue
		}
		sum := uint32(0)
		for b, c := range at {
			at[b] = sum
			sum += c
		}
		spare = spare[:len(keys)]
		for _, k := range keys {
			b := k >> (shift & 63) & mask
			spare[at[b]] = k
			at[b]++
		}
		keys, spare = spare, keys
	}
	return keys, spare
}

// ordered maps floats to integers of the same order: the sign bit is flipped,
// and of a negative number all the others too.
func ordered(x float64) uint64 {
	b := math.Float64bits(x)
	return b ^ (uint64(int64(b)>>63) | 1<<63)
}

func unordered(k uint64) float64 {
	return math.Float64frombits(k ^ (uint64(int64(^k)>>63) | 1<<63))
}
