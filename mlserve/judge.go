package mlserve

// The metrics that the server itself observes, one outcome each per routed
// request.
const (
	// MetricErrors is 1 if the version failed or was late, else 0.
	MetricErrors = "errors"
	// MetricLatency is the time the version took, in seconds.
	MetricLatency = "latency"
)

// Judge compares the arms of a [Traffic]. It is called on the request path,
// from many goroutines: it must be quick and safe for concurrent use.
type Judge interface {
	// Observe takes one outcome.
	Observe(o Outcome)
	// Verdict says what the outcomes so far allow to conclude.
	Verdict() Verdict
}

// Outcome is what came of one request.
type Outcome struct {
	ID      string  // of the request
	Arm     string  // that answered
	Control bool    // whether that is the first arm of the traffic
	Key     string  // the unit of assignment; "": the request is its own unit
	Metric  string  // MetricErrors, MetricLatency or one of your own
	Value   float64 // in the metric's unit
	Shadow  bool    // the answer was not given to anyone
}

// Decision is what a judge concludes.
type Decision int

// The zero decision is to hold: no evidence is not good news.
const (
	Hold     Decision = iota // not enough evidence for either
	Promote                  // the candidate is not worse by more than the margin
	Rollback                 // the candidate is worse
)

// String returns "hold", "promote" or "rollback".
func (d Decision) String() string {
	switch d {
	case Promote:
		return "promote"
	case Rollback:
		return "rollback"
	default:
		return "hold"
	}
}

// Verdict is a decision and what it rests on.
type Verdict struct {
	Decision Decision
	Evidence []Evidence // one per metric
}

// Evidence is what is known about one metric.
type Evidence struct {
	Metric    string
	Control   float64 // share of bad keys in the control arm; 0 without keys
	Candidate float64 // share of bad keys in the other arms; 0 without keys
	Keys      int     // of the candidate that were counted
	EValue    float64 // evidence that the candidate is worse; see Sequential
}
