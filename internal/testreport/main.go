// Command testreport reads the output of go test -json and prints what a
// person needs: the output of what failed, each skipped test with its reason,
// and a closing count. It exits 1 when something failed or nothing ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"time"
)

// event is one line of go test -json; see go doc test2json.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

type key struct{ pkg, test string }

type report struct {
	output  map[key][]string
	skipped map[string][]key // by reason
	slow    map[string]float64
	passed  int
	failed  int
}

func main() {
	r := report{output: map[key][]string{}, skipped: map[string][]key{}, slow: map[string]float64{}}
	if err := r.read(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if !r.print(os.Stdout) {
		os.Exit(1)
	}
}

func (r *report) read(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text()) // a compiler's words come as they are
			continue
		}
		r.add(e, out)
	}
	return lines.Err()
}

func (r *report) add(e event, out io.Writer) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "output", "build-output":
		r.output[k] = append(r.output[k], e.Output)
	case "pass", "fail", "skip":
		r.finish(e, k, out)
	case "build-fail":
		r.failed++
		fmt.Fprint(out, strings.Join(r.output[k], ""))
	}
}

func (r *report) finish(e event, k key, out io.Writer) {
	if e.Test == "" {
		r.slow[e.Package] = e.Elapsed
		if e.Action != "skip" {
			fmt.Fprintf(out, "%-4s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
		}
		if e.Action == "fail" {
			r.failed++
			fmt.Fprint(out, strings.Join(r.output[k], ""))
		}
		delete(r.output, k)
		return
	}
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		fmt.Fprint(out, strings.Join(r.output[k], ""))
	case "skip":
		why := reason(r.output[k])
		r.skipped[why] = append(r.skipped[why], k)
	}
	delete(r.output, k)
}

// reason is what t.Skip said.
func reason(output []string) string {
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "===") || strings.HasPrefix(line, "---") {
			continue
		}
		if _, text, ok := strings.Cut(line, ": "); ok {
			return text
		}
		return line
	}
	return "no reason given"
}

func (r *report) print(out io.Writer) bool {
	reasons := make([]string, 0, len(r.skipped))
	skips := 0
	for why, tests := range r.skipped {
		reasons = append(reasons, why)
		skips += len(tests)
	}
	sort.Strings(reasons)
	for _, why := range reasons {
		fmt.Fprintf(out, "skipped: %s\n", why)
		for _, k := range r.skipped[why] {
			fmt.Fprintf(out, "    %s %s\n", k.pkg, k.test)
		}
	}
	total := 0.0
	for _, s := range r.slow {
		total += s
	}
	fmt.Fprintf(out, "%s of tests\n", time.Duration(total*float64(time.Second)).Round(time.Second))
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, skips)
	return r.failed == 0 && r.passed > 0
}
