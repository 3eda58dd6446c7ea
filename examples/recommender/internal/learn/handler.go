package learn

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/mainstay-go/mainstay/drift"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/rank"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/wire"
	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/mlserve/rollout"
	"github.com/mainstay-go/mainstay/saga"
)

// Report is the model service's account.
type Report struct {
	Alias    string        `json:"alias"`    // version of the alias "champion" in the registry
	Served   string        `json:"served"`   // the primary of the server
	Arms     []string      `json:"arms"`     // versions of a split that is still in place
	Lineage  Lineage       `json:"lineage"`  // of the version served
	Alerts   []drift.Alert `json:"alerts"`   // in this process
	Before   *drift.Report `json:"before"`   // the last quiet window before the first alert
	During   *drift.Report `json:"during"`   // the window of the first alert
	After    *drift.Report `json:"after"`    // now
	Rollouts []Rollout     `json:"rollouts"` // all in the state directory, oldest first
	Notes    []string      `json:"notes"`
	Lake     int           `json:"lake"` // Seq after the last purchase that has arrived
}

// Lineage traces a version back to what it was made from.
type Lineage struct {
	Code      string `json:"code"`
	Data      string `json:"data"`
	Features  string `json:"features"`
	Reference string `json:"reference"`
}

// Rollout is one rollout's state and history.
type Rollout struct {
	ID        string    `json:"id"`
	Started   time.Time `json:"started"`
	Status    string    `json:"status"`
	Step      string    `json:"step,omitempty"`
	Candidate string    `json:"candidate"`
	Previous  string    `json:"previous"`
	Trained   int       `json:"trained"` // Seq after the last purchase learnt from; 0: not trained
	Err       string    `json:"err,omitempty"`
	History   []string  `json:"history"`
}

// Handler serves the model by the Open Inference Protocol and plain JSON, and
//
//	GET  /report     what happened: drift, rollouts, versions
//	GET  /fallback   the small model of the version that serves
//	GET  /hitrates   how the versions would have done since the last training
//	POST /audit      checks samples of answers against the version they name
//	POST /finish     no more visits come: undoes a rollout that is under way
func (l *Learner) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", l.server.Handler(mlserve.OpenInference(), mlserve.Simple()))
	mux.HandleFunc("GET /report", l.serveReport)
	mux.HandleFunc("GET /fallback", l.serveFallback)
	mux.HandleFunc("GET /hitrates", l.serveHitRates)
	mux.HandleFunc("POST /audit", l.serveAudit)
	mux.HandleFunc("POST /finish", l.serveFinish)
	return mux
}

func (l *Learner) serveReport(w http.ResponseWriter, r *http.Request) {
	report := Report{After: l.monitor.Report()}
	v, _, err := l.champion(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	report.Alias = v.Version
	if loaded := l.server.Loaded(rank.Model); len(loaded) > 0 {
		report.Served = loaded[0].Version
		if _, m, err := l.registry.Open(r.Context(), loaded[0]); err == nil {
			report.Lineage = Lineage{m.Code, m.Data, m.Features, m.SHA256[m.Reference]}
		}
	}
	for _, arm := range l.server.Traffic(rank.Model).Arms {
		report.Arms = append(report.Arms, arm.Version)
	}
	for info, err := range l.runner.List(r.Context(), saga.Query{Definition: l.rolling.Name()}) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		report.Rollouts = append(report.Rollouts, l.describe(r, info))
	}
	slices.SortFunc(report.Rollouts, func(a, b Rollout) int { return a.Started.Compare(b.Started) })
	if log := l.lake.Log(); len(log) > 0 {
		report.Lake = log[len(log)-1].Seq + 1
	}
	l.watched.mu.Lock()
	report.Alerts, report.Before, report.During = slices.Clone(l.watched.alerts), l.watched.before, l.watched.during
	l.watched.mu.Unlock()
	l.mu.Lock()
	report.Notes = slices.Clone(l.log)
	l.mu.Unlock()
	wire.Reply(w, report)
}

func (l *Learner) describe(r *http.Request, info saga.Info) Rollout {
	out := Rollout{ID: info.ID, Started: info.Started, Status: info.Status.String(), Step: info.Step, Err: info.Err}
	var state rollout.State
	if err := json.Unmarshal(info.State, &state); err == nil {
		out.Candidate, out.Previous = state.Candidate.Manifest.Version, state.Previous
		out.Trained, _ = strconv.Atoi(state.Candidate.Manifest.Metadata[trainedTo]) // 0 where there is none
	}
	for e, err := range l.runner.History(r.Context(), info.ID) {
		if err != nil {
			break
		}
		what := e.Step
		if e.Op == saga.Compensation {
			what = "undo " + what
		}
		out.History = append(out.History, fmt.Sprintf("%s  %-12s %s", e.Time.Format(time.TimeOnly), what, e.Note))
	}
	return out
}

func (l *Learner) serveFallback(w http.ResponseWriter, r *http.Request) {
	loaded := l.server.Loaded(rank.Model)
	if len(loaded) == 0 {
		http.Error(w, "no version serves", http.StatusServiceUnavailable)
		return
	}
	files, _, err := l.registry.Open(r.Context(), loaded[0])
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	http.ServeFileFS(w, r, files, smallFile)
}

// serveHitRates lets the version that served first and the last candidate rank
// for the purchases since that candidate was trained.
func (l *Learner) serveHitRates(w http.ResponseWriter, r *http.Request) {
	from := 0
	if text := r.URL.Query().Get("from"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			http.Error(w, "from is not a number", http.StatusBadRequest)
			return
		}
		from = n
	}
	models := map[string]rank.Scorer{}
	for _, version := range r.URL.Query()["version"] {
		files, _, err := l.registry.Open(r.Context(), mlserve.Version{Model: rank.Model, Version: version})
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		if models[version], err = scorer(files); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	log := l.lake.Log()
	data, err := rank.NewDataset(r.Context(), l.o.Services, l.o.Shop, recent(log))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	rates, err := data.HitRates(r.Context(), from, log[len(log)-1].Seq+1, 1500, models)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	wire.Reply(w, rates)
}

// serveFinish ends what cannot end by itself: a canary without customers would
// wait for keys. Past the pivot a rollout goes forward, and needs none.
func (l *Learner) serveFinish(w http.ResponseWriter, r *http.Request) {
	unfinished := saga.Query{Definition: l.rolling.Name(), Status: []saga.Status{saga.Running, saga.RollingBack}}
	for first := true; ; first = false {
		left := 0
		for info, err := range l.runner.List(r.Context(), unfinished) {
			if err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			left++
			if first {
				l.sayf("no more visits: the rollout is cancelled")
				if err := l.runner.Cancel(r.Context(), info.ID, "the run has ended"); err != nil {
					l.sayf("the rollout is not cancelled: %v", err)
				}
			}
		}
		if left == 0 {
			wire.Reply(w, struct{}{})
			return
		}
		select {
		case <-r.Context().Done():
			http.Error(w, "a rollout is still under way", http.StatusServiceUnavailable)
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Audited says how many samples were checked, and how many were not what the
// version they name says.
type Audited struct {
	Checked int `json:"checked"`
	Mixed   int `json:"mixed"`
}

func (l *Learner) serveAudit(w http.ResponseWriter, r *http.Request) {
	var samples []wire.Sample
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<20)).Decode(&samples); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var a Audited
	models := map[string]rank.Scorer{}
	for _, s := range samples {
		if models[s.Version] == nil {
			files, err := l.open(r, s.Version)
			if err != nil {
				http.Error(w, err.Error(), http.StatusNotFound)
				return
			}
			if models[s.Version], err = scorer(files); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		scores := make([]float64, len(s.Scores))
		a.Checked++
		if err := models[s.Version].Score(scores, s.Rows); err != nil || !slices.Equal(float32s(scores), float32s(s.Scores)) {
			a.Mixed++
		}
	}
	wire.Reply(w, a)
}

func (l *Learner) open(r *http.Request, version string) (fs.FS, error) {
	files, _, err := l.registry.Open(r.Context(), mlserve.Version{Model: rank.Model, Version: version})
	return files, err
}

// float32s is what the protocol carries of a score.
func float32s(x []float64) []float32 {
	out := make([]float32, len(x))
	for i := range x {
		out[i] = float32(x[i])
	}
	return out
}
