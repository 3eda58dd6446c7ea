package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/drift"
)

var update = flag.Bool("update", false, "write the golden files")

// testdata/reference.csv.gz are 3,000 rows, calm.csv 600 of the same distribution. In drifted.csv
// incomes are a quarter larger, a fifth of the plans is one that the reference lacks, and of
// the scores a tenth more is missing.
var moved3 = []string{"income", "plan", "score"}

func call(in io.Reader, args ...string) (code int, out, problems string) {
	var o, p bytes.Buffer
	code = run(args, in, &o, &p)
	return code, o.String(), p.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(name, []byte(got), 0o600))
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, plain(string(want)), plain(got))
}

var (
	pColumn = regexp.MustCompile(`(?m)^(\S+ +(?:drift|warning|stable|weak-reference|insufficient) +\S+ +)\S+`)
	pText   = regexp.MustCompile(`, p \S+`)
	spaces  = regexp.MustCompile(` +`)
)

// plain leaves out p-values, which a better test changes, and with them how wide columns are.
func plain(s string) string {
	return spaces.ReplaceAllString(pText.ReplaceAllString(pColumn.ReplaceAllString(s, "$1*"), ", p *"), " ")
}

// live is calm rows twice, then drifted ones: 1,800.
func live(t *testing.T) string {
	t.Helper()
	rows := func(name string) (header, rest string) {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		header, rest, _ = strings.Cut(string(b), "\n")
		return header, rest
	}
	header, calm := rows("calm.csv")
	_, drifted := rows("drifted.csv")
	return header + "\n" + calm + calm + drifted
}

func TestCompare(t *testing.T) {
	args := []string{"-reference", "testdata/reference.csv.gz", "-ignore", "customer"}
	code, out, problems := call(nil, append(args, "-current", "testdata/calm.csv")...)
	require.Equal(t, exitSame, code)
	require.Empty(t, problems)
	golden(t, "calm.txt", out)

	code, out, problems = call(nil, append(args, "-current", "testdata/drifted.csv")...)
	require.Equal(t, exitDrifted, code)
	require.Empty(t, problems)
	golden(t, "drifted.txt", out)

	code, out, _ = call(nil, append(args, "-current", "testdata/drifted.csv", "-json")...)
	require.Equal(t, exitDrifted, code)
	var r result
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	var names []string
	for _, f := range r.Report.Features {
		require.Contains(t, []drift.Verdict{drift.Drift, drift.Stable}, f.Verdict)
		if f.Verdict == drift.Drift {
			names = append(names, f.Name)
		}
	}
	require.Equal(t, moved3, names)
	require.Equal(t, source{File: "testdata/drifted.csv", Rows: 600}, r.Current)
	require.Equal(t, []leftOut{{"customer", "-ignore"}}, r.LeftOut)
	require.Equal(t, []string{"country", "plan"}, r.Reference.Categorical)
}

func TestStream(t *testing.T) {
	args := []string{"-reference", "testdata/reference.csv.gz", "-ignore", "customer", "-stream", "-window", "200"}
	code, out, problems := call(strings.NewReader(live(t)), args...)
	require.Equal(t, exitDrifted, code)
	require.Empty(t, problems)
	golden(t, "stream.txt", out)

	code, out, _ = call(strings.NewReader(live(t)), append(args, "-json")...)
	require.Equal(t, exitDrifted, code)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 2)
	var a alarm
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &a))
	// The drift begins at row 1,201, so the second window that shows it ends at 1,600.
	require.Equal(t, 1401, a.From)
	require.Equal(t, 1600, a.To)
	require.ElementsMatch(t, moved3, append(a.Alert.Others, a.Alert.Feature.Name))
	require.NotEmpty(t, a.Alert.ID)
	var end result
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &end))
	require.Equal(t, 9, end.Windows)
	require.Equal(t, 1, end.Alarms)

	code, out, _ = call(nil, append(args, "-current", "testdata/calm.csv")...)
	require.Equal(t, exitSame, code)
	require.Contains(t, out, "alarms: 0")
	require.Contains(t, out, "600 rows, 3 full windows")

	code, out, _ = call(nil, append(args, "-current", "testdata/drifted.csv", "-window", "601")...)
	require.Equal(t, exitSame, code)
	require.Contains(t, out, "no window is full yet")
}

// An alarm is there before the next row is.
func TestAlarmsComeAtOnce(t *testing.T) {
	rows := strings.SplitAfter(live(t), "\n")
	in, feed := io.Pipe()
	read, out := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run([]string{"-reference", "testdata/reference.csv.gz", "-ignore", "customer", "-stream", "-window", "200"}, in, out, io.Discard)
		_ = out.Close()
	}()
	_, err := io.WriteString(feed, strings.Join(rows[:1601], "")) // the header and 1,600 rows
	require.NoError(t, err)
	lines := bufio.NewReader(read)
	first, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(first, "rows 1401 to 1600: plan drifts"), first)
	require.NoError(t, feed.Close())
	_, err = io.Copy(io.Discard, lines)
	require.NoError(t, err)
	require.Equal(t, exitDrifted, <-code)
}

func TestPage(t *testing.T) {
	page := filepath.Join(t.TempDir(), "report.html")
	var before []byte
	for range 2 {
		code, _, problems := call(strings.NewReader(live(t)), "-reference", "testdata/reference.csv.gz", "-stream", "-ignore", "customer", "-window", "200", "-html", page)
		require.Equal(t, exitDrifted, code, problems)
		now, err := os.ReadFile(page)
		require.NoError(t, err)
		require.Contains(t, string(now), "<h1>Drift report</h1>")
		require.Contains(t, string(now), "8 windows ago")
		require.True(t, before == nil || bytes.Equal(before, now), "the same files give another page")
		before = now
	}
	left, err := os.ReadDir(filepath.Dir(page))
	require.NoError(t, err)
	require.Len(t, left, 1)
}

func write(t testing.TB, name, content string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
	return name
}

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

// What a column is follows from the reference; how the file is written does not matter.
func TestColumns(t *testing.T) {
	wide := "x,key\n"
	for i := range maxCategories + 1 {
		wide += fmt.Sprintf("%d,k%d\n", i, i)
	}
	odd := strings.TrimSuffix(wide, "\n") + "\nabc,k\n"
	for name, c := range map[string]struct {
		reference, current   string
		args                 []string
		numeric, categorical []string
		leftOut              []leftOut
	}{
		"numbers":          {"a,b\n1,x\n2.5e3,y\n", "b,a\nx,3\n", nil, []string{"a"}, []string{"b"}, nil},
		"missing is blank": {"a,b\n1,x\n ,\n", "a,b\n,\n", nil, []string{"a"}, []string{"b"}, nil},
		"never there":      {"a,b\n1,\n2,\n", "a,b\n,text\n", nil, []string{"a"}, []string{"b"}, nil},
		"NaN and beyond":   {"a\nNaN\n-1e999\ninf\n", "a\n1\n", nil, []string{"a"}, nil, nil},
		"as Go writes":     {"a,b\n1_000,0x1p4\n", "a,b\n1,1\n", nil, nil, []string{"a", "b"}, nil},
		"mark, gzip, CRLF": {zipped("\xef\xbb\xbfa,b\r\n1,x\r\n"), zipped("a,b\r\n1,x\r\n"), nil, []string{"a"}, []string{"b"}, nil},
		"tab":              {"a\tb\n1,5\tx\n", "a\tb\n1\tx\n", []string{"-separator", "tab"}, nil, []string{"a", "b"}, nil},
		"quoted":           {"\"a,b\"\n\"1\"\n\"\"\n", "\"a,b\"\n2\n", nil, []string{"a,b"}, nil, nil},
		"-missing":         {"a\n1\nNA\n", "a\nnull\n", []string{"-missing", "NA,null"}, []string{"a"}, nil, nil},
		"-categorical":     {"zip\n1\n2\n", "zip\n7\n", []string{"-categorical", "zip"}, nil, []string{"zip"}, nil},
		"other columns":    {"a,id\n1,8\n", "t,a\n9,1\n", []string{"-ignore", "id"}, []string{"a"}, nil, []leftOut{{"id", "-ignore"}, {"t", "the reference lacks it"}}},
		"too many texts": {wide, "x\n1\n", nil, []string{"x"}, nil,
			[]leftOut{{"key", "\"k0\" in line 2 is no number, and more than 10000 different values are too many for categories"}}},
		"a number spoilt": {odd, "key,x\n1,1\n", []string{"-ignore", "key", "-missing", "abc"}, []string{"x"}, nil, []leftOut{{"key", "-ignore"}}},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"-reference", write(t, "r.csv", c.reference), "-current", "-", "-json"}, c.args...)
			code, out, problems := call(strings.NewReader(c.current), args...)
			require.NotEqual(t, exitFailed, code, problems)
			var r result
			require.NoError(t, json.Unmarshal([]byte(out), &r))
			require.Equal(t, c.numeric, r.Reference.Numeric)
			require.Equal(t, c.categorical, r.Reference.Categorical)
			require.Equal(t, append([]leftOut{}, c.leftOut...), r.LeftOut)
		})
	}
}

// What is refused is refused in one sentence that names the place, and leaves no trace.
func TestRefuses(t *testing.T) {
	ok := "a,b\n1,x\n2,y\n"
	for name, c := range map[string]struct {
		reference, current string
		args               []string
		want               string
	}{
		"no rows":               {"a,b\n", ok, nil, "r.csv: it has no rows"},
		"no current rows":       {ok, "a,b\n", nil, "standard input: it has no rows"},
		"nothing":               {"", ok, nil, "r.csv: it is empty"},
		"ragged":                {"a,b\n1,x\n1\n", ok, nil, "r.csv: line 3 has 1 cells, the header 2"},
		"ragged later":          {ok, "a,b\n1,x\n1,x,y\n", nil, "standard input: line 3 has 3 cells"},
		"a quote":               {"a,b\n1,\"x\n", ok, nil, "r.csv: line 2: extraneous or missing \""},
		"a stray quote":         {"a,b\n1,x\"y\n", ok, nil, "r.csv: line 2: bare \""},
		"names twice":           {"a,a\n1,x\n", ok, nil, "two columns are called \"a\""},
		"a name lacking":        {"a,\n1,x\n", ok, nil, "column 2 has no name"},
		"a long name":           {strings.Repeat("n", 1025) + "\n1\n", ok, nil, "longer than 1024 bytes"},
		"wide":                  {strings.Repeat("x,", 1000) + "x\n", ok, nil, "1001 columns, more than 1000"},
		"not UTF-8":             {"\xff\xfea\x00\n", ok, nil, "the header is not UTF-8 text"},
		"a cell not UTF-8":      {"a,b\n1,\xff\n", ok, nil, "line 2, column \"b\": \"\\xff\" is not UTF-8"},
		"later not UTF-8":       {ok, "a,b\n1,\xff\n", nil, "line 2, column \"b\": \"\\xff\" is not UTF-8"},
		"gzip":                  {"\x1f\x8bno", ok, nil, "r.csv: it begins as gzip does"},
		"gzip cut short":        {zipped(strings.Repeat("a,b\n", 9999))[:60], ok, nil, "rows: it is cut short"},
		"gzip damaged":          {flipped(zipped(ok)), ok, nil, "checksum"},
		"a long cell":           {ok, "a,b\n1," + strings.Repeat("x", maxCell+1) + "\n", nil, "line 2, column \"b\": 4097 bytes, more than 4096"},
		"a long row":            {ok, "a,b\n1,\"" + strings.Repeat("x\n", 1<<20), nil, "a row is longer than 1048576 bytes; is a quote not closed?"},
		"no such column":        {ok, "a,c\n1,x\n", nil, "it lacks the column \"b\" of the reference"},
		"no number":             {ok, "a,b\n1,x\nabc,y\n", nil, "line 3, column \"a\": \"abc\" is no number"},
		"nothing left":          {ok, ok, []string{"-ignore", "a,b"}, "no column is left"},
		"-ignore what is not":   {ok, ok, []string{"-ignore", "c"}, "no column \"c\", which a flag names"},
		"-categorical likewise": {ok, ok, []string{"-categorical", "c"}, "no column \"c\""},
		"-separator":            {ok, ok, []string{"-separator", ",,"}, "-separator is \",,\""},
		"-separator quote":      {ok, ok, []string{"-separator", "\""}, "-separator is"},
		"-window":               {ok, ok, []string{"-window", "99"}, "-window is 99"},
		"-budget":               {ok, ok, []string{"-budget", "5"}, "-budget is 5"},
		"-fdr":                  {ok, ok, []string{"-fdr", "NaN"}, "-fdr is NaN"},
		"-effect":               {ok, ok, []string{"-effect", "-1"}, "-effect is -1"},
		"an argument":           {ok, ok, []string{"more.csv"}, "\"more.csv\" is not a flag"},
		"a flag":                {ok, ok, []string{"-x"}, "flag provided but not defined: -x"},
		"no file":               {ok, ok, []string{"-current", "testdata/none.csv"}, "cannot read testdata/none.csv: no such file"},
		"a directory":           {ok, ok, []string{"-current", "testdata"}, "testdata: after 0 rows: is a directory"},
		"no place for the page": {ok, ok, []string{"-html", "testdata/none/x.html"}, "cannot write testdata/none/x.html: no such file"},
		"the page's place":      {ok, ok, []string{"-html", "testdata"}, "cannot write testdata: "},
		"standard input twice":  {ok, ok, []string{"-reference", "-"}, "only one of the files"},
		"no reference":          {ok, ok, []string{"-reference", ""}, "-reference and -current name the two files"},
	} {
		for _, stream := range []bool{false, true} {
			page := write(t, "page.html", "as it was")
			args := append([]string{"-reference", write(t, "r.csv", c.reference), "-current", "-", "-html", page}, c.args...)
			if stream {
				args = append([]string{"-stream"}, args...)
			}
			code, out, problems := call(strings.NewReader(c.current), args...)
			require.Equal(t, exitFailed, code, name)
			require.Empty(t, out, name)
			require.Contains(t, problems, c.want, name)
			require.True(t, strings.HasPrefix(problems, "driftreport: "), problems)
			require.Equal(t, 1, strings.Count(problems, "\n"), problems)
			as, err := os.ReadFile(page)
			require.NoError(t, err)
			require.Equal(t, "as it was", string(as), name)
			left, err := os.ReadDir(filepath.Dir(page))
			require.NoError(t, err)
			require.Len(t, left, 1, name)
		}
	}
}

// flipped has one bit of the checksum wrong.
func flipped(s string) string {
	b := []byte(s)
	b[len(b)-6] ^= 1
	return string(b)
}

func TestLimits(t *testing.T) {
	r := write(t, "r.csv", "a,b\n1,x\n2,y\n3,z\n")
	c, err := parse([]string{"-reference", r, "-current", r}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, maxValues, c.format.values)
	require.Equal(t, maxRows, c.format.rows)
	c.format.values, c.format.rows = 6, 3
	_, err = report(c, nil, io.Discard)
	require.NoError(t, err)
	c.format.values = 5
	_, err = report(c, nil, io.Discard)
	require.ErrorContains(t, err, "more than 5 values: take a random share")
	c.format.values, c.format.rows = 6, 2
	_, err = report(c, nil, io.Discard)
	require.ErrorContains(t, err, "more than 2 rows")
}

func TestHelp(t *testing.T) {
	code, out, help := call(nil, "-h")
	require.Equal(t, exitSame, code)
	require.Empty(t, out)
	require.Contains(t, help, "-reference file")
}

// Who cannot print says so.
func TestOutputFails(t *testing.T) {
	args := []string{"-reference", "testdata/reference.csv.gz", "-current", "testdata/drifted.csv", "-ignore", "customer"}
	var problems bytes.Buffer
	require.Equal(t, exitFailed, run(args, nil, full{}, &problems))
	require.Contains(t, problems.String(), "cannot print: no space")
	require.Equal(t, exitFailed, run(append(args, "-stream", "-window", "200"), nil, full{}, io.Discard))
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space") }

// Whatever the files hold, there is a report, or one sentence and nothing else.
func FuzzRun(f *testing.F) {
	f.Add([]byte("a,b\n1,x\n2,y\n"), []byte("b,a\nz,9\n,\n"))
	f.Add([]byte(zipped("a\n1\n")), []byte("a\n1e309\n"))
	f.Add([]byte("a\n\"\n"), []byte("a\n\x00\n"))
	f.Add([]byte("a\x1b[31m\n1\n"), []byte("a\x1b[31m\nx\n"))
	f.Fuzz(func(t *testing.T, reference, current []byte) {
		name := write(t, "r.csv", string(reference))
		for _, args := range [][]string{{"-json"}, {}, {"-stream", "-window", "100"}} {
			code, out, problems := call(bytes.NewReader(current), append(args, "-reference", name, "-current", "-", "-html", name+".html")...)
			switch {
			case !slices.Contains([]int{exitSame, exitDrifted, exitFailed}, code):
				t.Fatalf("exit %d", code)
			case code == exitFailed && (out != "" || strings.Count(problems, "\n") != 1):
				t.Fatalf("refused with %q and %q", problems, out)
			case code != exitFailed && (problems != "" || out == ""):
				t.Fatalf("passed with %q and %q", problems, out)
			case strings.ContainsAny(out+problems, "\x1b\x00"):
				t.Fatalf("%q and %q steer the terminal", out, problems)
			}
		}
	})
}
