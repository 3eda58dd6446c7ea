package concurrency

// ring holds elements by ever growing positions. It grows with the distance
// between them, and its memory is used again as they move on.
type ring[E any] struct{ buf []E }

// at returns the place of position i, where low is the lowest one in use.
func (r *ring[E]) at(low, i int) *E {
	if need := i - low + 1; need > len(r.buf) {
		r.grow(low, need)
	}
	return &r.buf[i&(len(r.buf)-1)]
}

func (r *ring[E]) grow(low, need int) {
	size := max(8, len(r.buf))
	for size < need {
		size *= 2
	}
	buf := make([]E, size)
	for i := low; i < low+len(r.buf); i++ {
		buf[i&(size-1)] = r.buf[i&(len(r.buf)-1)]
	}
	r.buf = buf
}

// take returns what is at place and clears it, so that nothing is kept alive.
func take[E any](place *E) E {
	var none E
	e := *place
	*place = none
	return e
}
