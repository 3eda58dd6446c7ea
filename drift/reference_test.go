package drift

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
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
		{"more than the limit", []Column{Categories("x", many)}},
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
	other[4] = 2
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
		"format": {`"format":1`, `"format":2`}, "id": {`"id":"`, `"id":"0`}, "count": {`"missing":1`, `"missing":2`},
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
}

func FuzzUnmarshalBinary(f *testing.F) {
	good, _ := sampleReference(f).MarshalBinary()
	f.Add(good)
	small, _ := fitted(f, Numbers("x", []float64{1, 2}), Categories("c", []string{"a", ""})).MarshalBinary()
	f.Add(small)
	f.Add(small[:20])
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
