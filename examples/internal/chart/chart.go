// Package chart draws throughput and p99 over a setting that doubles from one
// point to the next, as the SVG that the examples write.
package chart

import (
	"fmt"
	"html"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// Chart is one picture: a panel for each curve, throughput in blue on the left
// axis, p99 in red on the right one, the setting below.
type Chart struct {
	Title     string
	PerSecond string // what the left axis counts
	P99       string // what the right axis measures
	Curves    []Curve
}

// Curve is what was measured over one setting.
type Curve struct {
	Title   string // may be empty
	Setting string
	// Mark is where to draw a line if it lies within the picture: the setting that
	// the work bears. 0: nowhere. The settings are 1, 2, 4 and so on then.
	Mark   int
	Points []Point
}

// Point is one measurement.
type Point struct {
	Setting   int
	PerSecond float64
	P99       time.Duration
}

const (
	panelWidth, panelHeight  = 430, 300
	left, right, top, bottom = 64, 64, 56, 48 // of the axes

	blue, red, grey = "#1f6fb2", "#c0392b", "#6b7280"
)

// Draw writes the picture. Errors of out are the caller's to notice: it is
// meant for a buffer.
func (c Chart) Draw(out io.Writer) {
	width := panelWidth * len(c.Curves)
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="sans-serif" font-size="11">`+"\n",
		width, panelHeight, width, panelHeight)
	fmt.Fprintf(out, "<title>%s</title>\n", html.EscapeString(c.Title))
	fmt.Fprintf(out, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, panelHeight)
	for i, curve := range c.Curves {
		fmt.Fprintf(out, `<g transform="translate(%d 0)">`+"\n", i*panelWidth)
		text(out, left, 20, "start", "#111827", curve.Title)
		text(out, left, 40, "start", blue, c.PerSecond)
		text(out, panelWidth-right, 40, "end", red, c.P99)
		curve.draw(out)
		fmt.Fprintln(out, `</g>`)
	}
	fmt.Fprintln(out, `</svg>`)
}

func (c Curve) draw(out io.Writer) {
	text(out, (left+panelWidth-right)/2, panelHeight-10, "middle", grey, c.Setting)
	var fastest, slowest float64
	for _, p := range c.Points {
		fastest, slowest = max(fastest, p.PerSecond), max(slowest, float64(p.P99))
	}
	perSecond, latency := round(fastest), round(slowest)
	const lines = 4
	for k := range lines + 1 {
		share := float64(k) / lines
		at := y(share)
		fmt.Fprintf(out, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#e5e7eb"/>`+"\n", left, panelWidth-right, at, at)
		text(out, left-8, at+4, "end", blue, fmt.Sprintf("%.4g", share*perSecond))
		text(out, panelWidth-right+8, at+4, "start", red, time.Duration(share*latency).Round(10*time.Microsecond).String())
	}
	var rates, tails []string
	for i, p := range c.Points {
		x := c.x(float64(i))
		if i%2 == 0 || len(c.Points) < 8 {
			text(out, x, panelHeight-bottom+18, "middle", grey, strconv.Itoa(p.Setting))
		}
		rates = append(rates, fmt.Sprintf("%.1f,%.1f", x, y(p.PerSecond/perSecond)))
		tails = append(tails, fmt.Sprintf("%.1f,%.1f", x, y(float64(p.P99)/latency)))
	}
	c.mark(out)
	for _, l := range []struct {
		points []string
		colour string
	}{{rates, blue}, {tails, red}} {
		fmt.Fprintf(out, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(l.points, " "), l.colour)
		for _, p := range l.points {
			x, y, _ := strings.Cut(p, ",")
			fmt.Fprintf(out, `<circle cx="%s" cy="%s" r="3" fill="%s"/>`+"\n", x, y, l.colour)
		}
	}
}

func (c Curve) mark(out io.Writer) {
	i := math.Log2(float64(c.Mark))
	if c.Mark <= 0 || i > float64(len(c.Points)-1) {
		return
	}
	x := c.x(i)
	fmt.Fprintf(out, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="%s" stroke-dasharray="4 3"/>`+"\n", x, x, top, panelHeight-bottom, grey)
}

// x is where point i stands, or what lies between two.
func (c Curve) x(i float64) float64 {
	return left + i*(panelWidth-left-right)/float64(max(len(c.Points)-1, 1))
}

func y(share float64) float64 { return panelHeight - bottom - share*(panelHeight-top-bottom) }

// round is the least of 1, 2, 4, 5, 8 or 10 times a power of ten that is not below v.
func round(v float64) float64 {
	if !(v > 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, k := range []float64{1, 2, 4, 5, 8} {
		if v <= k*power {
			return k * power
		}
	}
	return 10 * power
}

func text[N int | float64](out io.Writer, x, y N, anchor, colour, s string) {
	if s == "" {
		return
	}
	fmt.Fprintf(out, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", float64(x), float64(y), anchor, colour, html.EscapeString(s))
}
