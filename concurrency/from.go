package concurrency

import "iter"

// From makes a plain sequence one that [Stream], [StreamUnordered] and [Batch]
// take: From(slices.Values(ids)), From(maps.Keys(users)). It can be ranged over
// as often as seq can. A nil seq panics.
func From[T any](seq iter.Seq[T]) iter.Seq2[T, error] {
	mustCall("From", seq != nil)
	return func(yield func(T, error) bool) {
		for v := range seq {
			if !yield(v, nil) {
				return
			}
		}
	}
}
