package mainstay_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// TestReadmeProgram fails when the README's program is not the Example that is compiled and run.
func TestReadmeProgram(t *testing.T) {
	readme := read(t, "README.md")
	_, rest, found := strings.Cut(readme, "```go\n")
	require.True(t, found, "README.md has no program")
	program, rest, found := strings.Cut(rest, "```\n")
	require.True(t, found, "the program of README.md does not end")
	want, output := example(t)
	require.Equal(t, want, program, "the program of README.md is not the body of Example in example_test.go")
	for line := range strings.Lines(output) {
		require.Contains(t, rest, "`"+strings.TrimSpace(line)+"`", "README.md does not say what its program prints")
	}
}

// example returns the body of Example without its indentation, and the output it is checked against.
func example(t *testing.T) (body, output string) {
	t.Helper()
	const file = "example_test.go"
	source := read(t, file)
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, file, source, parser.ParseComments|parser.SkipObjectResolution)
	require.NoError(t, err)
	for _, decl := range parsed.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Name.Name != "Example" {
			continue
		}
		text := source[fset.Position(f.Body.Lbrace).Offset+2 : fset.Position(f.Body.Rbrace).Offset]
		body, output, found := strings.Cut(text, "\t// Output:\n")
		require.True(t, found, "the output of Example is not checked")
		output = strings.ReplaceAll(output, "\t// ", "")
		return strings.ReplaceAll("\n"+body, "\n\t", "\n")[1:], output
	}
	t.Fatalf("%s has no Example", file)
	return "", ""
}

// TestReadmeBegins holds the README's beginning to one screen: program, commands and table of packages.
func TestReadmeBegins(t *testing.T) {
	lines := strings.Split(read(t, "README.md"), "\n")
	require.Greater(t, len(lines), 30)
	screen := strings.Join(lines[:30], "\n")
	for _, must := range []string{"go get ", "```go\n", "go run ./examples/recommender", "go test ./..."} {
		require.Contains(t, screen, must)
	}
	for _, pkg := range []string{"concurrency", "messaging", "idempotency", "saga", "featurestore", "drift", "mlserve"} {
		require.Contains(t, screen, "\n| ["+pkg+"]", "the table of the first 30 lines")
	}
}

var (
	fence  = regexp.MustCompile("(?ms)^```.*?^```$")
	code   = regexp.MustCompile("`[^`\n]*`")
	inline = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	number = regexp.MustCompile(`^\d{4}-[a-z0-9-]+\.md$`)
)

// TestLinks fails for a relative link of a document that leads to no file, or to no heading of it.
func TestLinks(t *testing.T) {
	links := 0
	for _, file := range documents(t) {
		for _, target := range linksOf(read(t, file)) {
			if u, err := url.Parse(target); err != nil || u.IsAbs() {
				require.NoError(t, err, "%s: %s", file, target)
				continue
			}
			links++
			path, heading, _ := strings.Cut(target, "#")
			where := file
			if path != "" {
				where = filepath.Join(filepath.Dir(file), filepath.FromSlash(path))
			}
			info, err := os.Stat(where)
			if err != nil {
				t.Errorf("%s links to %s, which does not exist", file, target)
				continue
			}
			if heading != "" && !info.IsDir() && !headings(read(t, where))[heading] {
				t.Errorf("%s links to %s, and %s has no such heading", file, target, where)
			}
		}
	}
	require.Positive(t, links, "no link was checked")
}

// TestDecisions fails for a decision record that its index does not list.
func TestDecisions(t *testing.T) {
	const dir = "docs/decisions"
	index := linksOf(read(t, filepath.Join(dir, "README.md")))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if e.Name() == "README.md" {
			continue
		}
		require.Regexp(t, number, e.Name())
		require.Contains(t, index, e.Name(), "the index of decisions")
	}
}

// documents returns every Markdown file of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	var files []string
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case filepath.Ext(path) == ".md":
			files = append(files, path)
		}
		return nil
	}))
	return files
}

// linksOf returns the targets of a document's links, those shown as code left out.
func linksOf(text string) []string {
	text = code.ReplaceAllString(fence.ReplaceAllString(text, ""), "")
	var targets []string
	for _, m := range inline.FindAllStringSubmatch(text, -1) {
		targets = append(targets, m[1])
	}
	return targets
}

// headings returns the anchors that a document's headings get where it is shown.
func headings(text string) map[string]bool {
	anchors := map[string]bool{}
	for line := range strings.Lines(fence.ReplaceAllString(text, "")) {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		anchors[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title))] = true
	}
	return anchors
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(b)
}
