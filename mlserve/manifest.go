package mlserve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"
)

// manifestFile is the name of the manifest beside the files.
const manifestFile = "manifest.json"

// Manifest says what a version is and where it came from: what a registry
// keeps beside the files. It is JSON in manifest.json, keys as in the tags.
type Manifest struct {
	// Model and Version name it. A name has 1 to 128 letters, digits, '.', '_'
	// and '-', and begins with a letter or digit.
	Model   string `json:"model"`
	Version string `json:"version"`
	// SHA256 of every file, in hexadecimal, by slash-separated path. Files not
	// named here do not exist for a [Loader]. [Registry].Publish fills it in.
	SHA256 map[string]string `json:"sha256"`
	// Code, Data and Features trace a prediction back: the commit that trained
	// it, the data set, the fingerprint of the feature definitions.
	Code     string `json:"code,omitempty"`
	Data     string `json:"data,omitempty"`
	Features string `json:"features,omitempty"`
	// Reference is the path, among the files, of the drift reference fitted on
	// the training data; see [Rebase].
	Reference string `json:"reference,omitempty"`
	// Golden cases are answered before the version serves; one wrong answer
	// refuses it.
	Golden []Golden `json:"golden,omitempty"`
	// Metadata is the user's own.
	Metadata map[string]string `json:"metadata,omitempty"`
}

// Golden is an input whose output is known, as a rule from the library that
// trained the model.
type Golden struct {
	In  Batch `json:"in"`
	Out Batch `json:"out"`
	// Tolerance t accepts a value v for the wanted w if |v-w| <= t*max(1,|w|);
	// zero wants equality. NaN equals NaN; strings and bools must be equal.
	Tolerance float64 `json:"tolerance,omitempty"`
}

// checkName refuses what could leave a directory or confuse a log: names come
// from requests, registries and files.
func checkName(kind, name string) error {
	ok := name != "" && len(name) <= 128 && name[0] != '.' && name[0] != '_' && name[0] != '-'
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		ok = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
	}
	if !ok {
		return fmt.Errorf("%w: %s name %q: use 1 to 128 letters, digits, '.', '_' and '-', a letter or digit first", ErrInput, kind, name)
	}
	return nil
}

// verify checks the files against the manifest and returns a view of them
// that holds nothing else.
func (m Manifest) verify(ctx context.Context, files fs.FS) (fs.FS, error) {
	if len(m.SHA256) == 0 {
		return nil, fmt.Errorf("%w: the manifest lists no files in sha256; Registry.Publish fills it in", ErrModelFile)
	}
	for _, name := range slices.Sorted(maps.Keys(m.SHA256)) {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		got, err := checksum(files, name)
		if err != nil {
			return nil, err
		}
		if want := strings.ToLower(m.SHA256[name]); got != want {
			return nil, fmt.Errorf("%w: %s: sha256 is %s, the manifest says %s", ErrModelFile, name, got, want)
		}
	}
	return listed{files, m.SHA256}, nil
}

func checksum(files fs.FS, name string) (string, error) {
	if !fs.ValidPath(name) || name == manifestFile {
		return "", fmt.Errorf("%w: file name %q", ErrModelFile, name)
	}
	f, err := files.Open(name)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrModelFile, err)
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// listed is a file system of the files that were verified.
type listed struct {
	files fs.FS
	names map[string]string
}

// Open implements [fs.FS].
func (l listed) Open(name string) (fs.File, error) {
	if _, ok := l.names[name]; !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return l.files.Open(name)
}

// matches compares an answer with the golden one.
func (g Golden) matches(got Batch) error {
	for _, want := range g.Out {
		t, err := got.Tensor(want.Name)
		if err != nil {
			return fmt.Errorf("%w: golden output: %w", ErrModelFile, err)
		}
		if !slices.Equal(t.Shape, want.Shape) {
			return fmt.Errorf("%w: golden output %q has shape %v, want %v", ErrModelFile, t.Name, t.Shape, want.Shape)
		}
		if s, ok := want.Data.([]string); ok {
			if d, ok := t.Data.([]string); !ok || !slices.Equal(d, s) {
				return fmt.Errorf("%w: golden output %q is %v, want %v", ErrModelFile, t.Name, t.Data, s)
			}
			continue
		}
		a, okA := t.float64s()
		b, okB := want.float64s()
		if !okA || !okB || len(a) != len(b) {
			return fmt.Errorf("%w: golden output %q: %s against %s", ErrModelFile, t.Name, t.Type(), want.Type())
		}
		for i := range b {
			if !g.close(a[i], b[i]) {
				return fmt.Errorf("%w: golden output %q: value %d is %v, want %v (tolerance %v)", ErrModelFile, t.Name, i, a[i], b[i], g.Tolerance)
			}
		}
	}
	return nil
}

func (g Golden) close(got, want float64) bool {
	if got == want || math.IsNaN(got) && math.IsNaN(want) {
		return true
	}
	return math.Abs(got-want) <= g.Tolerance*max(1, math.Abs(want)) && !math.IsInf(want, 0)
}
