package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A picture has what it should have and is well-formed, also one of nothing, of
// one point, and of numbers far apart.
func TestDraw(t *testing.T) {
	for _, points := range [][]Point{
		nil,
		{{Setting: 1}},
		{{1, 1e9, time.Hour}, {2, 0.001, 1}},
		{{1, 1, 1}, {2, 2, 2}, {4, 3, 3}, {8, 4, 4}, {16, 5, 5}, {32, 6, 6}, {64, 7, 7}, {128, 8, 8}},
	} {
		var b bytes.Buffer
		Chart{Title: "a<b", PerSecond: "rate", P99: "tail", Curves: []Curve{
			{Title: `a<b & "c"`, Setting: "limit", Points: points},
			{Setting: "other", Points: points},
		}}.Draw(&b)
		count := elements(t, b.Bytes())
		require.Equal(t, 1, count["svg"])
		require.Equal(t, 2, count["g"])
		require.Equal(t, 4, count["polyline"])
		require.Equal(t, 4*len(points), count["circle"])
		require.Contains(t, b.String(), "a&lt;b &amp; &#34;c&#34;")
	}
}

// The line is between the settings it lies between, and not drawn outside.
func TestMark(t *testing.T) {
	points := []Point{{1, 1, 1}, {2, 1, 1}, {4, 1, 1}}
	for mark, want := range map[int]string{1: `x1="64.0" x2="64.0"`, 2: `x1="215.0" x2="215.0"`, 4: `x1="366.0" x2="366.0"`, 0: "", 5: "", -1: ""} {
		var b bytes.Buffer
		Curve{Mark: mark, Points: points}.draw(&b)
		if want == "" {
			require.NotContains(t, b.String(), "stroke-dasharray", mark)
			continue
		}
		require.Contains(t, b.String(), want, mark)
	}
}

func TestRound(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, -3: 1, 1: 1, 1.1: 2, 3: 4, 4.5: 5, 7: 8, 9: 10, 99: 100, 101: 200, 0.03: 0.04} {
		require.InDelta(t, want, round(v), want*1e-9, "%v", v)
	}
}

// elements counts them, and fails if the picture is not well-formed or has a number that is none.
func elements(t *testing.T, b []byte) map[string]int {
	t.Helper()
	count := make(map[string]int)
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return count
		}
		require.NoError(t, err)
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		count[e.Name.Local]++
		for _, a := range e.Attr {
			require.NotContains(t, a.Value, "NaN")
			require.NotContains(t, a.Value, "Inf")
		}
	}
}
