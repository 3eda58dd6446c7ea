package drift

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func sampleReference(t testing.TB) *Reference {
	r := rand.New(rand.NewPCG(7, 7))
	x, k := make([]float64, 3000), make([]string, 3000)
	for i := range x {
		x[i], k[i] = r.NormFloat64(), []string{"a", "b", "", "ü"}[r.IntN(4)]
	}
	return fitted(t, Numbers("x", x), Categories("k", k), Numbers("const", []float64{1, 1, 1, math.NaN()}), Numbers("none", []float64{math.NaN()}))
}

func TestReferenceRoundTrip(t *testing.T) {
	ref := sampleReference(t)
	bin, err := ref.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(ref)
	if err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(*Reference) error{
		"binary": func(r *Reference) error { return r.UnmarshalBinary(bin) },
		"JSON":   func(r *Reference) error { return json.Unmarshal(text, r) },
	} {
		var back Reference
		if err := read(&back); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := back.MarshalBinary()
		if err != nil || !bytes.Equal(again, bin) || back.ID() != ref.ID() {
			t.Errorf("%s: came back different", name)
		}
	}
	if prefixed, _ := ref.AppendBinary([]byte("head")); !bytes.Equal(prefixed, append([]byte("head"), bin...)) {
		t.Error("AppendBinary does not append")
	}
}

func TestReferenceID(t *testing.T) {
	a, b := Numbers("a", []float64{1, 2, 3}), Categories("b", []string{"x"})
	ab, ba := fitted(t, a, b), fitted(t, b, a)
	if ab.ID() != ba.ID() || len(ab.ID()) != 32 {
		t.Errorf("IDs %q and %q of the same columns", ab.ID(), ba.ID())
	}
	for name, other := range map[string]*Reference{
		"value":   fitted(t, Numbers("a", []float64{1, 2, 4}), b),
		"missing": fitted(t, Numbers("a", []float64{1, 2, 3, math.NaN()}), b),
		"name":    fitted(t, Numbers("c", []float64{1, 2, 3}), b),
		"kind":    fitted(t, a, Numbers("b", []float64{1})),
	} {
		if other.ID() == ab.ID() {
			t.Errorf("another %s, the same ID", name)
		}
	}
	if (&Reference{}).ID() != "" {
		t.Error("the zero reference has an ID")
	}
}

func TestFitRefuses(t *testing.T) {
	many := make([]string, maxCategories+1)
	for i := range many {
		many[i] = string(rune('a'+i%26)) + strings.Repeat("z", i/26)
	}
	for _, c := range []struct {
		want    string
		columns []Column
	}{
		{"at least one column", nil},
		{`feature "x": no rows`, []Column{Numbers("x", nil)}},
		{`feature "x": no rows`, []Column{Categories("x", nil)}},
		{"two columns", []Column{Numbers("x", []float64{1}), Categories("x", []string{"1"})}},
		{"a name is", []Column{Numbers("", []float64{1})}},
		{"a name is", []Column{Numbers("\xff", []float64{1})}},
		{"no rows", []Column{{}}},
		{"more categories than the limit", []Column{Categories("x", many)}},
		{"not UTF-8", []Column{Categories("x", []string{"\xff"})}},
	} {
		_, err := Fit(c.columns...)
		var e *Error
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), "drift: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

func TestReferenceRefusesDamage(t *testing.T) {
	good, _ := sampleReference(t).MarshalBinary()
	other := slices.Clone(good)
	other[4] = 3
	for name, b := range map[string][]byte{
		"nothing": nil, "magic": []byte("nope, not this"), "version": other, "cut": good[:len(good)-1], "longer": append(slices.Clone(good), 0),
	} {
		refuses(t, name, b)
	}
	for i := range good {
		b := slices.Clone(good)
		b[i] ^= 0x10
		refuses(t, "one bit", b)
	}
	text, err := json.Marshal(sampleReference(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"format": {`"format":2`, `"format":3`}, "id": {`"id":"`, `"id":"0`}, "count": {`"missing":1`, `"missing":2`},
		"kind": {`"kind":"numeric"`, `"kind":"fuzzy"`}, "negative": {`"missing":1`, `"missing":-1`}, "bin": {`"bins":[0`, `"bins":[-1`},
	} {
		var r Reference
		b := strings.Replace(string(text), change[0], change[1], 1)
		if b == string(text) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if err := r.UnmarshalJSON([]byte(b)); !errors.Is(err, ErrFormat) || r.ID() != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&Reference{}).MarshalBinary(); err == nil {
		t.Error("an empty reference was written")
	}
	if _, err := json.Marshal(&Reference{}); err == nil {
		t.Error("an empty reference was written")
	}
}

// What the first format has written is read: bytes of a file, and the JSON.
func TestReferenceReadsFormatOne(t *testing.T) {
	want := fitted(t, Categories("plan", []string{"free", "free", "pro", ""}))
	b, err := hex.DecodeString("44524654010104706c616e020102020104667265650370726f6bcd7240fd8754efc22f9cbd714f32a63a615b688af342972fd096bbed2a7c19")
	if err != nil {
		t.Fatal(err)
	}
	var r, j Reference
	if err := r.UnmarshalBinary(b); err != nil || r.ID() != want.ID() || r.Schema() != want.Schema() {
		t.Errorf("binary: %v", err)
	}
	text := `{"format":1,"id":"5bc259c052c5ac3452e943736207bbf5","features":[{"name":"plan","kind":"categorical","missing":1,"categories":["free","pro"],"counts":[2,1]}]}`
	if err := json.Unmarshal([]byte(text), &j); err != nil || j.ID() != want.ID() || j.Schema() != want.Schema() {
		t.Errorf("JSON: %v", err)
	}
}

// The schema says which references may replace each other.
func TestSchema(t *testing.T) {
	x, y := []float64{0.1, 0.9}, []bool{false, true}
	of := func(columns ...Column) string { return fitted(t, columns...).Schema() }
	ab := of(Numbers("a", x), Numbers("b", x))
	if len(ab) != 32 || ab != of(Numbers("b", []float64{7}), Numbers("a", []float64{1, 2, 3})) {
		t.Error("other values or another order are another schema")
	}
	for name, other := range map[string]string{
		"fewer": of(Numbers("a", x)), "name": of(Numbers("a", x), Numbers("c", x)), "kind": of(Numbers("a", x), Categories("b", []string{"u"})),
		"predictions": of(Numbers("a", x), Predictions("b", x, y, 0.5)), "none": (&Reference{}).Schema(),
	} {
		if other == ab {
			t.Errorf("%s: the same schema", name)
		}
	}
}

func refuses(t *testing.T, name string, b []byte) {
	t.Helper()
	var r Reference
	if err := r.UnmarshalBinary(b); !errors.Is(err, ErrFormat) || r.ID() != "" {
		t.Errorf("%s: %v", name, err)
	}
}

// usable does with a decoded reference what a program does.
func usable(t *testing.T, r *Reference) {
	m, err := NewMonitor(r, &MonitorOptions{Window: Tumbling(100)})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.features {
		if f.kind == numeric {
			h, err := m.Numeric(f.name)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 120 {
				h.Observe([]float64{0, -1e300, math.NaN(), math.Inf(1), float64(i)}[i%5])
			}
		} else {
			h, err := m.Categorical(f.name)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 120 {
				h.Observe([]string{"", "a", "unheard of"}[i%3])
			}
		}
		if len(r.features) > 20 {
			break
		}
	}
	if p, err := m.Performance(); err == nil {
		for i := range 120 {
			id := strconv.Itoa(i)
			p.Predicted(id, []float64{0, 0.5, 1, math.Inf(1), -1e300}[i%5])
			p.Actual(id, i%3 == 0)
		}
	}
	soundReport(t, m.Report())
}

func soundReport(t testing.TB, rep *Report) {
	t.Helper()
	if _, err := json.Marshal(rep); err != nil {
		t.Error(err)
	}
	for _, f := range rep.Features {
		for _, x := range []float64{f.P, f.Effect, f.Missing, f.Unseen, f.OutOfRange, f.MinDetectable} {
			if x-x != 0 || x < 0 {
				t.Errorf("%+v", f)
			}
		}
		for _, s := range f.Scores {
			soundScore(t, s)
		}
	}
	if p := rep.Performance; p != nil {
		for _, m := range []Metrics{p.Actual, p.Expected, p.Reference} {
			for name, x := range metricFields(m) {
				if x-x != 0 || x < 0 {
					t.Errorf("%s is %v", name, x)
				}
			}
		}
	}
	for _, write := range []func(io.Writer) error{rep.WriteText, rep.WriteHTML} {
		var b strings.Builder
		if err := write(&b); err != nil || strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf<") {
			t.Errorf("%v: %s", err, b.String())
		}
	}
}

func FuzzUnmarshalBinary(f *testing.F) {
	good, _ := sampleReference(f).MarshalBinary()
	f.Add(good)
	small, _ := fitted(f, Numbers("x", []float64{1, 2}), Categories("c", []string{"a", ""})).MarshalBinary()
	f.Add(small)
	f.Add(small[:20])
	labels, _ := newWorld(26).predictions(f, 300).MarshalBinary()
	f.Add(labels)
	f.Add([]byte("DRFT\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Reference
		if err := r.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%v is not ErrFormat", err)
			}
			// Past the checksum: what a forger could write.
			d := &decoder{b: b}
			features := d.content()
			if d.err != nil || r.set(features) != nil {
				return
			}
		}
		usable(t, &r)
		out, err := r.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var again Reference
		if err := again.UnmarshalBinary(out); err != nil || again.ID() != r.ID() {
			t.Errorf("does not come back: %v", err)
		}
	})
}

func FuzzUnmarshalJSON(f *testing.F) {
	good, err := json.Marshal(fitted(f, Numbers("x", []float64{1, 2, 2}), Categories("c", []string{"a", ""})))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	labels, err := json.Marshal(fitted(f, Predictions("p", []float64{0.2, 0.9, 0.9}, []bool{false, true, false}, 0.5)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(labels)
	f.Add([]byte(`{"format":1,"id":"","features":[{"name":"x","kind":"numeric","edges":[1],"bins":[0,1],"counts":[1,2]}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Reference
		if err := r.UnmarshalJSON(b); err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%v is not ErrFormat", err)
			}
			return
		}
		usable(t, &r)
	})
}
