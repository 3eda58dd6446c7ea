// Command driftreport says whether the rows of one CSV file still look like those of
// another.
//
//	go run ./examples/driftreport -reference train.csv -current today.csv -html report.html
//	go run ./examples/driftreport -reference train.csv.gz -stream < live.csv
//
// It exits with 0 if nothing has drifted, with 1 if something has, and with 2 if it
// could not tell: then one sentence says why, and the HTML file is as it was.
//
// # Files
//
// Both files are CSV in UTF-8 with a header row, plain or gzip, and - is standard input. An
// empty cell is a missing value, and so are the texts of -missing. A column is numeric if each
// of its values in the reference is a number, else categorical; those of -categorical are that in any
// case. A column of text with more than 10,000 different values is left out, as are those of
// -ignore: leave out keys, times and whatever only grows. The output says what was made of each. The
// current file needs all columns of the reference, in any order; more are passed over. An empty
// line is no row: in a file of one column, write "" for a missing value.
//
// The reference is read into memory, at most 20 million values of it. The current file is counted
// as it is read, up to 100 million rows. A row is at most 1 MiB, a cell 4 KiB, and a
// table 1,000 columns wide.
//
// # One comparison
//
// Without -stream the files are compared once. A feature has drifted if the difference is
// significant at a false discovery rate of -fdr over all features and its effect, the larger of
// the debiased PSI and the KS distance, is at least -effect. With fewer rows in the reference than in the
// current file the verdict is weak-reference, unless there is drift beyond doubt.
//
// # A stream
//
// With -stream the current file is cut into windows of -window rows, and an alarm is
// printed when two windows in a row have drifted, as soon as the second is full. -budget
// says how many rows there are on average to a false alarm, over all features. The
// report at the end is of the last full window, with the windows before it as a timeline.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/mainstay-go/mainstay/drift"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

const (
	exitSame    = 0
	exitDrifted = 1
	exitFailed  = 2
)

func run(args []string, in io.Reader, out, problems io.Writer) int {
	c, err := parse(args, problems)
	if errors.Is(err, flag.ErrHelp) {
		return exitSame
	}
	drifted := false
	if err == nil {
		drifted, err = report(c, in, out)
	}
	switch {
	case err != nil:
		fmt.Fprintln(problems, "driftreport:", err)
		return exitFailed
	case drifted:
		return exitDrifted
	}
	return exitSame
}

// config is what the flags say.
type config struct {
	reference, current string
	html               string
	json, stream       bool
	window, budget     int
	fdr, effect        float64
	format             format
	ignore             []string
	categorical        []string
}

func parse(args []string, out io.Writer) (config, error) {
	c := config{format: format{rows: maxRows, values: maxValues}}
	var separator, missing, ignore, categorical string
	f := flag.NewFlagSet("driftreport", flag.ContinueOnError)
	f.SetOutput(io.Discard) // the caller says it, in one sentence
	f.StringVar(&c.reference, "reference", "", "`file` of the rows to compare with")
	f.StringVar(&c.current, "current", "", "`file` of the rows to judge; with -stream, standard input if not given")
	f.StringVar(&c.html, "html", "", "write the report as a page to this `file`")
	f.BoolVar(&c.json, "json", false, "print JSON, with -stream one line for each alarm and one for the end")
	f.BoolVar(&c.stream, "stream", false, "judge windows as they come, and print alarms")
	f.IntVar(&c.window, "window", 500, "`rows` of a window, at least 100; the reference should have ten times as many")
	f.IntVar(&c.budget, "budget", 100_000, "`rows` to a false alarm of the stream, on average")
	f.Float64Var(&c.fdr, "fdr", 0.05, "share of wrong ones to expect among the features said to have drifted")
	f.Float64Var(&c.effect, "effect", 0.1, "least effect that is called drift")
	f.StringVar(&separator, "separator", ",", "one character, or tab")
	f.StringVar(&missing, "missing", "", "`texts` that mean a missing value besides the empty one, as NA,null")
	f.StringVar(&ignore, "ignore", "", "`columns` to leave out, as id,time")
	f.StringVar(&categorical, "categorical", "", "`columns` to take as categories though they hold numbers, as zip,status")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(out, "usage: driftreport -reference FILE -current FILE [flags]")
			f.SetOutput(out)
			f.PrintDefaults()
		}
		return c, err
	}
	c.format.missing = list(missing)
	c.ignore, c.categorical = list(ignore), list(categorical)
	if c.current == "" && c.stream {
		c.current = stdin
	}
	switch {
	case f.NArg() > 0:
		return c, fmt.Errorf("%q is not a flag", f.Arg(0))
	case c.reference == "" || c.current == "":
		return c, errors.New("-reference and -current name the two files")
	case c.reference == stdin && c.current == stdin:
		return c, errors.New("only one of the files can be standard input")
	case !(c.fdr > 0 && c.fdr < 1):
		return c, fmt.Errorf("-fdr is %v: a share between 0 and 1", c.fdr)
	case !(c.effect >= 0 && c.effect < 1e6):
		return c, fmt.Errorf("-effect is %v: 0 or more", c.effect)
	case c.window < 100 || c.window > maxRows:
		return c, fmt.Errorf("-window is %d: 100 rows to %d", c.window, maxRows)
	case c.budget < c.window || c.budget > 1e9:
		return c, fmt.Errorf("-budget is %d: from the rows of a window, %d, to a billion", c.budget, c.window)
	}
	var err error
	c.format.separator, err = character(separator)
	return c, err
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func character(s string) (rune, error) {
	if s == "tab" {
		return '\t', nil
	}
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 || n != len(s) || r == utf8.RuneError || strings.ContainsRune("\"\r\n", r) {
		return 0, fmt.Errorf("-separator is %q: one character that is neither a quote nor a line's end, or tab", s)
	}
	return r, nil
}

// report compares, and writes what was found. Nothing is printed before the page
// is written, but for the alarms of a stream.
func report(c config, in io.Reader, out io.Writer) (drifted bool, err error) {
	learned, err := learn(c, in)
	if err != nil {
		return false, err
	}
	t, err := open(c.current, in, c.format)
	if err != nil {
		return false, err
	}
	defer t.close()
	b, err := learned.bind(t)
	if err != nil {
		return false, err
	}
	var found *result
	if c.stream {
		found, err = follow(c, b, printer(c.json, out))
	} else {
		found, err = compare(c, b)
	}
	if err != nil {
		return false, err
	}
	if c.html != "" {
		if err := writeFile(c.html, found.Report.WriteHTML); err != nil {
			return false, err
		}
	}
	var text bytes.Buffer
	write := found.text
	if c.json {
		write = found.json
	}
	if err := write(&text); err != nil {
		return false, err
	}
	if _, err := out.Write(text.Bytes()); err != nil {
		return false, fmt.Errorf("cannot print: %w", err)
	}
	return found.drifted(), nil
}

// writeFile replaces the file, or leaves it as it was.
func writeFile(name string, write func(io.Writer) error) error {
	failed := func(err error) error { return fmt.Errorf("cannot write %s: %w", name, cause(err)) }
	f, err := os.CreateTemp(filepath.Dir(name), ".driftreport-*")
	if err != nil {
		return failed(err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // not there if all went well
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return failed(err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return failed(err)
	}
	return nil
}

// result is what was found, as it is printed.
type result struct {
	Reference source        `json:"reference"`
	Current   source        `json:"current"`
	LeftOut   []leftOut     `json:"left_out"` // columns of either file, and why
	Windows   int           `json:"windows,omitempty"`
	Alarms    int           `json:"alarms"` // of a stream
	Report    *drift.Report `json:"report"` // its times are zero: rows have none

	stream bool
	budget int
}

// source describes a file.
type source struct {
	File        string   `json:"file"`
	Rows        int      `json:"rows"`
	Numeric     []string `json:"numeric,omitempty"`
	Categorical []string `json:"categorical,omitempty"`
}

type leftOut struct {
	Column string `json:"column"`
	Why    string `json:"why"`
}

func (r *result) drifted() bool {
	if r.stream {
		return r.Alarms > 0
	}
	return r.count() > 0
}

func (r *result) count() int {
	n := 0
	for _, f := range r.Report.Features {
		if f.Verdict == drift.Drift {
			n++
		}
	}
	return n
}
