package drift

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

func uvarint(n uint64) string { return string(binary.AppendUvarint(nil, n)) }

func eightBytes(n uint64) string { return string(binary.LittleEndian.AppendUint64(nil, n)) }

// sealed is what anyone can write: magic and version, any content, and a checksum that is right.
func sealed(head, content string) []byte {
	sum := sha256.Sum256([]byte(head + content))
	return append([]byte(head+content), sum[:]...)
}

// A reference behind a checksum that is right is read up to its limits, and no further. Of what is refused
// it is said what is wrong with it.
func TestForgedReferences(t *testing.T) {
	float := func(x float64) string { return eightBytes(math.Float64bits(x)) }
	category := func(name string, rows uint64) string {
		return "\x01\x01c\x02\x00\x01" + uvarint(rows) + uvarint(uint64(len(name))) + name
	}
	named := func(n int) string { return "\x01" + uvarint(uint64(n)) + strings.Repeat("n", n) + "\x02\x01\x00" }
	many := func(n int) string {
		s := uvarint(uint64(n))
		for i := range n {
			s += fmt.Sprintf("\x05%05d\x02\x01\x00", i)
		}
		return s
	}
	categories := func(n int) string {
		var names strings.Builder
		for i := range n {
			fmt.Fprintf(&names, "\x05%05d", i)
		}
		return "\x01\x01c\x02\x00" + uvarint(uint64(n)) + strings.Repeat("\x01", n) + names.String()
	}
	// Two rows, one up to 5 and one above it.
	numbers := "\x01\x01x\x01\x00\x02\x01\x01" + float(5)
	// The scores 0 and 1, the one without and the other with a true label: in the first and in the last tenth.
	scores := "\x01\x01p\x03\x00\x02\x01\x01" + float(math.Nextafter(0.5, 0)) + "\x00\x01" + float(0.5)
	labels, tenths := "\x01\x00\x00\x01", "\x01\x00\x00"+strings.Repeat("\x00\x00\x00", 8)+"\x01\x01"+uvarint(1<<24)

	for name, c := range map[string]struct{ content, want string }{
		"a category":               {category("free", 2), ""},
		"numbers":                  {numbers + "\x00\x01", ""},
		"scores":                   {scores + labels + "\x00\x00" + tenths, ""},
		"nothing":                  {"", "the number of features is cut short"},
		"too short for one":        {"\x01\x00\x02\x01", "the number of features is cut short"},
		"just long enough for one": {"\x01\x00\x02\x01\x00", "a name is 1 to 1024 bytes"},
		"name beyond the end":      {"\x01\x09name\x02\x01\x00", "a name is cut short"},
		"no kind":                  {"\x01\x03abc", "a kind is cut short"},
		"no count":                 {"\x01\x02ab\x02", "a count is cut short"},
		"endless count":            {"\x01\x01c\x02" + strings.Repeat("\xff", 12), "a count is cut short"},
		"no kind that there is":    {"\x01\x01c\x04\x01\x00", "unknown kind 4"},
		"no cells":                 {"\x01\x01x\x01\x01\x00", "a numeric feature without cells"},
		"fewer counts":             {"\x01\x01c\x02\x00\x02\x01", "the number of counts is cut short"},
		"half an edge":             {numbers[:len(numbers)-4], "the edges is cut short"},
		"one bin":                  {numbers + "\x00", "the bins is cut short"},
		"half a threshold":         {scores[:len(scores)-4], "the threshold is cut short"},
		"three of four labels":     {scores + labels[:3], "a count of labels is cut short"},
		"no sums":                  {scores + labels, "a sum is cut short"},
		"nine tenths":              {scores + labels + "\x00\x00" + tenths[:27], "a count of labels is cut short"},
		"one byte more":            {category("free", 2) + "\x00", "bytes are left over"},
		"rows at the limit":        {category("free", maxRows), ""},
		"rows over it":             {category("free", maxRows+1), "a count is cut short or over its limit"},
		"missing at the limit":     {"\x01\x01c\x02" + uvarint(maxRows) + "\x00", ""},
		"missing over it":          {"\x01\x01c\x02" + uvarint(maxRows+1) + "\x00", "a count is cut short or over its limit"},
		"both over it":             {"\x01\x01c\x02" + uvarint(maxRows) + "\x01\x01\x01a", "more rows than the limit of 274877906944"},
		"name at the limit":        {named(1024), ""},
		"name over it":             {named(1025), "a name is cut short or over its limit"},
		"category at the limit":    {category(strings.Repeat("k", 4096), 1), ""},
		"category over it":         {category(strings.Repeat("k", 4097), 1), "a category is cut short or over its limit"},
		"categories at the limit":  {categories(10_000), ""},
		"categories over it":       {categories(10_001), "the number of counts is cut short or over its limit"},
		"features at the limit":    {many(10_000), ""},
		"features over it":         {many(10_001), "the number of features is cut short or over its limit"},
		"bin at the limit":         {numbers + "\x00\x3f", ""},
		"bin over it":              {numbers + "\x00\x40", "bin 64 is over the limit of 64"},
		"squared errors, all of 1": {scores + labels + uvarint(1<<62) + "\x00" + tenths, ""},
		"more than that":           {scores + labels + uvarint(1<<62+1) + "\x00" + tenths, "a sum is cut short or over its limit"},
		"losses, all of 35":        {scores + labels + "\x00" + uvarint(35<<56) + tenths, ""},
		"losses of more than that": {scores + labels + "\x00" + uvarint(35<<56+1) + tenths, "a sum is cut short or over its limit"},
		"labels of another cell":   {scores + "\x00\x01\x01\x00" + "\x00\x00" + tenths, ""},
		"more labels than scores":  {scores + "\x02\x00\x00\x01" + "\x00\x00" + tenths, "the bins of the scores do not hold the labels of the cells"},
		"labels in the wrong cell": {scores + "\x02\x00\x00\x00" + "\x00\x00" + tenths, "2 labels for 1 scores in a cell"},
		"no edge at the threshold": {scores[:len(scores)-8] + float(0.25) + labels + "\x00\x00" + tenths, "no edge at the threshold"},
	} {
		var r Reference
		err := r.UnmarshalBinary(sealed("DRFT\x01", c.content))
		if c.want != "" {
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) || r.ID() != "" {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b, err := r.MarshalBinary()
		if err != nil || len(b) < 5+16+32 || string(b[5+16:len(b)-32]) != c.content {
			t.Errorf("%s: is not written as it was read: %v", name, err)
		}
	}
}

// However little of a file is there, it is told that it is cut short.
func TestReferenceCutShort(t *testing.T) {
	good, err := sampleReference(t).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		want := "does not begin with"
		switch {
		case i >= 5+16+32:
			want = "damaged or cut short"
		case i >= 5:
			want = fmt.Sprintf("cut short at %d bytes", i)
		}
		if err := new(Reference).UnmarshalBinary(good[:i]); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: %v, want %q", i, err, want)
		}
	}
}

func TestForgedJSON(t *testing.T) {
	tenths := "[0,0,0]" + strings.Repeat(",[0,0,0]", 8) // but for the first
	for _, c := range []struct{ want, feature string }{
		{`bin 64`, `"kind":"numeric","edges":[1],"bins":[0,64],"counts":[1,1]`},
		{`bin -1`, `"kind":"numeric","edges":[1],"bins":[0,-1],"counts":[1,1]`},
		{`unknown kind "predictions"`, `"kind":"predictions"`},
		{`labels that no scores have`, `"kind":"categorical","categories":["a"],"counts":[1],"labels":{"bins":[[1,0,0],` + tenths + `]}`},
		{`labels that no scores have`, `"kind":"numeric","edges":[1],"bins":[0,1],"counts":[1,1],"labels":{"bins":[` + tenths + `]}`},
		{`labels that no scores have`, `"kind":"numeric","edges":[1],"bins":[0,1],"counts":[1,1],"labels":{"bins":[[1,0,-1],` + tenths + `]}`},
		{`labels of 1 and 2 cells for 2`, `"kind":"numeric","edges":[0],"bins":[0,1],"counts":[1,1],"labels":{"threshold":5e-324,"negatives":[1],"positives":[0,1],"bins":[[1,0,0],` + tenths + `]}`},
		{`1 edges, 2 counts and 1 bins do not belong together`, `"kind":"numeric","edges":[1],"bins":[0],"counts":[1,1]`},
		{`1 edges, 1 counts and 1 bins do not belong together`, `"kind":"numeric","edges":[1],"bins":[0],"counts":[1]`},
		{`2001 edges, 2002 counts and 2002 bins do not belong together`, manyEdges(2001)},
		{`1 counts for 2 categories`, `"kind":"categorical","categories":["a","b"],"counts":[1]`},
		{`a count of -1 rows`, `"kind":"categorical","categories":["a","b"],"counts":[-1,2]`},
		{`a count of 274877906945 rows`, `"kind":"categorical","categories":["a"],"counts":[274877906945]`},
		{`more rows than the limit of 274877906944`, `"kind":"categorical","categories":["a","b"],"counts":[274877906944,1]`},
		{`no rows`, `"kind":"categorical","categories":["a"],"counts":[0]`},
		{`categories are not distinct, ascending and non-empty`, `"kind":"categorical","categories":["b","a"],"counts":[1,1]`},
		{`categories are not distinct, ascending and non-empty`, `"kind":"categorical","categories":["a","a"],"counts":[1,1]`},
		{`categories are not distinct, ascending and non-empty`, `"kind":"categorical","categories":["","a"],"counts":[1,1]`},
		{`edges are not finite and ascending`, `"kind":"numeric","edges":[2,1],"bins":[0,1,2],"counts":[1,1,1]`},
		{`edges are not finite and ascending`, `"kind":"numeric","edges":[1,1],"bins":[0,1,2],"counts":[1,1,1]`},
	} {
		var r Reference
		err := r.UnmarshalJSON([]byte(`{"format":1,"id":"","features":[{"name":"x",` + c.feature + `}]}`))
		if !errors.Is(err, ErrFormat) || !strings.HasSuffix(err.Error(), `feature "x": `+c.want) {
			t.Errorf("%s:\n%v\nwant %q", c.feature, err, c.want)
		}
	}
	// Within the limits it is only the id that is wrong.
	for name, feature := range map[string]string{
		"most edges": manyEdges(2000), "most rows": `"kind":"categorical","categories":["a"],"counts":[274877906944]`,
	} {
		err := new(Reference).UnmarshalJSON([]byte(`{"format":1,"id":"","features":[{"name":"x",` + feature + `}]}`))
		if err == nil || !strings.Contains(err.Error(), "does not match its id") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// manyEdges is a numeric feature of so many edges, in JSON.
func manyEdges(edges int) string {
	e, n := make([]int, edges), make([]int, edges+1)
	for i := range e {
		e[i] = i
	}
	n[0] = 1
	list := func(of []int) string { return strings.ReplaceAll(fmt.Sprint(of), " ", ",") }
	return fmt.Sprintf(`"kind":"numeric","edges":%s,"bins":%s,"counts":%s`, list(e), list(n), list(n))
}

// What JSON cannot write, a program that makes features can.
func TestEdgesAreFinite(t *testing.T) {
	for _, e := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		f := &feature{name: "x", kind: numeric, counts: []int64{1, 1}, edges: []float64{e}, bin: []uint8{0, 1}}
		if err := f.check(); err == nil || err.Error() != "edges are not finite and ascending" {
			t.Errorf("an edge at %v: %v", e, err)
		}
	}
}

// Scores that leave most tenths empty come back from both forms.
func TestFewScoresRoundTrip(t *testing.T) {
	ref := fitted(t, Predictions("p", []float64{0, 0.9}, []bool{false, true}, 0.5))
	text, err := json.Marshal(ref)
	if err != nil {
		t.Fatal(err)
	}
	var back Reference
	if err := json.Unmarshal(text, &back); err != nil || back.ID() != ref.ID() {
		t.Errorf("%v: %s", err, text)
	}
	again, err := throughBytes(t, ref).MarshalBinary()
	if b, _ := back.MarshalBinary(); err != nil || !bytes.Equal(b, again) {
		t.Errorf("the two forms differ: %v", err)
	}
}

// What all columns are named and limited by.
func TestFitAtItsLimits(t *testing.T) {
	columns := make([]Column, maxFeatures+1)
	for i := range columns {
		columns[i] = Categories(fmt.Sprint("c", i), []string{"a"})
	}
	if _, err := Fit(columns[1:]...); err != nil {
		t.Errorf("as many columns as there may be: %v", err)
	}
	if _, err := Fit(columns...); err == nil || err.Error() != "drift: 10001 columns, more than the limit of 10000" {
		t.Errorf("one column too many: %v", err)
	}
	s, y := []float64{0, 1}, []bool{false, true}
	for threshold, fits := range map[float64]bool{1e300: true, -1e300: true, 1.1e300: false, math.Inf(1): false} {
		if _, err := Fit(Predictions("p", s, y, threshold)); (err == nil) != fits {
			t.Errorf("a threshold of %v: %v", threshold, err)
		}
	}
}
