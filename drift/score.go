package drift

import (
	"fmt"
	"math"
)

// Score is the result of comparing a current sample with a reference. No field
// is ever NaN or infinite. The zero Score has no p-value and drifted at no level.
type Score struct {
	Method string  `json:"method"` // which statistic, its first word, and how P was found
	Stat   float64 `json:"stat"`   // the statistic: D for KS, PSI in nats, chi-square
	P      float64 `json:"p"`      // probability of a Stat at least this large without drift; 1 without HasP
	Effect float64 `json:"effect"` // the difference free of sample size: D, debiased PSI, Cramer's V
	Null   float64 `json:"null"`   // mean of Stat without drift, at these sample sizes
	HasP   bool    `json:"has_p"`  // whether P is defined; with too few values it is not, and never made up
	N      int     `json:"n"`      // values of the reference that took part
	M      int     `json:"m"`      // values of the current sample that took part
}

// Drifted reports whether the score has a p-value and it is at most alpha.
func (s Score) Drifted(alpha float64) bool { return s.HasP && s.P <= alpha }

// finite makes the promise of Score true whatever overflowed on the way.
func (s Score) finite() Score {
	for _, f := range []*float64{&s.Stat, &s.Effect, &s.Null} {
		switch {
		case math.IsNaN(*f):
			*f = 0
		case math.IsInf(*f, 0):
			*f = math.Copysign(math.MaxFloat64, *f)
		}
	}
	if math.IsNaN(s.P) || !s.HasP {
		s.P, s.HasP = 1, false
	}
	s.P = min(max(s.P, 0), 1)
	return s
}

// Verdict is what a [Monitor] says about a feature in a window. The zero is
// [Insufficient]: nothing is called stable that was not looked at.
type Verdict int

// The verdicts, from least to most said.
const (
	// Insufficient: fewer than 95 rows in the window.
	Insufficient Verdict = iota
	// WeakReference: the reference has fewer rows than the window, so its own
	// noise outweighs the window's; and what is seen is not drift beyond doubt.
	WeakReference
	// Stable: no significant difference.
	Stable
	// Warning: a significant difference, smaller than MinEffect.
	Warning
	// Drift: a significant difference of at least MinEffect.
	Drift
)

var verdicts = [...]string{"insufficient", "weak-reference", "stable", "warning", "drift"}

// String returns the verdict in lower case, as "weak-reference".
func (v Verdict) String() string {
	if v < 0 || int(v) >= len(verdicts) {
		return fmt.Sprintf("Verdict(%d)", int(v))
	}
	return verdicts[v]
}

// MarshalText implements encoding.TextMarshaler with the text of String.
func (v Verdict) MarshalText() ([]byte, error) {
	if v < 0 || int(v) >= len(verdicts) {
		return nil, fmt.Errorf("drift: no such verdict: %d", int(v))
	}
	return []byte(verdicts[v]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler: the reverse of MarshalText.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, s := range verdicts {
		if s == string(text) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("drift: no such verdict: %.40q", text)
}
