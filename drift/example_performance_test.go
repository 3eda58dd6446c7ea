package drift_test

import (
	"fmt"
	"os"
	"time"

	"github.com/mainstay-go/mainstay/drift"
)

// scored stands for a model on held-out data: scores and whether they came true, which
// they did as often as they say, or, of a worse model, in half of the cases.
func scored(n int, worse bool) (scores []float64, labels []bool) {
	for i := range n {
		s := float64(i*7919%1000) / 1000
		chance := float64(i*104729%997) / 997
		if worse {
			labels = append(labels, chance < 0.5)
		} else {
			labels = append(labels, chance < s)
		}
		scores = append(scores, s)
	}
	return scores, labels
}

func ExampleMeasure() {
	scores, labels := []float64{0.9, 0.8, 0.3, 0.2}, []bool{true, false, true, false}
	m := drift.Measure(scores, labels, 0.5)
	fmt.Printf("accuracy %.2f, AUC %.2f, log loss %.3f\n", m.Accuracy, m.AUC, m.LogLoss)
	// Output: accuracy 0.50, AUC 0.75, log loss 0.785
}

// What the scores promise, before there are labels.
func ExampleCBPE() {
	m := drift.CBPE([]float64{0.9, 0.8, 0.3, 0.2}, 0.5)
	fmt.Printf("%.1f true and %.1f false positives: precision %.2f, accuracy %.2f\n", m.TP, m.FP, m.Precision, m.Accuracy)
	// Output: 1.7 true and 0.3 false positives: precision 0.85, accuracy 0.80
}

// Predictions are observed as they are made, their labels when they come.
func ExamplePerformance() {
	heldOut, truth := scored(10_000, false)
	ref := must(drift.Fit(drift.Predictions("click", heldOut, truth, 0.5)))
	event := time.Date(2011, 6, 1, 12, 0, 0, 0, time.UTC)
	monitor := must(drift.NewMonitor(ref, &drift.MonitorOptions{Now: func() time.Time { return event }}))
	clicks := must(monitor.Performance())

	scores, labels := scored(2000, true)
	for i, s := range scores {
		clicks.Predicted(fmt.Sprint("request-", i), s)
	}
	for i, clicked := range labels { // an hour later, say
		clicks.Actual(fmt.Sprint("request-", i), clicked)
	}
	report := monitor.Report()
	fmt.Println(report.Features[0].Verdict, report.Features[1].Verdict)
	fmt.Printf("AUC %.2f, was %.2f\n", report.Performance.Actual.AUC, report.Performance.Reference.AUC)
	// Output:
	// stable drift
	// AUC 0.50, was 0.83
}

// Replicas count, and one monitor judges the sum.
func ExampleMonitor_Judge() {
	ref := must(drift.Fit(drift.Numbers("age", ages(5000, 18))))
	event := time.Date(2011, 6, 1, 12, 0, 0, 0, time.UTC)
	options := &drift.MonitorOptions{Window: drift.Every(time.Hour), Now: func() time.Time { return event }}
	fleet := must(drift.NewMonitor(ref, options))
	replicas := []*drift.Monitor{must(drift.NewMonitor(ref, options)), must(drift.NewMonitor(ref, options))}
	for i, m := range replicas {
		age := must(m.Numeric("age"))
		for _, x := range ages(500+i, 18) {
			age.Observe(x)
		}
	}
	event = event.Add(time.Hour)

	var sum drift.Snapshot
	for i, m := range replicas {
		counted, _ := m.Snapshot()
		var received drift.Snapshot // as bytes, over the network
		check(received.UnmarshalBinary(must(counted.MarshalBinary())))
		if i == 0 {
			sum = received
		} else {
			check(sum.Merge(&received))
		}
	}
	check(fleet.Judge(&sum))
	check(fleet.Report().WriteText(os.Stdout))
	// Output:
	// 1001 rows, 2011-06-01 12:00:00 to 2011-06-01 13:00:00, reference 737097a9fde2
	// feature  verdict  effect  p  psi    ks     missing  unseen  out of range  moved most
	// age      stable   0.008   1  0.001  0.008  0.0%     0.0%    0.0%          -
}
