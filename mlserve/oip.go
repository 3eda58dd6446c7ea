package mlserve

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"
)

// OpenInference is the Open Inference Protocol, version 2, over REST and JSON:
//
//	GET  /v2                                            server metadata
//	GET  /v2/health/live, /v2/health/ready              with both "live" and "ready" in the body
//	GET  /v2/models/{model}[/versions/{version}]        metadata
//	GET  /v2/models/{model}[/versions/{version}]/ready
//	POST /v2/models/{model}[/versions/{version}]/infer
//
// Without a version a request is routed as by [Server.Predict]: the string
// parameter "key" of the request is the key, and the parameters of the answer
// say which "arm" answered, and "degraded" if a rung of the ladder did. With a
// version, that version answers, unrouted, within ModelOptions.Timeout.
//
// Datatypes are BOOL, INT32, INT64, FP32, FP64 and BYTES (as JSON strings).
// A null among floats is NaN, and accepted where the signature says Missing; a
// NaN or infinity in an answer is a 500 that says so, never a null. The binary
// tensor extension is refused with 400.
func OpenInference() Protocol {
	return func(mux *http.ServeMux, s *Server) {
		mux.HandleFunc("GET /v2", func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, map[string]any{"name": "mainstay", "version": "0", "extensions": []string{}})
		})
		mux.HandleFunc("GET /v2/health/live", func(w http.ResponseWriter, r *http.Request) {
			writeJSON(w, http.StatusOK, map[string]bool{"live": true, "ready": s.Health(r.Context()) == nil})
		})
		mux.HandleFunc("GET /v2/health/ready", func(w http.ResponseWriter, r *http.Request) {
			writeReady(w, s.Health(r.Context()) == nil, nil)
		})
		for _, base := range []string{"/v2/models/{model}", "/v2/models/{model}/versions/{version}"} {
			mux.HandleFunc("GET "+base, s.oipMetadata)
			mux.HandleFunc("GET "+base+"/ready", s.oipReady)
			mux.HandleFunc("POST "+base+"/infer", s.oipInfer)
		}
	}
}

func writeReady(w http.ResponseWriter, ready bool, more map[string]any) {
	body := map[string]any{"live": true, "ready": ready}
	maps.Copy(body, more)
	status := http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", retryAfter)
	}
	writeJSON(w, status, body)
}

// oipSpec is a tensor in the metadata of a model.
type oipSpec struct {
	Name     string `json:"name"`
	Datatype string `json:"datatype"`
	Shape    []int  `json:"shape"`
}

func oipSpecs(specs []TensorSpec) []oipSpec {
	out := make([]oipSpec, len(specs))
	for i, s := range specs {
		out[i] = oipSpec{Name: s.Name, Datatype: s.Type, Shape: s.Shape}
	}
	return out
}

func (s *Server) oipMetadata(w http.ResponseWriter, r *http.Request) {
	model := r.PathValue("model")
	pin, err := s.Acquire(model, r.PathValue("version"))
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	defer pin.Release()
	var versions []string
	for _, v := range s.Loaded(model) {
		versions = append(versions, v.Version)
	}
	sig := pin.Signature()
	writeJSON(w, http.StatusOK, map[string]any{
		"name": model, "versions": versions, "platform": "mainstay",
		"inputs": oipSpecs(sig.Inputs), "outputs": oipSpecs(sig.Outputs),
	})
}

func (s *Server) oipReady(w http.ResponseWriter, r *http.Request) {
	model := r.PathValue("model")
	pin, err := s.Acquire(model, r.PathValue("version"))
	switch {
	case err == nil:
		pin.Release()
	case !errors.Is(err, ErrNotReady):
		s.writeError(w, r, err)
		return
	}
	writeReady(w, err == nil, map[string]any{"name": model})
}

// oipRequest is the body of infer.
type oipRequest struct {
	ID         string                     `json:"id"`
	Parameters map[string]json.RawMessage `json:"parameters"`
	Inputs     []wireTensor               `json:"inputs"`
	Outputs    []struct {
		Name       string                     `json:"name"`
		Parameters map[string]json.RawMessage `json:"parameters"`
	} `json:"outputs"`
}

// maxTensors bounds the tensors of one request.
const maxTensors = 1024

// decodeInfer reads the body of infer. It never returns more data than the
// body holds values.
func decodeInfer(body []byte) (r Request, outputs []string, err error) {
	var in oipRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return Request{}, nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	if len(in.Inputs) == 0 || len(in.Inputs) > maxTensors {
		return Request{}, nil, fmt.Errorf("%w: %d inputs", ErrInput, len(in.Inputs))
	}
	if err := noBinary("", in.Parameters); err != nil {
		return Request{}, nil, err
	}
	r.ID = in.ID
	if key, ok := in.Parameters["key"]; ok {
		if err := json.Unmarshal(key, &r.Key); err != nil {
			return Request{}, nil, fmt.Errorf("%w: parameter \"key\" is not a string", ErrInput)
		}
	}
	seen := map[string]bool{}
	for _, w := range in.Inputs {
		if w.Name == "" || seen[w.Name] {
			return Request{}, nil, fmt.Errorf("%w: input name %q is empty or used twice", ErrInput, w.Name)
		}
		seen[w.Name] = true
		if w.Data == nil {
			return Request{}, nil, fmt.Errorf("%w: input %q has no data; the binary tensor extension is not supported, send JSON", ErrInput, w.Name)
		}
		t, err := w.tensor()
		if err != nil {
			return Request{}, nil, err
		}
		r.Input = append(r.Input, t)
	}
	for _, o := range in.Outputs {
		if err := noBinary(o.Name, o.Parameters); err != nil {
			return Request{}, nil, err
		}
		outputs = append(outputs, o.Name)
	}
	return r, outputs, nil
}

// noBinary refuses what would have to be answered in binary. A false is fine:
// clients send it to say that they want JSON.
func noBinary(name string, parameters map[string]json.RawMessage) error {
	for _, p := range []string{"binary_data", "binary_data_output"} {
		if string(parameters[p]) == "true" {
			return fmt.Errorf("%w: output %q: %s: the binary tensor extension is not supported, ask for JSON", ErrInput, name, p)
		}
	}
	return nil
}

func (s *Server) oipInfer(w http.ResponseWriter, r *http.Request) {
	model, version := r.PathValue("model"), r.PathValue("version")
	e, err := s.find("infer", model)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	body, err := s.readBody(w, r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	if r.Header.Get("Inference-Header-Content-Length") != "" {
		s.writeError(w, r, fail("infer", model, version, fmt.Errorf("%w: the binary tensor extension is not supported, send JSON", ErrInput)))
		return
	}
	req, outputs, err := decodeInfer(body)
	if err != nil {
		s.writeError(w, r, fail("infer", model, version, err))
		return
	}
	ctx, cancel := within(r.Context(), e.deadline(r.Context(), time.Now()))
	defer cancel()
	asked := req.ID
	resp, err := s.answer(ctx, model, version, req)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	resp.ID = asked // the protocol's id is the caller's, or absent
	out, err := encodeInfer(model, resp, outputs)
	if err != nil {
		s.writeError(w, r, fail("infer", model, resp.Version, err))
		return
	}
	writeBody(w, http.StatusOK, out)
}

// encodeInfer writes the answer; outputs names those asked for, none meaning
// all.
func encodeInfer(model string, resp Response, outputs []string) ([]byte, error) {
	head := struct {
		Model      string            `json:"model_name"`
		Version    string            `json:"model_version,omitempty"`
		ID         string            `json:"id,omitempty"`
		Parameters map[string]string `json:"parameters,omitempty"`
	}{Model: model, Version: resp.Version, ID: resp.ID}
	for name, value := range map[string]string{"arm": resp.Arm, "degraded": resp.Degraded} {
		if value == "" {
			continue
		}
		if head.Parameters == nil {
			head.Parameters = map[string]string{}
		}
		head.Parameters[name] = value
	}
	b, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	b = append(b[:len(b)-1], `,"outputs":[`...)
	picked := resp.Output
	if len(outputs) > 0 {
		picked = make(Batch, 0, len(outputs))
		for _, name := range outputs {
			t, err := resp.Output.Tensor(name)
			if err != nil || name == "" {
				return nil, fmt.Errorf("%w: no output %q", ErrInput, name)
			}
			picked = append(picked, t)
		}
	}
	for i, t := range picked {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendTensor(b, t, false); err != nil {
			return nil, err
		}
	}
	return append(b, "]}"...), nil
}
