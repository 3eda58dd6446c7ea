package main

import (
	"fmt"
	"html"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// curve is what was measured over one setting, which doubles.
type curve struct {
	name   string
	points []point
}

type point struct {
	setting int
	measured
}

const (
	panelWidth, panelHeight  = 430, 300
	left, right, top, bottom = 64, 64, 56, 48 // of the axes

	blue, red, grey = "#1f6fb2", "#c0392b", "#6b7280"
)

// draw writes a picture with a panel for each curve: throughput in blue on the left axis, p99
// in red on the right one.
func draw(out io.Writer, curves []curve) {
	width := panelWidth * len(curves)
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="sans-serif" font-size="11">`+"\n",
		width, panelHeight, width, panelHeight)
	fmt.Fprintln(out, `<title>Throughput and p99 over prefetch and concurrency</title>`)
	fmt.Fprintf(out, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, panelHeight)
	for i, c := range curves {
		fmt.Fprintf(out, `<g transform="translate(%d 0)">`+"\n", i*panelWidth)
		c.draw(out)
		fmt.Fprintln(out, `</g>`)
	}
	fmt.Fprintln(out, `</svg>`)
}

func (c curve) draw(out io.Writer) {
	text(out, left, 40, "start", blue, "messages per second")
	text(out, panelWidth-right, 40, "end", red, "p99 in the consumer")
	text(out, (left+panelWidth-right)/2, panelHeight-10, "middle", grey, c.name)
	var fastest, slowest float64
	for _, m := range c.points {
		fastest, slowest = max(fastest, m.perSecond), max(slowest, float64(m.p99))
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
	for i, m := range c.points {
		x := left + float64(i)*(panelWidth-left-right)/float64(max(len(c.points)-1, 1))
		if i%2 == 0 || len(c.points) < 8 {
			text(out, x, panelHeight-bottom+18, "middle", grey, strconv.Itoa(m.setting))
		}
		rates = append(rates, fmt.Sprintf("%.1f,%.1f", x, y(m.perSecond/perSecond)))
		tails = append(tails, fmt.Sprintf("%.1f,%.1f", x, y(float64(m.p99)/latency)))
	}
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
	fmt.Fprintf(out, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", float64(x), float64(y), anchor, colour, html.EscapeString(s))
}
