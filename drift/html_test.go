package drift

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// pageOf writes a page and reads it as XML, which it is too; it returns all texts and
// attribute values.
func pageOf(t *testing.T, r *Report) (page, texts string) {
	t.Helper()
	var b, all bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(bytes.NewReader(b.Bytes()))
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return b.String(), all.String()
		}
		if err != nil {
			t.Fatalf("the page is not well formed: %v\n%s", err, b.String())
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			for _, a := range tok.Attr {
				all.WriteString(a.Value + "\n")
				if strings.HasPrefix(strings.ToLower(a.Name.Local), "on") || strings.Contains(a.Value, "//") && a.Name.Local != "aria-label" {
					t.Errorf("attribute %s=%q", a.Name.Local, a.Value)
				}
			}
			switch tok.Name.Local {
			case "script", "link", "img", "iframe", "object":
				t.Errorf("the page has a %s", tok.Name.Local)
			}
		case xml.CharData:
			all.Write(tok)
			all.WriteByte('\n')
		}
	}
}

// A report of a world in which three features of eleven have moved for a while.
func watched(t *testing.T) *Report {
	t.Helper()
	clk := newClock()
	calm := newWorld(3)
	m := monitor(t, calm.reference(t, 10_000, traits), &MonitorOptions{Window: Tumbling(500), Now: clk.Now})
	calm.feeder(t, m, traits).rows(8*500, clk.step(time.Minute))
	newWorld(4, "normal", "zipf", "missing").feeder(t, m, traits).rows(8*500, clk.step(time.Minute))
	return m.Report()
}

func TestWriteHTML(t *testing.T) {
	rep := watched(t)
	page, texts := pageOf(t, rep)
	if dir := os.Getenv("MAINSTAY_KEEP"); dir != "" {
		if err := os.WriteFile(dir+"/report.html", []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"3 of 11 features drifted.", "4000", "zero-inflated", "unseen", "prefers-color-scheme: dark", "@media print"} {
		if want != "4000" && !strings.Contains(texts, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	// The worst first, in the table and below it.
	table := page[strings.Index(page, "<tbody>"):strings.Index(page, "</tbody>")]
	at := -1
	for _, f := range rep.ranked() {
		i := strings.Index(table, ">"+f.Name+"</a>")
		if i <= at {
			t.Errorf("%s is out of order in the table", f.Name)
		}
		at = i
	}
	if strings.Contains(table, "badge v0") || strings.Index(table, "badge v4") > strings.Index(table, "badge v2") {
		t.Error("the drifting features do not stand first")
	}
	if n := strings.Count(page, "<section"); n != 11 {
		t.Errorf("%d sections for 11 features", n)
	}
	// A picture of bars and one of the windows each, and an alert's line in those of the three.
	if n := strings.Count(page, "<svg"); n != 22 {
		t.Errorf("%d pictures", n)
	}
	if n := strings.Count(page, "class=\"alarm\""); n != 3 {
		t.Errorf("%d alerts are drawn, 3 were raised", n)
	}
	if n := strings.Count(page, "An alert about it stands."); n != 3 {
		t.Errorf("%d alerts are said to stand", n)
	}
	for _, f := range rep.Features {
		if n := strings.Count(page[strings.Index(page, "<h2>"+f.Name+" "):], "class=\"cur\""); n < len(f.Bars) {
			t.Errorf("%s: %d bars are drawn of %d", f.Name, n, len(f.Bars))
		}
	}
}

// The bars are as high as their shares, and the highest fits.
func TestBarsAreDrawnToScale(t *testing.T) {
	rep := &Report{Features: []FeatureReport{{Name: "x", Bars: []Bar{{"a", 0.5, 0.25}, {"b", 0.5, 0.75}}}}}
	page, _ := pageOf(t, rep)
	var heights []float64
	for _, part := range strings.Split(page, "<rect class=")[1:] {
		var h float64
		if _, err := fmt.Sscanf(part[strings.Index(part, "height="):], "height=%q", new(string)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscanf(part[strings.Index(part, "height=\"")+8:], "%f", &h); err != nil {
			t.Fatal(err)
		}
		heights = append(heights, h)
	}
	if len(heights) != 4 || math.Abs(heights[1]-heights[0]/2) > 0.1 || math.Abs(heights[3]-3*heights[1]) > 0.2 || heights[3] > fieldHeight {
		t.Errorf("heights %v for shares of 0.5, 0.25, 0.5, 0.75", heights)
	}
}

// svgs are the pictures of a page, a line for each element.
func svgs(page string) (all []string) {
	for _, s := range strings.Split(page, "<svg ")[1:] {
		s, _, _ = strings.Cut(s, "</svg>")
		all = append(all, strings.ReplaceAll(s, "><", ">\n<"))
	}
	return all
}

// By hand: a field of 674 by 156 right of 46 and above 170, the highest line at the next round
// number; three bars are in slots of 224.67, three moments 325 apart.
func TestPicturesByHand(t *testing.T) {
	const bars = `viewBox="0 0 720 194" role="img" aria-label="age, reference against this window">
<line class="grid" x1="46.0" x2="720.0" y1="170.0" y2="170.0"/>
<text class="tick" x="40.0" y="173.5">0%</text>
<line class="grid" x1="46.0" x2="720.0" y1="118.0" y2="118.0"/>
<text class="tick" x="40.0" y="121.5">20%</text>
<line class="grid" x1="46.0" x2="720.0" y1="66.0" y2="66.0"/>
<text class="tick" x="40.0" y="69.5">40%</text>
<line class="grid" x1="46.0" x2="720.0" y1="14.0" y2="14.0"/>
<text class="tick" x="40.0" y="17.5">60%</text>
<g>
<title>up to 18: 20.0%, reference 60.0%</title>
<rect class="ref" x="124.3" y="14.0" width="34.0" height="156.0"/>
<rect class="cur" x="158.3" y="118.0" width="34.0" height="52.0"/>
<text class="under" x="158.3" y="186.0">up to 18</text>
</g>
<g>
<title>18 to 60: 40.0%, reference 20.0%</title>
<rect class="ref" x="349.0" y="118.0" width="34.0" height="52.0"/>
<rect class="cur" x="383.0" y="66.0" width="34.0" height="104.0"/>
<text class="under" x="383.0" y="186.0">18 to 60</text>
</g>
<g>
<title>above 60: 40.0%, reference 20.0%</title>
<rect class="ref" x="573.7" y="118.0" width="34.0" height="52.0"/>
<rect class="cur" x="607.7" y="66.0" width="34.0" height="104.0"/>
<text class="under" x="607.7" y="186.0">above 60</text>
</g>
`
	const timeline = `viewBox="0 0 720 194" role="img" aria-label="age, effect per window">
<line class="grid" x1="46.0" x2="720.0" y1="170.0" y2="170.0"/>
<text class="tick" x="40.0" y="173.5">0</text>
<line class="grid" x1="46.0" x2="720.0" y1="118.0" y2="118.0"/>
<text class="tick" x="40.0" y="121.5">0.1</text>
<line class="grid" x1="46.0" x2="720.0" y1="66.0" y2="66.0"/>
<text class="tick" x="40.0" y="69.5">0.2</text>
<line class="grid" x1="46.0" x2="720.0" y1="14.0" y2="14.0"/>
<text class="tick" x="40.0" y="17.5">0.3</text>
<polyline class="line" points="58.0,118.0 383.0,14.0 708.0,66.0"/>
<circle class="calm" cx="58.0" cy="118.0" r="3.5">
<title>2011-05-01 01:00:00: effect 0.100, p 0.5, 150 rows, stable</title>
</circle>
<line class="alarm" x1="383.0" x2="383.0" y1="4" y2="170.0"/>
<circle class="hit" cx="383.0" cy="14.0" r="3.5">
<title>2011-05-01 02:00:00: effect 0.300, p 0.002, 160 rows, drift, alert</title>
</circle>
<circle class="hit" cx="708.0" cy="66.0" r="3.5">
<title>2011-05-01 03:00:00: effect 0.200, p 0.001, 200 rows, drift</title>
</circle>
<text class="from" x="46.0" y="187.0">2011-05-01 01:00</text>
<text class="tick" x="720.0" y="187.0">2011-05-01 03:00</text>
`
	page, _ := pageOf(t, smallReport())
	got := svgs(strings.ReplaceAll(page, ">\n<", "><"))
	for i, want := range []string{bars, timeline} {
		if len(got) != 2 || strings.TrimSpace(got[i]) != strings.TrimSpace(want) {
			t.Errorf("picture %d of %d:\n%s\nwant\n%s", i, len(got), got[i], want)
		}
	}
	// Eight slots of 84.25 have no room for 18 letters of 7: they are written aslant, and the bars are narrower. The
	// highest line is that of 15 %, and 12.5 % are 130 high.
	rep := &Report{Features: []FeatureReport{{Name: "x"}}}
	for range 8 {
		rep.Features[0].Bars = append(rep.Features[0].Bars, Bar{"a label of twenty-one", 0.125, 0.125})
	}
	page, _ = pageOf(t, rep)
	for _, want := range []string{
		`<svg viewBox="0 0 720 264" `, `<rect class="ref" x="54.4" y="40.0" width="33.7" height="130.0"/>`,
		`<text class="label" transform="translate(91.1 183.0) rotate(-40)">a label of twenty…</text>`,
		`<text class="tick" x="40.0" y="121.5">5%</text>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

// What is said where there is something to say.
func TestPageByHand(t *testing.T) {
	page, _ := pageOf(t, smallReport())
	for _, want := range []string{
		">1 of 2 features drifted.<", "<p>200 rows, 2011-05-01 02:00:00 to 2011-05-01 03:00:00 UTC, against reference <code>0123456789ab</code>.</p>",
		"<p>Effect 0.300, p 0.001. The least PSI that this window could have shown to be significant is 0.070. An alert about it stands.</p>",
		"<p>Effect 0.000, p 1.</p>",
		`<tr><th scope="row">ks exact</th><td>0.25</td><td>0.0005</td><td>0.25</td><td>0</td><td>5000</td><td>198</td></tr>`,
		`<tr><th scope="row">psi reference bins</th><td>0.31</td><td>-</td><td>0.3</td><td>0.01</td><td>5000</td><td>198</td></tr>`,
		`<td>-</td><td>-</td><td>-</td><td>-</td><td>-</td><td class="text">-</td></tr>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(page, "<figure>"); n != 2 {
		t.Errorf("%d figures, one feature has bars and a history", n)
	}
	of := func(n int) string {
		rep := &Report{}
		for i := range n {
			rep.Features = append(rep.Features, FeatureReport{Name: fmt.Sprint("x", i)})
		}
		page, _ := pageOf(t, rep)
		return page
	}
	if page := of(drawnFeatures); strings.Contains(page, "Pictures follow") || strings.Count(page, "<a href=") != drawnFeatures {
		t.Error("as many features as are drawn are not all drawn")
	}
	if page := of(drawnFeatures + 1); !strings.Contains(page, "Pictures follow for the first 100.") || strings.Count(page, "<a href=") != drawnFeatures {
		t.Error("of one feature more it is not said that it is not drawn")
	}
}

// The same report gives the same bytes, after a way through JSON too.
func TestReportsAreReproducible(t *testing.T) {
	rep := watched(t)
	coded, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	var read Report
	if err := json.Unmarshal(coded, &read); err != nil {
		t.Fatal(err)
	}
	first, _ := pageOf(t, rep)
	for name, again := range map[string]*Report{"same": rep, "read back": &read, "another run": watched(t)} {
		if page, _ := pageOf(t, again); page != first {
			t.Errorf("the page of the %s report differs", name)
		}
		var a, b bytes.Buffer
		if rep.WriteText(&a) != nil || again.WriteText(&b) != nil || a.String() != b.String() {
			t.Errorf("the text of the %s report differs", name)
		}
	}
}

// Where no clock was read, no time is made up.
func TestReportsWithoutTimes(t *testing.T) {
	rep := watched(t)
	rep.From, rep.To = time.Time{}, time.Time{}
	for i := range rep.Features {
		for k := range rep.Features[i].History {
			rep.Features[i].History[k].To = time.Time{}
		}
	}
	page, texts := pageOf(t, rep)
	var text strings.Builder
	if err := rep.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(page+text.String(), "0001") || strings.Contains(page, "UTC") {
		t.Error("a time was made up")
	}
	for _, want := range []string{"15 windows ago", "1 window ago: ", "this window"} {
		if !strings.Contains(texts, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if !strings.HasPrefix(text.String(), "500 rows, reference ") {
		t.Errorf("%.60q", text.String())
	}
}

// Nothing that a name or a category holds becomes markup: whatever it is, the page has the
// elements and attributes that it has for harmless names.
func FuzzHTMLEscapes(f *testing.F) {
	for _, s := range []string{"<script>alert(1)</script>", "\" onload=\"x", "</title></svg><b>", "&lt;", "\xff\xfe", "a\x00b", "\u202e", "%s%!d(MISSING)", "]]>", "<!--"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, name, label string) {
		shape := func(name, label string) string {
			moments := []Moment{{Effect: 1}, {Effect: 2, Alarm: true}}
			rep := &Report{Reference: name, Features: []FeatureReport{{
				Name: name, Verdict: Drift, Scores: []Score{{Method: name, N: 1, M: 1}},
				Bars: []Bar{{label, 0.5, 0.25}, {"b", 0.5, 0.75}}, History: moments,
			}}}
			page, _ := pageOf(t, rep)
			var out strings.Builder
			d := xml.NewDecoder(strings.NewReader(page))
			for {
				tok, err := d.Token()
				if err != nil {
					return out.String()
				}
				if e, ok := tok.(xml.StartElement); ok {
					out.WriteString(e.Name.Local)
					for _, a := range e.Attr {
						out.WriteString(" " + a.Name.Local)
					}
					out.WriteByte('\n')
				}
			}
		}
		if got, want := shape(name, label), shape("n", "l"); got != want {
			t.Errorf("%q and %q change the page:\n%s", name, label, got)
		}
	})
}

// Nothing that a name or a category holds becomes markup.
func TestHTMLEscapes(t *testing.T) {
	bad := []string{`<script>alert(1)</script>`, `" onload="alert(1)`, `' onload='x`, `</style></title></svg>`, `&lt;b&gt;`, `]]>`, "\x1b[31m\x00\u202e", `<!--`}
	for _, name := range bad {
		ref := fitted(t, Categories(name, append(bad, bad...)), Numbers("n"+name, []float64{1, 2}))
		m := monitor(t, ref, nil)
		c, err := m.Categorical(name)
		if err != nil {
			t.Skip("a name that a reference refuses") // the empty one
		}
		for range 200 {
			c.Observe(bad[0])
		}
		rep := m.Report()
		rep.Reference = name
		for i := range rep.Features {
			f := &rep.Features[i]
			f.Scores = append(f.Scores, Score{Method: name})
			f.History = []Moment{{Effect: 1}, {Effect: math.MaxFloat64, Alarm: true}}
		}
		page, texts := pageOf(t, rep)
		if strings.Contains(page, "<script") || !strings.Contains(texts, "alert(1)") {
			t.Errorf("%q got through, or is gone", name)
		}
		if strings.ContainsAny(page, "\x1b\x00\u202e") {
			t.Errorf("control characters of %q got through", name)
		}
	}
}

// Reports that have nothing, too much or odd numbers in them.
func TestHTMLOfOddReports(t *testing.T) {
	pageOf(t, &Report{})
	many := &Report{Features: make([]FeatureReport, 3*drawnFeatures)}
	for i := range many.Features {
		many.Features[i].Name = fmt.Sprint("f", i)
	}
	if page, _ := pageOf(t, many); strings.Count(page, "<section") != drawnFeatures || strings.Count(page, "<tr>") < 3*drawnFeatures {
		t.Error("the table has not all features, or there are more sections than pictures")
	}
	r := rand.New(rand.NewPCG(6, 6))
	odd := []float64{0, -1, math.MaxFloat64, -math.MaxFloat64, 5e-324, 0.3}
	pick := func() float64 { return odd[r.IntN(len(odd))] }
	for range 200 {
		f := FeatureReport{Name: "x", Effect: pick(), P: pick(), MinDetectable: pick(), Verdict: Verdict(r.IntN(7) - 1)}
		for range r.IntN(4) {
			f.Bars = append(f.Bars, Bar{"b", pick(), pick()})
			f.History = append(f.History, Moment{Effect: pick(), P: pick(), Verdict: Verdict(r.IntN(7) - 1)})
			f.Scores = append(f.Scores, Score{Stat: pick(), Null: pick()})
		}
		page, _ := pageOf(t, &Report{Features: []FeatureReport{f}})
		if strings.Contains(page, "NaN") || strings.Contains(page, "Inf") {
			t.Fatalf("%+v:\n%s", f, page)
		}
	}
	if err := (&Report{}).WriteHTML(failing{}); err == nil {
		t.Error("a failed write passed for a page")
	}
}

// What moved most is said of what moved.
func TestTextSaysWhatMoved(t *testing.T) {
	var b bytes.Buffer
	if err := watched(t).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	for i, line := range lines[2:] {
		drifts := strings.Contains(line, " drift ")
		if drifts != (i < 3) {
			t.Errorf("line %d: %s", i, line)
		}
		if drifts == strings.HasSuffix(line, " -") {
			t.Errorf("what moved: %s", line)
		}
	}
	if !strings.Contains(b.String(), "unseen: 3") || !strings.Contains(b.String(), "missing: 2") {
		t.Errorf("the unseen third and the missing fifth are not named:\n%s", b.String())
	}
}

// The verdict decides before the effect does, and what is not known stands before what is fine.
func TestWorstFirst(t *testing.T) {
	rep := &Report{Features: []FeatureReport{
		{Name: "fine", Verdict: Stable, Effect: 9}, {Name: "unknown", Verdict: Insufficient, Effect: 8}, {Name: "weak", Verdict: WeakReference, Effect: 7},
		{Name: "small", Verdict: Warning, Effect: 6}, {Name: "b", Verdict: Drift, Effect: 1}, {Name: "large", Verdict: Drift, Effect: 5}, {Name: "a", Verdict: Drift, Effect: 1},
	}}
	var got []string
	for _, f := range rep.ranked() {
		got = append(got, f.Name)
	}
	if want := "[large a b small weak unknown fine]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
	if rep.Features[0].Name != "fine" {
		t.Error("the report itself was sorted")
	}
}
