package drift

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
)

// drawnFeatures bounds how many features have a section with pictures; the table has all.
const drawnFeatures = 100

// WriteHTML writes the report as one page that needs nothing else: a table of the features, the
// worst first, and for each of the first 100 a picture of the reference beside the window, the
// effect over the windows before it with the alerts, and the tests; with [Predictions] also a table of
// the metrics. There are
// no scripts; the page can be printed, and follows the reader's choice of light or dark.
// Names and labels are escaped. The same report gives the same bytes.
func (r *Report) WriteHTML(w io.Writer) error {
	var p page
	p.raw(pageHead)
	drifted := 0
	ranked := r.ranked()
	for _, f := range ranked {
		if f.Verdict == Drift {
			drifted++
		}
	}
	p.f("<h1>Drift report</h1>\n<p class=\"lead\">%d of %d features drifted.</p>\n", drifted, len(ranked))
	p.f("<p>%d rows%s, against reference <code>%s</code>.</p>\n", r.Rows, r.span(", %s to %s UTC"), esc(fmt.Sprintf("%.12s", r.Reference)))
	p.table(r, ranked)
	p.performance(r.Performance)
	if len(ranked) > drawnFeatures {
		p.f("<p>Pictures follow for the first %d.</p>\n", drawnFeatures)
		ranked = ranked[:drawnFeatures]
	}
	for i, f := range ranked {
		p.feature(i, f)
	}
	p.raw(pageFoot)
	_, err := io.WriteString(w, p.String())
	return err
}

// page is written from top to bottom. What goes into f as a string is escaped by esc, or is no
// one's input.
type page struct{ strings.Builder }

func (p *page) raw(s string)               { _, _ = p.WriteString(s) }
func (p *page) f(format string, of ...any) { fmt.Fprintf(p, format, of...) }

// esc escapes for text and for attributes in double quotes.
func esc(s string) string { return html.EscapeString(plain(s)) }

func badge(v Verdict) string {
	return fmt.Sprintf("<span class=\"badge v%d\">%s</span>", int(v), esc(v.String()))
}

func (p *page) table(r *Report, ranked []*FeatureReport) {
	p.raw("<div class=\"wide\"><table>\n<thead><tr><th>Feature</th><th>Verdict</th><th>Effect</th><th>p</th><th>PSI</th><th>KS</th><th>Missing</th><th>Unseen</th><th>Out of range</th><th class=\"text\">Moved most</th></tr></thead>\n<tbody>\n")
	for i, f := range ranked {
		name := esc(short(f.Name, 60))
		if i < drawnFeatures {
			name = fmt.Sprintf("<a href=\"#f%d\">%s</a>", i, name)
		}
		p.f("<tr><th scope=\"row\">%s</th><td>%s</td><td>%.3f</td><td>%.2g</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td class=\"text\">%s</td></tr>\n", name, badge(f.Verdict),
			f.Effect, f.P, f.stat("psi"), f.stat("ks"), r.share(f, f.Missing), r.share(f, f.Unseen), r.share(f, f.OutOfRange), esc(f.moved()))
	}
	p.raw("</tbody></table></div>\n")
}

// performance is the table of the metrics, nothing without predictions.
func (p *page) performance(r *PerformanceReport) {
	if r == nil {
		return
	}
	p.raw("<section id=\"performance\">\n<h2>Performance</h2>\n<div class=\"wide\"><table>\n<thead><tr><th>Metrics</th>")
	for _, name := range metricNames {
		p.f("<th>%s</th>", esc(name))
	}
	p.raw("</tr></thead>\n<tbody>\n")
	for _, l := range r.lines() {
		p.f("<tr><th scope=\"row\">%s, %s</th>", esc(l.name), esc(l.about))
		for _, v := range l.values {
			p.f("<td>%s</td>", esc(v))
		}
		p.raw("</tr>\n")
	}
	p.raw("</tbody></table></div>\n</section>\n")
}

func (p *page) feature(i int, f *FeatureReport) {
	p.f("<section id=\"f%d\">\n<h2>%s %s</h2>\n", i, esc(f.Name), badge(f.Verdict))
	alerted := ""
	if f.Alerted {
		alerted = " An alert about it stands."
	}
	least := ""
	if f.MinDetectable > 0 {
		least = fmt.Sprintf(" The least PSI that this window could have shown to be significant is %.3f.", f.MinDetectable)
	}
	p.f("<p>Effect %.3f, p %.2g.%s%s</p>\n", f.Effect, f.P, least, alerted)
	if len(f.Bars) > 0 {
		p.raw("<figure>\n")
		p.bars(f)
		p.raw("<figcaption><span class=\"key ref\"></span> reference <span class=\"key cur\"></span> this window; share of the rows</figcaption>\n</figure>\n")
	}
	if len(f.History) > 1 {
		p.raw("<figure>\n")
		p.timeline(f)
		p.raw("<figcaption>Effect per window. A filled point is a drift, a hollow one is not; a dashed line marks an alert.</figcaption>\n</figure>\n")
	}
	p.raw("<details><summary>Tests</summary><div class=\"wide\"><table>\n<thead><tr><th>Method</th><th>Statistic</th><th>p</th><th>Effect</th><th>Without drift</th><th>Reference</th><th>Window</th></tr></thead>\n<tbody>\n")
	for _, s := range f.Scores {
		pv := "-"
		if s.HasP {
			pv = fmt.Sprintf("%.3g", s.P)
		}
		p.f("<tr><th scope=\"row\">%s</th><td>%.4g</td><td>%s</td><td>%.4g</td><td>%.4g</td><td>%d</td><td>%d</td></tr>\n", esc(s.Method), s.Stat, pv, s.Effect, s.Null, s.N, s.M)
	}
	p.raw("</tbody></table></div></details>\n</section>\n")
}

// The pictures are drawn on a field of this size.
const (
	fieldWidth  = 720.0
	fieldLeft   = 46.0
	fieldHeight = 170.0
	labelLength = 18
)

// grid draws lines across at round values up to most, and returns the scale: pixels per unit.
func (p *page) grid(most float64, format func(float64) string) float64 {
	if !(most > 1e-9) {
		most = 1
	}
	step := roundStep(most / 4)
	top := step * math.Ceil(most/step)
	scale := (fieldHeight - 14) / top
	for i := range int(math.Round(top/step)) + 1 {
		y := fieldHeight - float64(i)*step*scale
		p.f("<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"tick\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
			fieldLeft, fieldWidth, y, y, fieldLeft-6, y+3.5, esc(format(float64(i)*step)))
	}
	return scale
}

// within keeps what is drawn on the field: no share is above 1, and an effect above highest
// is as good as that.
func within(x, highest float64) float64 { return min(max(x, 0), highest) }

const highestEffect = 1e6

func (p *page) bars(f *FeatureReport) {
	most, longest := 0.0, 0
	for _, b := range f.Bars {
		longest = max(longest, len([]rune(short(b.Label, labelLength))))
		most = max(most, within(b.Reference, 1), within(b.Current, 1))
	}
	slot := (fieldWidth - fieldLeft) / float64(len(f.Bars))
	upright := float64(longest)*7 < slot
	deep := fieldHeight + 22 + 4*float64(longest)
	if upright {
		deep = fieldHeight + 24
	}
	p.f("<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s, reference against this window\">\n", fieldWidth, deep, esc(f.Name))
	scale := p.grid(most, func(v float64) string { return fmt.Sprintf("%g%%", math.Round(v*1e6)/1e4) })
	wide := min(slot*0.4, 34)
	for i, b := range f.Bars {
		mid := fieldLeft + (float64(i)+0.5)*slot
		p.f("<g><title>%s: %s, reference %s</title>", esc(b.Label), percent(b.Current), percent(b.Reference))
		ref, cur := within(b.Reference, 1)*scale, within(b.Current, 1)*scale
		p.f("<rect class=\"ref\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", mid-wide, fieldHeight-ref, wide, ref)
		p.f("<rect class=\"cur\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", mid, fieldHeight-cur, wide, cur)
		if upright {
			p.f("<text class=\"under\" x=\"%.1f\" y=\"%.1f\">%s</text></g>\n", mid, fieldHeight+16, esc(short(b.Label, labelLength)))
		} else {
			p.f("<text class=\"label\" transform=\"translate(%.1f %.1f) rotate(-40)\">%s</text></g>\n", mid+3, fieldHeight+13, esc(short(b.Label, labelLength)))
		}
	}
	p.raw("</svg>\n")
}

func (p *page) timeline(f *FeatureReport) {
	most := 0.0
	for _, m := range f.History {
		most = max(most, within(m.Effect, highestEffect))
	}
	p.f("<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s, effect per window\">\n", fieldWidth, fieldHeight+24, esc(f.Name))
	scale := p.grid(most, func(v float64) string { return fmt.Sprintf("%.3g", v) })
	step := (fieldWidth - fieldLeft - 24) / float64(len(f.History)-1)
	x := func(i int) float64 { return fieldLeft + 12 + float64(i)*step }
	y := func(m Moment) float64 { return fieldHeight - within(m.Effect, highestEffect)*scale }
	var line strings.Builder
	for i, m := range f.History {
		fmt.Fprintf(&line, "%.1f,%.1f ", x(i), y(m))
	}
	p.f("<polyline class=\"line\" points=\"%s\"/>\n", strings.TrimSpace(line.String()))
	for i, m := range f.History {
		if m.Alarm {
			p.f("<line class=\"alarm\" x1=\"%.1f\" x2=\"%.1f\" y1=\"4\" y2=\"%.1f\"/>", x(i), x(i), fieldHeight)
		}
		class := "calm"
		if m.Verdict == Drift {
			class = "hit"
		}
		alert := ""
		if m.Alarm {
			alert = ", alert"
		}
		p.f("<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"><title>%s: effect %.3f, p %.2g, %d rows, %s%s</title></circle>\n",
			class, x(i), y(m), when(f.History, i, "2006-01-02 15:04:05"), m.Effect, m.P, m.Rows, esc(m.Verdict.String()), alert)
	}
	p.f("<text class=\"from\" x=\"%.1f\" y=\"%.1f\">%s</text><text class=\"tick\" x=\"%.1f\" y=\"%.1f\">%s</text>\n</svg>\n",
		fieldLeft, fieldHeight+17, when(f.History, 0, "2006-01-02 15:04"), fieldWidth, fieldHeight+17, when(f.History, len(f.History)-1, "2006-01-02 15:04"))
}

// when says of a moment when it was; where no clock was read, how many windows ago.
func when(history []Moment, i int, format string) string {
	switch ago := len(history) - 1 - i; {
	case !history[i].To.IsZero():
		return history[i].To.UTC().Format(format)
	case ago == 0:
		return "this window"
	case ago == 1:
		return "1 window ago"
	default:
		return fmt.Sprintf("%d windows ago", ago)
	}
}

const pageHead = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<title>Drift report</title>
<style>
:root { --paper: #fff; --ink: #1c2024; --soft: #5c6670; --line: #dfe3e7; --ref: #9aa5b1; --cur: #1f6fd1; --bad: #c62f2f; --odd: #8a5a00; --good: #1e7b3c; --none: #5c6670; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e6e9ec; --soft: #9aa5b1; --line: #30363c; --ref: #6b7682; --cur: #5ba3f5; --bad: #ff7b72; --odd: #e3b341; --good: #57c47b; --none: #9aa5b1; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.lead { font-size: 1.15rem; margin: 0; }
p { margin: .3rem 0 1rem; }
section { border-top: 1px solid var(--line); padding-top: 1.2rem; margin-top: 1.6rem; }
figure { margin: 0 0 1rem; }
figcaption, summary { color: var(--soft); font-size: .85em; }
.wide, figure { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .87rem; width: 100%; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; font-weight: normal; }
thead th { color: var(--soft); }
th:first-child, td.text, th.text { text-align: left; }
tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
a { color: var(--cur); }
.badge { border: 1px solid currentColor; border-radius: 1em; padding: 0 .55em; font-size: max(.8em, 8px); font-weight: 600; white-space: nowrap; color: var(--none); }
.v4 { color: var(--bad); } .v3 { color: var(--odd); } .v2 { color: var(--good); }
svg { display: block; width: 100%; min-width: 32rem; height: auto; font: 10.5px system-ui, sans-serif; }
.grid { stroke: var(--line); } .tick, .label { fill: var(--soft); text-anchor: end; } .from { fill: var(--soft); } .under { fill: var(--soft); text-anchor: middle; }
rect.ref { fill: var(--ref); } rect.cur { fill: var(--cur); }
.line { fill: none; stroke: var(--cur); stroke-width: 1.5; } .alarm { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 4 3; }
.calm { fill: var(--paper); stroke: var(--cur); stroke-width: 1.5; } .hit { fill: var(--bad); stroke: var(--bad); }
.key { display: inline-block; width: .8em; height: .8em; margin-left: .6em; } .key.ref { background: var(--ref); } .key.cur { background: var(--cur); }
@media print {
 * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
 body { max-width: none; margin: 0; font-size: 10pt; } h1 { font-size: 16pt; } h2 { font-size: 12pt; }
 figure, tr, details, h2, h2 + p { break-inside: avoid; } h2, h2 + p { break-after: avoid; }
 a { color: inherit; text-decoration: none; } .wide, figure { overflow: visible; } svg { min-width: 0; }
 table { font-size: 8pt; } th, td { padding: .15rem .3rem; } td.text, th.text { white-space: normal; }
 details::details-content { content-visibility: visible; }
}
</style>
</head>
<body>
`

const pageFoot = `<footer>
<p>The p-values take rows to be independent. A feature drifts if the difference is significant, at a false discovery rate over all
features, and large enough to matter. PSI has its noise taken off in the effect, which is the larger of it and the KS distance.</p>
</footer>
</body>
</html>
`
