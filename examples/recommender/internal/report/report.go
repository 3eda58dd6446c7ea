// Package report says what happened in a run: as a table for a person, as JSON
// for a program, and as the invariants that decide the exit status.
package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mainstay-go/mainstay/drift"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/learn"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/load"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/rank"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/wire"
)

// Input is what the services told at the end of a run.
type Input struct {
	Load     load.Result
	Took     time.Duration // of the load
	Ingested wire.Ingested
	Totals   map[string]rank.Totals // features at the end, as served
	Shop     shop.Shop
	Model    learn.Report
	Hits     *rank.HitRates // nil: none could be had
	Champion string         // the version that served first
	Audited  learn.Audited
	SLO      time.Duration
	PeakRSS  int64 // bytes; 0: not known
	Excused  bool  // a fault lasts as long as the run
}

// Quantiles are milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Degraded counts answers that were not the model's.
type Degraded struct {
	Total        int            `json:"total"`
	OutsideFault int            `json:"outside_fault"`
	Reasons      map[string]int `json:"reasons"`
}

// Events accounts for purchases, by their ids.
type Events struct {
	Published int     `json:"published"` // damaged ones included, repetitions not
	Processed int     `json:"processed"` // effects that took place
	Duplicate int     `json:"duplicate"` // deliveries beyond the first, without effect
	Dead      int     `json:"dead"`
	Lost      int     `json:"lost"`
	Twice     int     `json:"twice"` // effects that took place more than once
	AgeP50    float64 `json:"age_p50_ms"`
	AgeP99    float64 `json:"age_p99_ms"`
}

// Feature is the drift of one feature: its effect and the monitor's verdict.
type Feature struct {
	Name   string  `json:"name"`
	Before float64 `json:"before"`
	During float64 `json:"during"`
	After  float64 `json:"after"`
	Now    string  `json:"verdict_after"`
}

// Drift is what the monitor found.
type Drift struct {
	Alerts   int       `json:"alerts"`
	Named    []string  `json:"named"`   // by the first alert
	Shifted  []string  `json:"shifted"` // what the shop did shift; nil: nobody knows
	Features []Feature `json:"features"`
}

// Rollout is the last rollout.
type Rollout struct {
	Outcome string   `json:"outcome"` // none, or the saga's status
	Alias   string   `json:"alias"`
	Served  string   `json:"served"`
	History []string `json:"history"`
}

// Hits are hit rates at 10 on purchases made after the candidate was trained.
type Hits struct {
	Purchases  int     `json:"purchases"`
	Champion   float64 `json:"champion"`
	Candidate  float64 `json:"candidate"`
	Popularity float64 `json:"popularity"`
}

// Invariant is something that must hold.
type Invariant struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// Summary is the whole of a run; its JSON keys are documented in the README.
type Summary struct {
	Requests   int                  `json:"requests"`
	Rate       float64              `json:"rate"`
	Errors     int                  `json:"errors"`
	FirstError string               `json:"first_error,omitempty"`
	Degraded   Degraded             `json:"degraded"`
	Latency    Quantiles            `json:"latency_ms"`
	Stages     map[string]Quantiles `json:"stages_ms"`
	Sequential Quantiles            `json:"sequential_ms"` // the same calls one after the other
	Versions   map[string]float64   `json:"versions"`
	ServedHits map[string]float64   `json:"served_hits"` // of what was bought after each version's answers
	Hits       *Hits                `json:"hits,omitempty"`
	Events     Events               `json:"events"`
	Drift      Drift                `json:"drift"`
	Rollout    Rollout              `json:"rollout"`
	Lineage    learn.Lineage        `json:"lineage"`
	Notes      []string             `json:"notes"`
	Data       *shop.Lines          `json:"data,omitempty"`
	PeakRSS    float64              `json:"peak_rss_mb"`
	Invariants []Invariant          `json:"invariants"`
	OK         bool                 `json:"ok"`
}

// Summarize adds everything up.
func Summarize(in Input) Summary {
	s := Summary{
		Requests: len(in.Load.Visits), Rate: float64(len(in.Load.Visits)) / in.Took.Seconds(),
		Degraded: Degraded{Reasons: map[string]int{}}, Versions: map[string]float64{}, ServedHits: map[string]float64{},
		Lineage: in.Model.Lineage, Notes: in.Model.Notes, PeakRSS: float64(in.PeakRSS) / (1 << 20),
	}
	s.visits(in)
	s.events(in)
	s.drift(in)
	s.Rollout = Rollout{Outcome: "none", Alias: in.Model.Alias, Served: in.Model.Served}
	if n := len(in.Model.Rollouts); n > 0 {
		last := in.Model.Rollouts[n-1]
		s.Rollout.Outcome, s.Rollout.History = last.Status, last.History
		if in.Hits != nil && last.Candidate != "" {
			s.Hits = &Hits{
				Purchases: in.Hits.Purchases, Champion: in.Hits.Models[last.Previous],
				Candidate: in.Hits.Models[last.Candidate], Popularity: in.Hits.Popularity,
			}
		}
	}
	if r, ok := in.Shop.(*shop.Replay); ok {
		lines := r.Lines()
		s.Data = &lines
	}
	s.judge(in)
	return s
}

func (s *Summary) visits(in Input) {
	var total, sequential []time.Duration
	stages := map[string][]time.Duration{}
	bought, hit := map[string]int{}, map[string]int{}
	for _, v := range in.Load.Visits {
		total = append(total, v.Latency)
		if v.Err != "" {
			s.Errors++
			s.FirstError = cmp.Or(s.FirstError, v.Err)
		}
		if v.Degraded != "" {
			s.Degraded.Total++
			s.Degraded.Reasons[v.Degraded]++
			if !v.Excused {
				s.Degraded.OutsideFault++
			}
		}
		by := cmp.Or(v.Version, "none")
		s.Versions[by]++
		if v.Bought {
			bought[by]++
			if v.Hit {
				hit[by]++
			}
		}
		us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
		for name, n := range map[string]int64{
			"user features": v.Stages.Users, "item features": v.Stages.Items, "cache": v.Stages.Cache, "model": v.Stages.Model, "gateway": v.Stages.Total,
		} {
			if n > 0 {
				stages[name] = append(stages[name], us(n))
			}
		}
		three := v.Stages.Users + v.Stages.Items + v.Stages.Cache
		sequential = append(sequential, v.Latency+us(three-max(v.Stages.Users, v.Stages.Items, v.Stages.Cache)))
	}
	s.Latency, s.Sequential, s.Stages = quantiles(total), quantiles(sequential), map[string]Quantiles{}
	for name, times := range stages {
		s.Stages[name] = quantiles(times)
	}
	for version := range s.Versions {
		s.Versions[version] /= float64(len(in.Load.Visits))
		if bought[version] > 0 {
			s.ServedHits[version] = float64(hit[version]) / float64(bought[version])
		}
	}
}

func quantiles(times []time.Duration) Quantiles {
	if len(times) == 0 {
		return Quantiles{}
	}
	slices.Sort(times)
	at := func(q float64) float64 { return float64(times[int(q*float64(len(times)-1))]) / 1e6 }
	return Quantiles{P50: at(0.50), P95: at(0.95), P99: at(0.99), Max: at(1)}
}

// events compares sets of ids: what the load generator published, and what
// took effect.
func (s *Summary) events(in Input) {
	e := Events{
		Published: len(in.Load.Log) + in.Load.Damaged, Dead: in.Ingested.Dead,
		AgeP50: in.Ingested.AgeP50, AgeP99: in.Ingested.AgeP99,
	}
	published := map[int]bool{}
	for _, p := range in.Load.Log {
		published[p.Seq] = true
		if p.Seq >= len(in.Ingested.Applied) || in.Ingested.Applied[p.Seq] == 0 {
			e.Lost++
		}
	}
	for seq, n := range in.Ingested.Applied {
		if n > 0 {
			e.Processed++
		}
		if n > 1 || n > 0 && !published[seq] {
			e.Twice++
		}
	}
	e.Duplicate = max(0, in.Ingested.Delivered-e.Processed-e.Dead)
	e.Lost += max(0, in.Load.Damaged-e.Dead)
	s.Events = e
}

func (s *Summary) drift(in Input) {
	s.Drift = Drift{Alerts: len(in.Model.Alerts), Shifted: in.Shop.Shifted()}
	if len(in.Model.Alerts) > 0 {
		a := in.Model.Alerts[0]
		s.Drift.Named = append([]string{a.Feature.Name}, a.Others...)
		slices.Sort(s.Drift.Named)
	}
	if in.Load.ShiftSeq < 0 {
		s.Drift.Shifted = nil
	}
	effect := func(r *drift.Report, name string) float64 {
		if r != nil {
			for _, f := range r.Features {
				if f.Name == name {
					return f.Effect
				}
			}
		}
		return 0
	}
	if in.Model.After == nil {
		return
	}
	for _, f := range in.Model.After.Features {
		s.Drift.Features = append(s.Drift.Features, Feature{
			Name: f.Name, Before: effect(in.Model.Before, f.Name), During: effect(in.Model.During, f.Name),
			After: f.Effect, Now: f.Verdict.String(),
		})
	}
}

func (s *Summary) judge(in Input) {
	hold := func(name string, ok bool, format string, args ...any) {
		s.Invariants = append(s.Invariants, Invariant{Name: name, OK: ok, Detail: fmt.Sprintf(format, args...)})
	}
	e := s.Events
	hold("no event lost", e.Lost == 0, "%d of %d", e.Lost, e.Published)
	hold("no event counted twice", e.Twice == 0, "%d", e.Twice)
	hold("damaged events are dead letters", e.Dead == in.Load.Damaged, "%d of %d", e.Dead, in.Load.Damaged)
	hold("in order per customer", in.Ingested.Inverted == 0, "%d inverted", in.Ingested.Inverted)
	wrong, example := compare(in)
	hold("features equal a fold of the log", wrong == 0 && len(in.Totals) > 0, "%d of %d differ%s", wrong, len(in.Totals), example)
	hold("one version per answer", in.Audited.Mixed == 0 && in.Audited.Checked > 0, "%d of %d samples differ from the version they name", in.Audited.Mixed, in.Audited.Checked)
	hold("no error answers", s.Errors == 0 && s.Requests > 0, "%d of %d", s.Errors, s.Requests)
	share := float64(s.Degraded.OutsideFault) / float64(max(1, s.Requests))
	hold("degraded at most 1 % outside a fault", in.Excused || share <= 0.01, "%.2f %%", 100*share)
	hold("p99 within the objective", s.Latency.P99 <= float64(in.SLO)/1e6, "%.1f ms of %.0f ms", s.Latency.P99, float64(in.SLO)/1e6)
	ok, why := consistent(in.Model)
	hold("rollouts finished or undone, alias and served version agree", ok, "%s", why)
	s.OK = !slices.ContainsFunc(s.Invariants, func(i Invariant) bool { return !i.OK })
}

func compare(in Input) (wrong int, example string) {
	log := slices.Concat(in.Shop.History(), in.Load.Log)
	want := rank.FoldTotals(in.Shop, log, in.Load.End)
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a), math.Abs(b)) }
	for id, w := range want {
		g, ok := in.Totals[id]
		if !ok || !near(g.Orders, w.Orders) || !near(g.Spent, w.Spent) || !near(g.Day, w.Day) || !near(g.Week, w.Week) {
			if wrong++; example == "" {
				example = fmt.Sprintf(", as %s: %+v, not %+v", id, g, w)
			}
		}
	}
	return wrong, example
}

// consistent compares what three witnesses say: the registry, the server and
// the history of the rollouts.
func consistent(m learn.Report) (bool, string) {
	var wrong []string
	if m.Alias == "" || m.Alias != m.Served {
		wrong = append(wrong, fmt.Sprintf("alias %q, served %q", m.Alias, m.Served))
	}
	if len(m.Arms) > 0 {
		wrong = append(wrong, fmt.Sprintf("a split is left: %v", m.Arms))
	}
	for _, r := range m.Rollouts {
		switch r.Status {
		case "completed", "rolled back":
		default:
			wrong = append(wrong, fmt.Sprintf("rollout of %s is %s at %s: %s", r.Candidate, r.Status, r.Step, r.Err))
		}
	}
	promoted := "v1"
	for _, r := range m.Rollouts {
		if r.Status == "completed" {
			promoted = r.Candidate
		}
	}
	if promoted != m.Alias {
		wrong = append(wrong, fmt.Sprintf("history promoted %s, the alias is %s", promoted, m.Alias))
	}
	if len(wrong) > 0 {
		return false, strings.Join(wrong, "; ")
	}
	return true, fmt.Sprintf("%s serves, %d rollouts", m.Served, len(m.Rollouts))
}
