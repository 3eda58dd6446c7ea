package trainer

import (
	"math"
	"slices"
)

// AUC is the probability that a row with label 1 scores above one with label 0, ties counting half: the area under the ROC
// curve, by rank sums (Mann and Whitney, 1947). Labels of 0.5 and more count as 1. It is NaN if only one label occurs or a score
// is NaN. len(scores) == len(labels); neither is modified.
func AUC(scores, labels []float64) float64 {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
		if scores[i] != scores[i] {
			return math.NaN()
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case scores[a] < scores[b]:
			return -1
		case scores[a] > scores[b]:
			return 1
		}
		return 0
	})
	var positives, ranks float64
	for from := 0; from < len(order); {
		to := from + 1
		for to < len(order) && scores[order[to]] == scores[order[from]] {
			to++
		}
		for _, i := range order[from:to] {
			if labels[i] >= 0.5 {
				positives++
				ranks += float64(from+to+1) / 2 // the mean rank of the tie, from 1
			}
		}
		from = to
	}
	negatives := float64(len(order)) - positives
	if positives == 0 || negatives == 0 {
		return math.NaN()
	}
	return (ranks - positives*(positives+1)/2) / (positives * negatives)
}
