package mlserve_test

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/mlserve"
)

// summing answers the sum of a row's two columns; special sums provoke.
func summing() *answering {
	return newAnswering(func(ctx context.Context, in mlserve.Batch) (mlserve.Batch, error) {
		x := in[0].Data.([]float32)
		out := make([]float64, in[0].Shape[0])
		for i := range out {
			out[i] = float64(x[2*i]) + float64(x[2*i+1])
			switch out[i] {
			case 100:
				return nil, errBroken
			case 200:
				out[i] = math.NaN()
			case 300:
				<-ctx.Done()
				return nil, ctx.Err()
			case 400:
				return nil, concurrency.ErrRejected
			case 500:
				panic("secret")
			}
		}
		return mlserve.Batch{{Name: "y", Shape: []int{len(out)}, Data: out}}, nil
	})
}

func serve(t *testing.T, o *mlserve.ModelOptions) (*mlserve.Server, http.Handler) {
	s := mlserve.New(&mlserve.Options{MaxBody: 4096})
	require.NoError(t, s.AddModel("m", "1", summing(), o))
	return s, s.Handler()
}

func call(h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}

func infer(data string) string {
	return `{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":` + data + `}]}`
}

// The golden exchanges of the Open Inference Protocol and of the simple one.
func TestProtocols(t *testing.T) {
	_, h := serve(t, &mlserve.ModelOptions{Timeout: 20 * time.Millisecond})
	for name, c := range map[string]struct {
		call   string
		body   string
		status int
		want   string // "": not compared; else as JSON
	}{
		"live":              {"GET /v2/health/live", "", 200, `{"live":true,"ready":true}`},
		"ready":             {"GET /v2/health/ready", "", 200, `{"live":true,"ready":true}`},
		"server":            {"GET /v2", "", 200, `{"name":"mainstay","version":"0","extensions":[]}`},
		"model ready":       {"GET /v2/models/m/ready", "", 200, `{"live":true,"ready":true,"name":"m"}`},
		"version ready":     {"GET /v2/models/m/versions/1/ready", "", 200, `{"live":true,"ready":true,"name":"m"}`},
		"no model ready":    {"GET /v2/models/n/ready", "", 404, `{"error":"mlserve: acquire n: not found"}`},
		"no version ready":  {"GET /v2/models/m/versions/2/ready", "", 404, ``},
		"metadata":          {"GET /v2/models/m", "", 200, `{"name":"m","versions":["1"],"platform":"mainstay","inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}],"outputs":[{"name":"y","datatype":"FP64","shape":[-1]}]}`},
		"metadata, version": {"GET /v2/models/m/versions/1", "", 200, ``},
		"metadata, none":    {"GET /v2/models/m/versions/2", "", 404, ``},
		"infer": {"POST /v2/models/m/infer", `{"id":"r1","parameters":{"key":"k"},"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[1,2,0.5,0.25]}],"outputs":[{"name":"y","parameters":{"binary_data":false}}]}`, 200,
			`{"model_name":"m","model_version":"1","id":"r1","parameters":{"arm":"primary"},"outputs":[{"name":"y","shape":[2],"datatype":"FP64","data":[3,0.75]}]}`},
		"infer, nested": {"POST /v2/models/m/infer", infer("[[1,2]]"), 200,
			`{"model_name":"m","model_version":"1","parameters":{"arm":"primary"},"outputs":[{"name":"y","shape":[1],"datatype":"FP64","data":[3]}]}`},
		"infer, version": {"POST /v2/models/m/versions/1/infer", infer("[1,2]"), 200,
			`{"model_name":"m","model_version":"1","outputs":[{"name":"y","shape":[1],"datatype":"FP64","data":[3]}]}`},
		"infer, FP64":          {"POST /v2/models/m/infer", strings.Replace(infer("[1,2]"), "FP32", "FP64", 1), 200, ``},
		"infer, no version":    {"POST /v2/models/m/versions/2/infer", infer("[1,2]"), 404, ``},
		"infer, no model":      {"POST /v2/models/n/infer", infer("[1,2]"), 404, ``},
		"infer, odd name":      {"POST /v2/models/..%2f..%2fetc/infer", infer("[1,2]"), 404, ``},
		"infer, not JSON":      {"POST /v2/models/m/infer", `{"inputs":`, 400, ``},
		"infer, no inputs":     {"POST /v2/models/m/infer", `{}`, 400, ``},
		"infer, other name":    {"POST /v2/models/m/infer", strings.Replace(infer("[1,2]"), `"x"`, `"z"`, 1), 400, `{"error":"mlserve: predict m@1: bad input: no input \"x\""}`},
		"infer, shape":         {"POST /v2/models/m/infer", infer("[1,2,3]"), 400, ``},
		"infer, missing value": {"POST /v2/models/m/infer", infer("[1,null]"), 400, `{"error":"mlserve: predict m@1: bad input: input \"x\": value 1 is not a finite number, and the model takes no missing values"}`},
		"infer, no output":     {"POST /v2/models/m/infer", `{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}],"outputs":[{"name":"z"}]}`, 400, ``},
		"infer, binary out":    {"POST /v2/models/m/infer", `{"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}`, 400, ``},
		"infer, binary in":     {"POST /v2/models/m/infer", `{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}`, 400, ``},
		"infer, key not text":  {"POST /v2/models/m/infer", `{"parameters":{"key":7},"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}`, 400, ``},
		"infer, GET":           {"GET /v2/models/m/infer", "", 405, ``},
		"infer, too large":     {"POST /v2/models/m/infer", infer("[1,2]" + strings.Repeat(" ", 4096)), 413, `{"error":"the body is longer than 4096 bytes"}`},
		"infer, model fails":   {"POST /v2/models/m/infer", infer("[50,50]"), 500, `{"error":"the model failed"}`},
		"infer, model panics":  {"POST /v2/models/m/infer", infer("[250,250]"), 500, `{"error":"the model failed"}`},
		"infer, NaN":           {"POST /v2/models/m/infer", infer("[100,100]"), 500, `{"error":"mlserve: infer m@1: bad output: tensor \"y\" holds NaN, which JSON cannot carry"}`},
		"infer, late":          {"POST /v2/models/m/infer", infer("[150,150]"), 504, `{"error":"the model was late"}`},
		"version, late":        {"POST /v2/models/m/versions/1/infer", infer("[150,150]"), 504, `{"error":"the model was late"}`},
		"infer, overloaded":    {"POST /v2/models/m/infer", infer("[200,200]"), 503, `{"error":"overloaded"}`},

		"predict":                {"POST /predict", `{"rows":[[1,2],[3,4]],"key":"k","id":"r"}`, 200, `{"model":"m","version":"1","id":"r","arm":"primary","predictions":[3,7]}`},
		"predict, named":         {"POST /predict/m", `{"rows":[[1,2]],"id":"r"}`, 200, `{"model":"m","version":"1","id":"r","arm":"primary","predictions":[3]}`},
		"predict, no model":      {"POST /predict/n", `{"rows":[[1,2]]}`, 404, ``},
		"predict, no rows":       {"POST /predict", `{}`, 400, ``},
		"predict, ragged":        {"POST /predict", `{"rows":[[1,2],[3]]}`, 400, ``},
		"predict, width":         {"POST /predict", `{"rows":[[1]]}`, 400, ``},
		"predict, text":          {"POST /predict", `{"rows":[["1",2]]}`, 400, ``},
		"predict, missing value": {"POST /predict", `{"rows":[[1,null]]}`, 400, ``},
		"predict, too large":     {"POST /predict", `{"rows":[[1,2]]` + strings.Repeat(" ", 5000) + `}`, 413, ``},
		"predict, GET":           {"GET /predict", ``, 405, ``},
		"livez":                  {"GET /livez", "", 200, `{"live":true}`},
		"readyz":                 {"GET /readyz", "", 200, `{"live":true,"ready":true,"model_loaded":true,"models":{"m":["1"]}}`},
		"elsewhere":              {"GET /v3", "", 404, ``},
	} {
		t.Run(name, func(t *testing.T) {
			method, path, _ := strings.Cut(c.call, " ")
			w := call(h, method, path, c.body)
			require.Equal(t, c.status, w.Code, w.Body.String())
			if c.want != "" {
				require.JSONEq(t, c.want, w.Body.String())
				require.Equal(t, "application/json", w.Header().Get("Content-Type"))
			}
			if c.status >= 400 && c.status != 405 && c.call != "GET /v3" {
				var body struct{ Error string }
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
				require.NotEmpty(t, body.Error)
			}
			require.Equal(t, c.status == 503, w.Header().Get("Retry-After") != "")
			require.NotContains(t, w.Body.String(), "secret")
		})
	}
}

func TestNothingServesYet(t *testing.T) {
	s := mlserve.New(nil)
	h := s.Handler()
	require.Equal(t, 200, call(h, "GET", "/v2/health/live", "").Code)
	require.Equal(t, 200, call(h, "GET", "/livez", "").Code)
	for _, path := range []string{"/v2/health/ready", "/readyz"} {
		w := call(h, "GET", path, "")
		require.Equal(t, 503, w.Code)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.Contains(t, w.Body.String(), `"ready":false`)
	}
	require.JSONEq(t, `{"live":true,"ready":false,"model_loaded":false,"models":{}}`, call(h, "GET", "/readyz", "").Body.String())
	require.Equal(t, 503, call(h, "POST", "/predict", `{"rows":[[1,2]]}`).Code)

	// Ended: the model is known, but nothing of it serves.
	require.NoError(t, s.AddModel("m", "1", summing(), nil))
	ctx, cancel := context.WithCancel(bg)
	cancel()
	require.NoError(t, s.Run(ctx))
	for _, c := range []string{"POST /v2/models/m/infer", "GET /v2/models/m", "GET /v2/models/m/ready", "POST /predict"} {
		method, path, _ := strings.Cut(c, " ")
		body := infer("[1,2]")
		if path == "/predict" {
			body = `{"rows":[[1,2]]}`
		}
		w := call(h, method, path, body)
		require.Equal(t, 503, w.Code, c)
		require.Equal(t, "1", w.Header().Get("Retry-After"), c)
	}
}

func TestLadderOverHTTP(t *testing.T) {
	s, h := serve(t, &mlserve.ModelOptions{Ladder: []mlserve.Rung{{Name: "popular", Answer: popular(0, nil)}}})
	require.JSONEq(t, `{"model_name":"m","parameters":{"arm":"primary","degraded":"popular: failed"},"outputs":[{"name":"y","shape":[1],"datatype":"FP64","data":[-1]}]}`,
		call(h, "POST", "/v2/models/m/infer", infer("[50,50]")).Body.String())
	require.JSONEq(t, `{"model":"m","id":"r","arm":"primary","degraded":"popular: failed","predictions":[-1]}`,
		call(h, "POST", "/predict", `{"id":"r","rows":[[50,50]]}`).Body.String())
	ctx, cancel := context.WithCancel(bg)
	cancel()
	require.NoError(t, s.Run(ctx))
	require.JSONEq(t, `{"model_name":"m","parameters":{"degraded":"popular: unready"},"outputs":[{"name":"y","shape":[1],"datatype":"FP64","data":[-1]}]}`,
		call(h, "POST", "/v2/models/m/infer", infer("[1,2]")).Body.String())
}

func TestPredictNeedsAModelAmongSeveral(t *testing.T) {
	s, h := serve(t, nil)
	require.NoError(t, s.AddModel("n", "1", summing(), nil))
	require.Equal(t, 400, call(h, "POST", "/predict", `{"rows":[[1,2]]}`).Code)
	require.Equal(t, 200, call(h, "POST", "/predict/n", `{"rows":[[1,2]]}`).Code)
}

// A body without a stated length is bounded as well.
func TestStreamedBodyIsBounded(t *testing.T) {
	_, h := serve(t, nil)
	r := httptest.NewRequest(http.MethodPost, "/predict", struct{ io.Reader }{strings.NewReader(`{"rows":[[1,2]]` + strings.Repeat(" ", 5000))})
	require.EqualValues(t, -1, r.ContentLength)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, 413, w.Code)
}

// Whatever the body, the answer is a status that fits and a body of JSON, and
// what is accepted is answered with as many rows.
func FuzzInfer(f *testing.F) {
	for _, seed := range []string{
		infer("[1,2]"), infer("[[1,2]]"), infer("[1,null]"), infer("[1e400,2]"), `{"inputs":[]}`, `[]`, ``, `null`,
		`{"inputs":[{"name":"x","shape":[1,2],"datatype":"BYTES","data":["a","b\u00e9"]}]}`,
		`{"inputs":[{"name":"x","shape":[4611686018427387904,4],"datatype":"FP32","data":[1]}]}`,
		`{"id":"a","parameters":{"key":"b"},"inputs":[{"name":"x","shape":[2,2],"datatype":"FP64","data":[1,2,3,4]}],"outputs":[{"name":"y"}]}`,
	} {
		f.Add([]byte(seed))
	}
	s := mlserve.New(nil)
	if err := s.AddModel("m", "1", newVersioned(1), nil); err != nil {
		f.Fatal(err)
	}
	h := s.Handler(mlserve.OpenInference())
	f.Fuzz(func(t *testing.T, body []byte) {
		w := call(h, "POST", "/v2/models/m/infer", string(body))
		if w.Code != 200 && w.Code != 400 {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		var answer struct {
			Error   string
			Outputs []struct {
				Shape []int
				Data  []float64
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("the answer is not JSON: %v: %s", err, w.Body)
		}
		if w.Code == 400 {
			if answer.Error == "" {
				t.Fatal("a refusal without a reason")
			}
			return
		}
		var request struct{ Inputs []struct{ Shape []int } }
		if err := json.Unmarshal(body, &request); err != nil {
			t.Fatalf("accepted what is not JSON: %v", err)
		}
		if len(answer.Outputs) != 1 || len(answer.Outputs[0].Data) != request.Inputs[0].Shape[0] {
			t.Fatalf("asked for %v, answered %s", request, w.Body)
		}
	})
}
