package drift_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/mainstay-go/mainstay/drift"
)

// check ends an example on an error, so that it stays readable.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

// ages stands for a column: n values between from and from+50.
func ages(n int, from float64) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = from + float64(i*7919%5000)/100
	}
	return v
}

func countries(n int) []string {
	v := make([]string, n)
	for i := range v {
		v[i] = []string{"DE", "FR", "UK"}[i%3]
	}
	return v
}

// Observe on the request path, look when you like.
func Example() {
	ref := must(drift.Fit(drift.Numbers("age", ages(5000, 18)), drift.Categories("country", countries(5000))))
	event := time.Date(2011, 6, 1, 12, 0, 0, 0, time.UTC)
	monitor := must(drift.NewMonitor(ref, &drift.MonitorOptions{Now: func() time.Time { return event }}))
	age, country := must(monitor.Numeric("age")), must(monitor.Categorical("country"))

	for i, x := range ages(1000, 28) { // ten years older
		age.Observe(x)
		country.Observe(countries(1000)[i])
	}
	check(monitor.Report().WriteText(os.Stdout))
	// Output:
	// 1000 rows, 2011-06-01 12:00:00 to 2011-06-01 12:00:00, reference 0ce11da82fae
	// feature  verdict  effect  p        psi    ks     missing  unseen  out of range  moved most
	// age      drift    1.256   3.7e-89  1.267  0.200  0.0%     0.0%    19.5%         above 65: 25.8%, was 6.0%
	// country  stable   0.000   1        0.000  -      0.0%     0.0%    0.0%          -
}

// Two samples, one number and how sure it is.
func ExampleKS() {
	s := drift.KS(ages(1000, 18), ages(800, 19))
	fmt.Printf("D %.3f, p %.2f, %s\n", s.Stat, s.P, s.Method)
	fmt.Println("drifted at 1 %:", s.Drifted(0.01))
	// Output:
	// D 0.024, p 0.96, ks exact
	// drifted at 1 %: false
}

// The same shift reads differently by the number of rows: Null is what to expect
// without any, and 0.03 in 100 rows is less than that.
func ExamplePSI() {
	for _, rows := range []int{100, 10_000} {
		s := drift.PSI(ages(5000, 18), ages(rows, 21), nil)
		fmt.Printf("%d rows: PSI %.2f, without drift about %.3f\n", rows, s.Stat, s.Null)
	}
	// Output:
	// 100 rows: PSI 0.03, without drift about 0.092
	// 10000 rows: PSI 0.08, without drift about 0.003
}

// Counts of bins that exist already.
func ExamplePSICounts() {
	s := drift.PSICounts([]int{500, 300, 200}, []int{50, 30, 20}, drift.AddHalf)
	fmt.Printf("same shares: PSI %.4f, p %.2f\n", s.Stat, s.P)
	// Output:
	// same shares: PSI 0.0000, p 1.00
}

func ExampleChiSquare() {
	s := drift.ChiSquare([]int{500, 300, 200}, []int{40, 30, 30})
	fmt.Printf("%.2f with %.0f degrees of freedom: p %.3f\n", s.Stat, s.Null, s.P)
	// Output:
	// 6.20 with 2 degrees of freedom: p 0.045
}

// Four features were looked at; which of the small p-values mean something?
func ExampleBenjaminiHochberg() {
	fmt.Printf("%.3f\n", drift.BenjaminiHochberg([]float64{0.001, 0.04, 0.3, 0.012}))
	fmt.Printf("%.3f\n", drift.Holm([]float64{0.001, 0.04, 0.3, 0.012}))
	// Output:
	// [0.004 0.053 0.300 0.024]
	// [0.004 0.080 0.300 0.036]
}

// A reference ships beside the model, as bytes or as JSON.
func ExampleReference() {
	ref := must(drift.Fit(drift.Categories("plan", []string{"free", "free", "pro", ""})))
	fmt.Println(string(must(json.Marshal(ref))))

	var back drift.Reference
	check(back.UnmarshalBinary(must(ref.MarshalBinary())))
	fmt.Println(back.ID() == ref.ID())
	// Output:
	// {"format":2,"id":"5bc259c052c5ac3452e943736207bbf5","schema":"d5bcf5dcb6db4a428b98102545e92e29","features":[{"name":"plan","kind":"categorical","missing":1,"categories":["free","pro"],"counts":[2,1]}]}
	// true
}

// A training set that does not fit into memory is fitted in parts.
func ExampleReference_Merge() {
	all := ages(5000, 18) // stands for a file, read a part at a time
	ref := must(drift.Fit(drift.Numbers("age", all[:1000])))
	for part := range slices.Chunk(all[1000:], 500) {
		ref = must(ref.Merge(must(ref.Fit(drift.Numbers("age", part)))))
	}

	m := must(drift.NewMonitor(ref, nil))
	for _, age := range all[:2000] {
		must(m.Numeric("age")).Observe(age + 10)
	}
	f := m.Report().Features[0]
	fmt.Printf("%s, KS on %d values against %d\n", f.Verdict, f.Scores[1].M, f.Scores[1].N)
	// Output: drift, KS on 2000 values against 5000
}

// Rows need no column of their own.
func ExampleNumbersSeq() {
	type visit struct {
		Age     float64
		Country string
	}
	visits := []visit{{31, "DE"}, {52, "FR"}, {44, "DE"}}
	ref := must(drift.Fit(
		drift.NumbersSeq("age", func(yield func(float64) bool) {
			for _, v := range visits {
				if !yield(v.Age) {
					return
				}
			}
		}),
		drift.CategoriesSeq("country", func(yield func(string) bool) {
			for _, v := range visits {
				if !yield(v.Country) {
					return
				}
			}
		}),
	))
	fmt.Println(ref.ID() == must(drift.Fit(
		drift.Numbers("age", []float64{31, 52, 44}), drift.Categories("country", []string{"DE", "FR", "DE"}))).ID())
	// Output: true
}

// A drift is told once, under an ID that makes what is done about it idempotent.
func ExampleMonitor_Watch() {
	ref := must(drift.Fit(drift.Numbers("age", ages(5000, 18)), drift.Categories("country", countries(5000))))
	monitor := must(drift.NewMonitor(ref, &drift.MonitorOptions{Window: drift.Tumbling(500)}))
	age, country := must(monitor.Numeric("age")), must(monitor.Categorical("country"))

	ctx, stop := context.WithCancel(context.Background())
	watched := make(chan error)
	go func() {
		watched <- monitor.Watch(func(_ context.Context, a drift.Alert) error {
			fmt.Printf("%s: %v, and %d others\n", a.Feature.Name, a.Feature.Verdict, len(a.Others))
			stop() // in a program: start a rollout under a.ID
			return nil
		})(ctx)
	}()
	for i, x := range ages(1500, 28) {
		age.Observe(x)
		country.Observe(countries(1500)[i])
	}
	check(<-watched)
	// Output: age: drift, and 0 others
}

// The version that was trained on what is now live brings its own reference.
func ExampleMonitor_Rebase() {
	old := must(drift.Fit(drift.Numbers("age", ages(5000, 18))))
	retrained := must(drift.Fit(drift.Numbers("age", ages(5000, 28))))
	monitor := must(drift.NewMonitor(old, nil))
	age := must(monitor.Numeric("age"))

	look := func() {
		for _, x := range ages(1000, 28) {
			age.Observe(x)
		}
		fmt.Println(monitor.Report().Features[0].Verdict)
	}
	look()
	check(monitor.Rebase(retrained))
	look() // through the same handle
	// Output:
	// drift
	// stable
}
