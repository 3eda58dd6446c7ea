package mlservetest

import (
	"errors"
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/mainstay-go/mainstay/mlserve"
)

// TestSource checks a source against what the server relies on, and, if it is
// an [mlserve.Registry], what a rollout does. open gives a fresh one; a source
// that cannot be published to must hold version "1" of the model "kit", with
// one file or more.
func TestSource(t *testing.T, open func(*testing.T) mlserve.Source) {
	t.Helper()
	t.Run("unknown", func(t *testing.T) {
		s := open(t)
		if _, err := s.Versions(t.Context(), "nobody-knows"); !errors.Is(err, mlserve.ErrNotFound) {
			t.Errorf("Versions of an unknown model: %v; want ErrNotFound", err)
		}
		seed(t, s)
		if _, _, err := s.Open(t.Context(), mlserve.Version{Model: "kit", Version: "no-such"}); !errors.Is(err, mlserve.ErrNotFound) {
			t.Errorf("Open of an unknown version: %v; want ErrNotFound", err)
		}
	})
	t.Run("confined", func(t *testing.T) {
		s := open(t)
		seed(t, s)
		for _, name := range []string{"..", ".", "", "../kit", "a/b", "/etc", "kit\x00"} {
			if _, err := s.Versions(t.Context(), name); err == nil {
				t.Errorf("Versions of model %q: no error", name)
			}
			if _, _, err := s.Open(t.Context(), mlserve.Version{Model: "kit", Version: name}); err == nil {
				t.Errorf("Open of version %q: no error", name)
			}
		}
	})
	t.Run("open", func(t *testing.T) {
		s := open(t)
		seed(t, s)
		vs, err := s.Versions(t.Context(), "kit")
		if err != nil || len(vs) == 0 {
			t.Fatalf("Versions: %v, %v", vs, err)
		}
		files, m, err := s.Open(t.Context(), vs[0])
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		if m.Model != vs[0].Model || m.Version != vs[0].Version || len(m.SHA256) == 0 {
			t.Errorf("the manifest of %s@%s is of %s@%s, with %d checksums", vs[0].Model, vs[0].Version, m.Model, m.Version, len(m.SHA256))
		}
		for name := range m.SHA256 {
			if _, err := fs.ReadFile(files, name); err != nil {
				t.Errorf("reading %s: %v", name, err)
			}
		}
	})
	t.Run("registry", func(t *testing.T) {
		r, ok := open(t).(mlserve.Registry)
		if !ok {
			t.Skip("not a Registry")
		}
		testRegistry(t, r)
	})
}

func files(content string) fs.FS {
	return fstest.MapFS{"model.txt": {Data: []byte(content)}, "deep/er/table.txt": {Data: []byte("x")}}
}

// seed puts version 1 of "kit" there if the source can be written.
func seed(t *testing.T, s mlserve.Source) {
	t.Helper()
	if r, ok := s.(mlserve.Registry); ok {
		if err := r.Publish(t.Context(), mlserve.Manifest{Model: "kit", Version: "1"}, files("one")); err != nil {
			t.Fatalf("Publish: %v", err)
		}
	}
}

func testRegistry(t *testing.T, r mlserve.Registry) {
	ctx := t.Context()
	one := mlserve.Manifest{Model: "kit", Version: "1", Code: "abc"}
	two := mlserve.Manifest{Model: "kit", Version: "2", Code: "def"}
	for range 2 { // the second time is a repeated step
		if err := r.Publish(ctx, one, files("one")); err != nil {
			t.Fatalf("Publish: %v", err)
		}
		if err := r.Publish(ctx, two, files("two")); err != nil {
			t.Fatalf("Publish: %v", err)
		}
	}
	if err := r.Publish(ctx, one, files("other")); !errors.Is(err, mlserve.ErrConflict) {
		t.Errorf("Publish of another content under a used version: %v; want ErrConflict", err)
	}
	bad := mlserve.Manifest{Model: "kit", Version: "3", SHA256: map[string]string{"model.txt": "00"}}
	if err := r.Publish(ctx, bad, files("three")); err == nil {
		t.Error("Publish with a wrong checksum: no error")
	}
	for range 2 {
		for alias, version := range map[string]string{"champion": "1", "challenger": "2"} {
			if err := r.Alias(ctx, "kit", alias, version); err != nil {
				t.Fatalf("Alias: %v", err)
			}
		}
	}
	if err := r.Alias(ctx, "kit", "champion", "no-such"); !errors.Is(err, mlserve.ErrNotFound) {
		t.Errorf("Alias to an unknown version: %v; want ErrNotFound", err)
	}
	want(t, r, map[string][]string{"1": {"champion"}, "2": {"challenger"}})
	if err := r.Alias(ctx, "kit", "champion", "2"); err != nil {
		t.Fatalf("Alias: %v", err)
	}
	want(t, r, map[string][]string{"1": nil, "2": {"challenger", "champion"}})
	for range 2 {
		if err := r.Alias(ctx, "kit", "challenger", ""); err != nil {
			t.Fatalf("removing an alias: %v", err)
		}
	}
	want(t, r, map[string][]string{"1": nil, "2": {"champion"}})
}

// want compares versions and their aliases.
func want(t *testing.T, r mlserve.Registry, want map[string][]string) {
	t.Helper()
	vs, err := r.Versions(t.Context(), "kit")
	if err != nil {
		t.Fatalf("Versions: %v", err)
	}
	if len(vs) != len(want) {
		t.Errorf("%d versions, want %d: %v", len(vs), len(want), vs)
	}
	for _, v := range vs {
		if aliases, ok := want[v.Version]; !ok || !slices.Equal(v.Aliases, aliases) {
			t.Errorf("version %q has aliases %q, want %q", v.Version, v.Aliases, aliases)
		}
	}
}
