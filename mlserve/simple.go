package mlserve

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
)

// Simple is the plain way to ask a model with one input of numbers, and what
// probes ask:
//
//	POST /predict          {"rows": [[1, 2.5, null], …], "key": "customer-7"}
//	POST /predict/{model}  likewise, where the server has several models
//	GET  /livez            200 {"live": true}
//	GET  /readyz           200 or 503 {"live", "ready", "model_loaded", "models": {"ranker": ["7"]}}
//
// "rows" is required, one array of numbers per row, null for a missing value
// where the signature allows one; "key" (the unit of assignment) and "id" are
// optional. The answer is
//
//	{"model": "ranker", "version": "7", "id": "…", "arm": "stable", "predictions": [0.25, …]}
//
// with one prediction per row, a number, or an array where the model's first
// output has several columns; with "degraded" and without "version" if a rung
// of the ladder answered.
func Simple() Protocol {
	return func(mux *http.ServeMux, s *Server) {
		mux.HandleFunc("POST /predict", s.simplePredict)
		mux.HandleFunc("POST /predict/{model}", s.simplePredict)
		mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, map[string]bool{"live": true})
		})
		mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
			models, loaded := map[string][]string{}, false
			for _, e := range s.each() {
				models[e.name] = []string{}
				for _, v := range e.versions() {
					models[e.name] = append(models[e.name], v.Version)
				}
				loaded = loaded || len(models[e.name]) > 0
			}
			writeReady(w, s.Health(r.Context()) == nil, map[string]any{"model_loaded": loaded, "models": models})
		})
	}
}

// simpleRequest is the body of predict.
type simpleRequest struct {
	ID   string       `json:"id"`
	Key  string       `json:"key"`
	Rows [][]*float64 `json:"rows"`
}

func (s *Server) simplePredict(w http.ResponseWriter, r *http.Request) {
	model := r.PathValue("model")
	if model == "" {
		entries := s.each()
		switch len(entries) {
		case 0:
			s.writeError(w, r, ErrNotReady)
			return
		case 1:
			model = entries[0].name
		default:
			s.writeError(w, r, &Error{Op: "predict", Err: fmt.Errorf("%w: several models, use /predict/{model}", ErrInput)})
			return
		}
	}
	body, err := s.readBody(w, r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	req, err := decodeSimple(body)
	if err != nil {
		s.writeError(w, r, fail("predict", model, "", err))
		return
	}
	resp, err := s.Predict(r.Context(), model, req)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	out, err := encodeSimple(model, resp)
	if err != nil {
		s.writeError(w, r, fail("predict", model, resp.Version, err))
		return
	}
	writeBody(w, http.StatusOK, out)
}

func decodeSimple(body []byte) (Request, error) {
	var in simpleRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return Request{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	if len(in.Rows) == 0 {
		return Request{}, fmt.Errorf("%w: no \"rows\"", ErrInput)
	}
	rows := make([][]float64, len(in.Rows))
	for i, r := range in.Rows {
		rows[i] = make([]float64, len(r))
		for j, v := range r {
			rows[i][j] = math.NaN()
			if v != nil {
				rows[i][j] = *v
			}
		}
	}
	return Request{ID: in.ID, Key: in.Key, Input: Rows(rows...)}, nil
}

func encodeSimple(model string, resp Response) ([]byte, error) {
	head := struct {
		Model    string `json:"model"`
		Version  string `json:"version,omitempty"`
		ID       string `json:"id"`
		Arm      string `json:"arm,omitempty"`
		Degraded string `json:"degraded,omitempty"`
	}{model, resp.Version, resp.ID, resp.Arm, resp.Degraded}
	b, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	if len(resp.Output) == 0 {
		return nil, fmt.Errorf("%w: no output", ErrOutput)
	}
	t := resp.Output[0]
	b = append(b[:len(b)-1], `,"predictions":[`...)
	for row := range t.Shape[0] {
		if row > 0 {
			b = append(b, ',')
		}
		if len(t.Shape) == 1 {
			b, err = appendValue(b, t, row, false)
		} else {
			width := t.Len() / t.Shape[0]
			b, err = appendValues(b, t, row*width, (row+1)*width, false)
		}
		if err != nil {
			return nil, err
		}
	}
	return append(b, "]}"...), nil
}
