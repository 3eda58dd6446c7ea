package saga

import (
	"fmt"
	"strings"
)

// Mermaid returns a flow chart in Mermaid's language. If live is not nil, each
// step shows how far that saga has come.
func (d *Definition[S]) Mermaid(live *Info) string {
	p := d.outline
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for i, s := range p.steps {
		left, right := "[", "]"
		if s.kind == pivotal {
			left, right = "{{", "}}"
		}
		progress := ""
		if live != nil {
			progress = ":::" + string(p.progress(i, live))
		}
		fmt.Fprintf(&b, "  s%d%s\"%s\"%s%s\n", i, left, s.name, right, progress)
	}
	for i := 1; i < len(p.steps); i++ {
		fmt.Fprintf(&b, "  s%d --> s%d\n", i-1, i)
	}
	last := -1
	for i, s := range p.steps {
		if !s.undo {
			continue
		}
		fmt.Fprintf(&b, "  u%d([\"undo %s\"])\n  s%d -.- u%d\n", i, s.name, i, i)
		if last >= 0 {
			fmt.Fprintf(&b, "  u%d -.-> u%d\n", i, last)
		}
		last = i
	}
	if live != nil {
		b.WriteString("  classDef done fill:#cfc\n  classDef active fill:#ffc\n  classDef undone fill:#ddd\n" +
			"  classDef failed fill:#fcc\n  classDef parked fill:#fcc\n  classDef waiting fill:#fff\n")
	}
	return b.String()
}

// Text returns one line per step: its kind, its name, and, if live is not nil,
// how far that saga has come.
func (d *Definition[S]) Text(live *Info) string {
	p := d.outline
	var b strings.Builder
	fmt.Fprintf(&b, "%s version %d", p.name, p.version)
	if live != nil {
		fmt.Fprintf(&b, ", %s: %s", live.ID, live.Status)
		if live.Err != "" {
			fmt.Fprintf(&b, " (%s)", live.Err)
		}
	}
	b.WriteString("\n")
	width := 0
	for _, s := range p.steps {
		width = max(width, len(s.name))
	}
	for i, s := range p.steps {
		line := fmt.Sprintf("%2d. %-9s  %-*s", i+1, s.kind, width, s.name)
		if live != nil {
			line += "  " + string(p.progress(i, live))
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

type progress string

const (
	stepWaiting progress = "waiting"
	stepActive  progress = "active"
	stepDone    progress = "done"
	stepUndone  progress = "undone"
	stepFailed  progress = "failed" // here the saga turned back
	stepParked  progress = "parked"
)

// progress tells how far a saga has come with step i.
func (p *plan) progress(i int, live *Info) progress {
	at, failed := p.index(live.Step), p.index(live.Failed)
	switch {
	case live.Status == Completed:
		return stepDone
	case i == at && live.Status == Parked:
		return stepParked
	case i == at:
		return stepActive
	case live.Failed != "" && i == failed:
		return stepFailed
	case live.Failed != "" && i > failed:
		return stepWaiting
	case live.Failed != "" && !p.steps[i].undo && i < failed:
		return stepDone // read only
	case live.Failed != "" && i > at:
		return stepUndone
	case i < at:
		return stepDone
	}
	return stepWaiting
}
