package drift

import (
	"compress/gzip"
	"encoding/json"
	"maps"
	"math"
	"os"
	"slices"
	"testing"
)

const streamGolden = "testdata/drift-stream-golden.json.gz"

// stream is a golden stream, its segments one after the other.
type stream struct {
	ID          string
	Binary      bool
	Segments    []spec
	Thresholds  []float64
	Length      int
	StreamCheck string `json:"stream_check"`
	Expect      struct {
		Length    int
		Detectors map[string][]streamResult
	}
}

func (s *stream) values(t *testing.T) []float64 {
	t.Helper()
	var v []float64
	for i := range s.Segments {
		part := s.Segments[i].values(t)
		if s.Binary {
			for j, x := range part {
				part[j] = number(x < s.Thresholds[i])
			}
		}
		v = append(v, part...)
	}
	if got := checksum(v); got != s.StreamCheck || len(v) != s.Length+s.Expect.Length {
		t.Fatalf("%s: %d values with checksum %s, want %d with %s", s.ID, len(v), got, s.Length+s.Expect.Length, s.StreamCheck)
	}
	return v
}

// streamResult is what a library, or a port of it, said of a stream.
type streamResult struct {
	Stream, Lib, Detector string
	Params                map[string]any
	AfterAlarm            string `json:"after_alarm"`
	Input                 string
	Alarms                *int
	Drift                 []int
	WarningFirst          []int    `json:"warning_first"`
	Warnings              *int     // indices in the warning state
	WarningRuns           [][2]int `json:"warning_runs"`
	FinalWidth            *int     `json:"final_width"`
	FinalTotal            *float64 `json:"final_total"`
	FinalVarianceSum      *float64 `json:"final_variance_sum"`
}

func loadStreams(t *testing.T) (map[string]*stream, []streamResult) {
	t.Helper()
	read := func(name string, into any) {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewDecoder(z).Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	var ports struct{ Cases []json.RawMessage }
	read(golden, &ports)
	var libs struct {
		Streams []*stream
		Results []streamResult
	}
	read(streamGolden, &libs)
	streams, results := map[string]*stream{}, libs.Results
	for _, raw := range ports.Cases {
		var kind struct{ Kind string }
		if err := json.Unmarshal(raw, &kind); err != nil {
			t.Fatal(err)
		}
		if kind.Kind != "stream" {
			continue
		}
		s := new(stream)
		if err := json.Unmarshal(raw, s); err != nil {
			t.Fatal(err)
		}
		streams[s.ID] = s
		for name, all := range s.Expect.Detectors {
			for _, r := range all {
				r.Stream, r.Lib, r.Detector, r.AfterAlarm = s.ID, "port", name, "reset"
				if name == "adwin" {
					r.AfterAlarm = "keep-window"
				}
				results = append(results, r)
			}
		}
	}
	if len(streams) != 8 || len(libs.Streams) != 10 || len(libs.Results) != 593 {
		t.Fatalf("%d and %d streams with %d results, want 8 and 10 with 593", len(streams), len(libs.Streams), len(libs.Results))
	}
	for _, s := range libs.Streams {
		streams[s.ID] = s
	}
	return streams, results
}

// settings turns a library's parameters into one of our detectors. It takes what it
// knows from p and leaves the rest.
type settings func(p map[string]any) Detector

func take(p map[string]any, name string, def float64) float64 {
	v, ok := p[name]
	if !ok {
		return def
	}
	delete(p, name)
	if s, ok := v.(string); ok {
		return map[string]float64{"up": float64(Up), "down": float64(Down), "both": float64(Both)}[s]
	}
	return number(v)
}

// fading is our Fade of their alpha: 1 is none.
func fading(alpha float64) float64 {
	if alpha == 1 {
		return 0
	}
	return alpha
}

// listed says of every library, detector and variant what this package does with it: it has
// the settings, or why not. One that is not listed fails the test.
var listed = map[string]struct {
	ours settings
	why  string
}{
	"port page_hinkley":           {why: "reflects the fading sum at 0, where ours subtracts its least; compared where it does not fade"},
	"port page_hinkley unfaded":   {ours: portPageHinkley},
	"port page_hinkley_two_sided": {ours: pageHinkley("min_n", "lam", "alpha", 1, 0.005, Both)},
	"port ddm":                    {ours: func(_ map[string]any) Detector { return &DDM{} }},
	"port eddm":                   {ours: func(_ map[string]any) Detector { return &EDDM{} }},
	"port hddm_a":                 {ours: func(p map[string]any) Detector { return &HDDMA{TwoSided: take(p, "two", 0) == 1} }},
	"port hddm_w": {ours: func(p map[string]any) Detector {
		return &HDDMW{TwoSided: take(p, "two", 0) == 1, Lambda: take(p, "lam", 0)}
	}},
	"port adwin":                     {ours: adwin("maxb", "minw", "grace")},
	"river PageHinkley":              {ours: riverPageHinkley},
	"river DDM":                      {ours: riverDDM},
	"river EDDM":                     {ours: riverEDDM},
	"river HDDM_A":                   {ours: riverHDDMA},
	"river HDDM_W":                   {ours: riverHDDMW},
	"river ADWIN":                    {ours: adwin("max_buckets", "min_window_length", "grace_period")},
	"river KSWIN":                    {ours: kswin("window_size", "stat_size", 0)},
	"river FHDDM":                    {why: "not offered: a window of fixed size, where HDDMA finds the cut"},
	"frouros KSWIN":                  {ours: kswin("min_num_instances", "num_test_instances", 0)},
	"frouros CUSUM":                  {ours: frourosCUSUM},
	"frouros DDM":                    {ours: frourosDDM},
	"frouros ADWIN":                  {why: "never tests the last bucket of each size, and has other terms for the least window"},
	"frouros PageHinkley":            {why: "subtracts no minimum: an earlier fall hides a later rise"},
	"frouros EDDM":                   {why: "any right prediction clears the state; population variance"},
	"frouros HDDM_A":                 {why: "ln(1/alpha), where the paper and MOA have ln(2/alpha); silent before 30 values"},
	"frouros HDDM_W":                 {why: "begins the weighted mean at 0, and moves the cut by lambda as a confidence"},
	"frouros RDDM":                   {why: "not offered: DDM on a bounded memory"},
	"frouros STEPD":                  {why: "not offered: KSWIN and HDDMA do its work"},
	"frouros ECDDWT":                 {why: "not offered: EProcess has the guarantee that its run length approximates"},
	"frouros GeometricMovingAverage": {why: "not offered: alarms on the level of an average, not on a change of it"},
}

func pageHinkley(minN, lambda, alpha string, defAlpha, defDelta float64, side Side) settings {
	return func(p map[string]any) Detector {
		return &PageHinkley{
			Raw: true, Side: side, Min: int(take(p, minN, 30)), Lambda: take(p, lambda, 50),
			Delta: take(p, "delta", defDelta), Fade: fading(take(p, alpha, defAlpha)),
		}
	}
}

// It counts one value more than there were.
func portPageHinkley(p map[string]any) Detector {
	d := pageHinkley("min_n", "lam", "alpha", 1, 0.005, Up)(p).(*PageHinkley)
	d.Min--
	return d
}

func riverPageHinkley(p map[string]any) Detector {
	side := Side(take(p, "mode", float64(Both)))
	return pageHinkley("min_instances", "threshold", "alpha", 0.9999, 0.005, side)(p)
}

func frourosCUSUM(p map[string]any) Detector {
	return pageHinkley("min_num_instances", "lambda_", "-", 1, 0.005, Up)(p)
}

func riverDDM(p map[string]any) Detector {
	return &DDM{Warm: int(take(p, "warm_start", 30)), Warn: take(p, "warning_threshold", 2), Alarm: take(p, "drift_threshold", 3)}
}

// It begins at n >= least, ours at n > Warm; and its minimum moves on <, ours on <=.
func frourosDDM(p map[string]any) Detector {
	return &DDM{Warm: int(take(p, "min_num_instances", 30)) - 1, Warn: take(p, "warning_level", 2), Alarm: take(p, "drift_level", 3)}
}

func riverEDDM(p map[string]any) Detector {
	return &EDDM{Warm: int(take(p, "warm_start", 30)), Warn: take(p, "alpha", 0.95), Alarm: take(p, "beta", 0.9)}
}

func riverHDDMA(p map[string]any) Detector {
	return &HDDMA{Alarm: take(p, "drift_confidence", 0.001), Warn: take(p, "warning_confidence", 0.005), TwoSided: take(p, "two_sided_test", 0) == 1}
}

func riverHDDMW(p map[string]any) Detector {
	return &HDDMW{
		Alarm: take(p, "drift_confidence", 0.001), Warn: take(p, "warning_confidence", 0.005),
		Lambda: take(p, "lambda_val", 0.05), TwoSided: take(p, "two_sided_test", 0) == 1,
	}
}

func adwin(buckets, least, grace string) settings {
	return func(p map[string]any) Detector {
		return &ADWIN{
			Delta: take(p, "delta", 0.002), Clock: int(take(p, "clock", 32)), Buckets: int(take(p, buckets, 5)),
			MinWindow: int(take(p, least, 5)), Grace: int(take(p, grace, 10)),
		}
	}
}

// All their runs compare two halves of the window, so that nothing is drawn at random.
func kswin(window, recent string, def float64) settings {
	return func(p map[string]any) Detector {
		delete(p, "seed")
		return &KSWIN{Window: int(take(p, window, def)), Recent: int(take(p, recent, def)), Alpha: take(p, "alpha", def)}
	}
}

// The alarms, and the warnings, are those of the libraries, wherever the rule is the same.
func TestStreamGolden(t *testing.T) {
	streams, results := loadStreams(t)
	values := map[string][]float64{}
	for id, s := range streams {
		values[id] = s.values(t)
	}
	compared, left := map[string]int{}, map[string]int{}
	for _, r := range results {
		name := r.Lib + " " + r.Detector
		if r.Params["alpha"] == 1.0 && name == "port page_hinkley" {
			name += " unfaded"
		}
		entry, ok := listed[name]
		if !ok {
			t.Fatalf("%s is not in the table", name)
		}
		if entry.ours == nil {
			left[name]++
			continue
		}
		params := maps.Clone(r.Params)
		d := entry.ours(params)
		if len(params) > 0 {
			t.Fatalf("%s has settings that nothing is made of: %v", name, params)
		}
		compared[name]++
		if brief() && compared[name] > 3 {
			continue
		}
		compareStream(t, d, values[r.Stream], &r)
	}
	for name, e := range listed {
		if (e.ours != nil && compared[name] == 0) || (e.ours == nil && left[name] == 0) {
			t.Errorf("%s is in the table and not in the files", name)
		}
	}
	t.Logf("compared: %v\nleft out: %v", compared, left)
}

func compareStream(t *testing.T, d Detector, v []float64, r *streamResult) {
	t.Helper()
	var drift, first []int
	var runs [][2]int
	warnings, was := 0, Insufficient
	for i, x := range v {
		now := d.Observe(x)
		if now != d.Verdict() {
			t.Fatalf("%T: Observe says %v, Verdict %v", d, now, d.Verdict())
		}
		switch now {
		case Drift:
			drift = append(drift, i)
			if r.Lib == "river" && r.Detector == "EDDM" && was == Warning { // it counts both
				warnings++
				runs[len(runs)-1][1]++
			}
			if a, ok := d.(*ADWIN); ok && r.AfterAlarm != "keep-window" && (r.FinalWidth == nil || i != len(v)-1) {
				a.Reset()
			}
		case Warning:
			warnings++
			if was != Warning {
				first = append(first, i)
				runs = append(runs, [2]int{i, 0})
			}
			runs[len(runs)-1][1]++
		}
		was = now
	}
	of := func(what string, got, want any, same bool) {
		t.Helper()
		if !same {
			t.Errorf("%s %s %v on %s, %s: %s\n got %v\nwant %v", r.Lib, r.Detector, r.Params, r.Stream, r.AfterAlarm, what, got, want)
		}
	}
	if r.Alarms != nil {
		of("alarms", len(drift), *r.Alarms, len(drift) == *r.Alarms)
		drift = drift[:min(len(drift), 200)]
	}
	of("drift", drift, r.Drift, slices.Equal(drift, r.Drift))
	if r.WarningFirst != nil {
		first = first[:min(len(first), 20)]
		of("first warnings", first, r.WarningFirst, slices.Equal(first, r.WarningFirst))
	}
	if r.Warnings != nil {
		of("warnings", warnings, *r.Warnings, warnings == *r.Warnings)
		runs = runs[:min(len(runs), 40)]
		of("warning runs", runs, r.WarningRuns, slices.Equal(runs, r.WarningRuns))
	}
	if a, ok := d.(*ADWIN); ok {
		if r.FinalWidth != nil {
			of("width", a.Width(), *r.FinalWidth, a.Width() == *r.FinalWidth)
		}
		if r.FinalTotal != nil {
			of("total", a.total, *r.FinalTotal, math.Abs(a.total-*r.FinalTotal) <= 1e-9*max(1, math.Abs(*r.FinalTotal)))
		}
		if r.FinalVarianceSum != nil {
			of("variance", a.variance, *r.FinalVarianceSum, math.Abs(a.variance-*r.FinalVarianceSum) <= 1e-9*max(1, *r.FinalVarianceSum))
		}
	}
}
