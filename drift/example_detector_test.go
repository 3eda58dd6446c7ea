package drift_test

import (
	"fmt"

	"github.com/mainstay-go/mainstay/drift"
)

// noise gives values that look random and are the same in every run: uniform in [0, 1).
func noise() func() float64 {
	i := 0
	return func() float64 {
		i++
		return float64(i*i*7919%10007) / 10007
	}
}

// Any detector on any stream: a Drift is an alarm, and the next value begins anew.
func ExampleDetector() {
	for _, d := range []drift.Detector{&drift.ADWIN{}, &drift.PageHinkley{}, &drift.KSWIN{}} {
		next := noise()
		for i := range 4000 {
			x := next()
			if i >= 2000 {
				x += 0.5 // the level moves
			}
			if d.Observe(x) == drift.Drift {
				fmt.Printf("%T: alarm at value %d\n", d, i)
				break
			}
		}
	}
	// Output:
	// *drift.ADWIN: alarm at value 2047
	// *drift.PageHinkley: alarm at value 2016
	// *drift.KSWIN: alarm at value 2054
}

// ADWIN's window is the part of the stream that is like now.
func ExampleADWIN() {
	var latency drift.ADWIN // ready as it is
	next := noise()
	for i := range 3000 {
		x := next()
		if i >= 2000 {
			x++
		}
		latency.Observe(x)
	}
	fmt.Printf("the last %d values have a mean of %.1f\n", latency.Width(), latency.Mean())
	// Output:
	// the last 1016 values have a mean of 1.5
}

// The same settings serve every unit: they are in standard deviations.
func ExamplePageHinkley() {
	slower := drift.PageHinkley{Side: drift.Up} // only upwards
	next := noise()
	for i := range 4000 {
		millis := 20 + 5*next()
		if i >= 3000 {
			millis += 2
		}
		if slower.Observe(millis) == drift.Drift {
			fmt.Printf("slower since a little before value %d\n", i)
		}
	}
	// Output:
	// slower since a little before value 3022
}

// The errors of a model: 1 is wrong, 0 is right.
func ExampleHDDMA() {
	var errors drift.HDDMA
	next := noise()
	for i := range 3000 {
		rate := 0.1
		if i >= 2000 {
			rate = 0.3
		}
		wrong := 0.0
		if next() < rate {
			wrong = 1
		}
		if errors.Observe(wrong) == drift.Drift {
			fmt.Println("more errors than before, at value", i)
		}
	}
	// Output:
	// more errors than before, at value 2102
}

// Every value is looked at, and still there is at most one false alarm in
// RunLength values on average.
func ExampleEProcess() {
	next := noise()
	training := make([]float64, 5000)
	for i := range training {
		training[i] = next()
	}
	d := drift.EProcess{Reference: training, RunLength: 1_000_000}
	for i := range 3000 {
		x := next()
		if i >= 2000 {
			x = 0.9 * x
		}
		if d.Observe(x) == drift.Drift {
			fmt.Println("alarm at value", i)
			break
		}
	}
	// Output:
	// alarm at value 2157
}

// The exact distance of the last 500 values from the training data, at each value.
func ExampleSlidingKS() {
	next := noise()
	training := make([]float64, 5000)
	for i := range training {
		training[i] = next()
	}
	d, err := drift.NewSlidingKS(training, 500, 1e-5)
	check(err)
	for i := range 3000 {
		x := next()
		if i >= 2000 {
			x += 0.3
		}
		if d.Observe(x) == drift.Drift {
			s := d.Score()
			fmt.Printf("value %d: D %.3f, p %.1g (%s)\n", i, s.Stat, s.P, s.Method)
			break
		}
	}
	// Output:
	// value 2141: D 0.116, p 1e-05 (ks exact)
}

// Errors that become more: a warning first, time to collect rows to train on.
func ExampleDDM() {
	var d drift.DDM
	next := noise()
	last := drift.Insufficient
	for i := range 2300 {
		wrong := 0.0
		if next() < 0.2+0.2*float64(i/2000) {
			wrong = 1
		}
		if now := d.Observe(wrong); now != last {
			last = now
			if i > 1900 {
				fmt.Println(i, now)
			}
		}
	}
	// Output:
	// 2086 warning
	// 2196 drift
	// 2197 insufficient
	// 2227 stable
}
