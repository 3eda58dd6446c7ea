package mlserve

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Dir is a [Registry] in a directory:
//
//	ranker/                    the model
//	  7/                       a version: never changes once it is there
//	    manifest.json
//	    model.json
//	  .aliases/champion        holds "7"
//	  .tmp-…/                  being written; never listed
//
// A version appears by one rename, after everything in it was written and
// synced, and so does the target of an alias; a crash leaves either the old
// state or the new. Readers in other processes need no lock. Files are opened
// without following links out of the version's directory.
//
// What puts versions there by other means must also rename a finished
// directory into place. A directory without a manifest is not listed.
type Dir struct {
	root string
	mu   sync.Mutex // publishes of this process, so that equal ones meet
}

// NewDir makes a registry in a directory, which Publish creates if needed.
func NewDir(path string) *Dir { return &Dir{root: path} }

const (
	aliasDir    = ".aliases"
	tmpPrefix   = ".tmp-"
	tmpAge      = 24 * time.Hour // older leavings of a crash are removed
	maxManifest = 64 << 20
)

// Versions implements [Source].
func (d *Dir) Versions(ctx context.Context, model string) ([]Version, error) {
	vs, err := d.versions(ctx, model)
	return vs, fail("versions", model, "", err)
}

func (d *Dir) versions(ctx context.Context, model string) ([]Version, error) {
	if err := errors.Join(context.Cause(ctx), checkName("model", model)); err != nil {
		return nil, err
	}
	dir := filepath.Join(d.root, model)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: no directory %s", ErrNotFound, dir)
	}
	if err != nil {
		return nil, err
	}
	aliases, err := d.aliases(dir)
	if err != nil {
		return nil, err
	}
	var out []Version
	for _, e := range entries {
		if checkName("version", e.Name()) != nil {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, e.Name(), manifestFile))
		if err != nil {
			continue // a file, or a version without a manifest
		}
		out = append(out, Version{Model: model, Version: e.Name(), Aliases: aliases[e.Name()], Created: info.ModTime()})
	}
	return out, nil
}

// aliases maps versions to the aliases that point at them.
func (d *Dir) aliases(dir string) (map[string][]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, aliasDir))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string][]string{}, nil
	}
	if err != nil {
		return nil, err
	}
	out := make(map[string][]string, len(entries))
	for _, e := range entries {
		if checkName("alias", e.Name()) != nil {
			continue
		}
		version, err := os.ReadFile(filepath.Join(dir, aliasDir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		v := string(bytes.TrimSpace(version))
		out[v] = append(out[v], e.Name()) // entries are sorted
	}
	return out, nil
}

// Open implements [Source].
func (d *Dir) Open(ctx context.Context, v Version) (fs.FS, Manifest, error) {
	files, m, err := d.open(ctx, v.Model, v.Version)
	return files, m, fail("open", v.Model, v.Version, err)
}

func (d *Dir) open(ctx context.Context, model, version string) (fs.FS, Manifest, error) {
	if err := errors.Join(context.Cause(ctx), checkName("model", model), checkName("version", version)); err != nil {
		return nil, Manifest{}, err
	}
	files := confined(filepath.Join(d.root, model, version))
	f, err := files.Open(manifestFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Manifest{}, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return nil, Manifest{}, err
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, Manifest{}, err
	}
	if len(data) > maxManifest {
		return nil, Manifest{}, fmt.Errorf("%w: %s is larger than %d bytes", ErrModelFile, manifestFile, maxManifest)
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, Manifest{}, fmt.Errorf("%w: %s: %w", ErrModelFile, manifestFile, err)
	}
	return files, m, nil
}

// confined opens files below a directory and follows no link out of it.
type confined string

// Open implements [fs.FS].
func (c confined) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return os.OpenInRoot(string(c), filepath.FromSlash(name))
}

// Publish implements [Registry]. All regular files below files are stored,
// except a manifest.json at the top, in whose place m is written.
func (d *Dir) Publish(ctx context.Context, m Manifest, files fs.FS) error {
	return fail("publish", m.Model, m.Version, d.publish(ctx, m, files))
}

func (d *Dir) publish(ctx context.Context, m Manifest, files fs.FS) (err error) {
	if err := errors.Join(checkName("model", m.Model), checkName("version", m.Version)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	dir := filepath.Join(d.root, m.Model)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // models are not secrets; servers of other users read them
		return err
	}
	sweep(dir)
	tmp := filepath.Join(dir, tmpPrefix+rand.Text())
	if err := os.Mkdir(tmp, 0o755); err != nil { //nolint:gosec // as above
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	m.SHA256, err = copyAll(ctx, tmp, files, m.SHA256)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return err
	}
	target := filepath.Join(dir, m.Version)
	if old, err := os.ReadFile(filepath.Join(target, manifestFile)); err == nil {
		return errors.Join(sameContent(old, data), os.RemoveAll(tmp), syncDir(dir))
	}
	if err := writeSynced(filepath.Join(tmp, manifestFile), bytes.NewReader(data)); err != nil {
		return err
	}
	if err := syncDir(tmp); err != nil {
		return err
	}
	// Fails if another process has put a version there meanwhile: a directory
	// that is not empty cannot be replaced.
	if err := os.Rename(tmp, target); err != nil {
		old, readErr := os.ReadFile(filepath.Join(target, manifestFile))
		if readErr != nil {
			return err
		}
		return errors.Join(sameContent(old, data), os.RemoveAll(tmp))
	}
	return errors.Join(syncDir(dir), syncDir(d.root))
}

// sameContent compares manifests, which hold the checksums of everything else.
func sameContent(old, data []byte) error {
	if bytes.Equal(bytes.TrimSpace(old), bytes.TrimSpace(data)) {
		return nil
	}
	return fmt.Errorf("%w: another content is published under this version; versions never change", ErrConflict)
}

func copyAll(ctx context.Context, dir string, files fs.FS, known map[string]string) (map[string]string, error) {
	sums := map[string]string{}
	dirs := []string{}
	err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case context.Cause(ctx) != nil:
			return context.Cause(ctx)
		case name == "." || name == manifestFile:
			return nil
		case e.IsDir():
			dirs = append(dirs, name)
			return os.Mkdir(filepath.Join(dir, filepath.FromSlash(name)), 0o755) //nolint:gosec // as in publish
		case !e.Type().IsRegular():
			return fmt.Errorf("%w: %s is not a regular file", ErrInput, name)
		}
		f, err := files.Open(name)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // only read
		if err := writeSynced(filepath.Join(dir, filepath.FromSlash(name)), f); err != nil {
			return err
		}
		sums[name], err = checksum(confined(dir), name)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(sums) == 0 {
		return nil, fmt.Errorf("%w: no files to publish", ErrInput)
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if want := strings.ToLower(known[name]); sums[name] != want {
			return nil, fmt.Errorf("%w: %s: sha256 is %q, the manifest says %q", ErrModelFile, name, sums[name], want)
		}
	}
	for _, name := range dirs {
		if err := syncDir(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			return nil, err
		}
	}
	return sums, nil
}

// Alias implements [Registry].
func (d *Dir) Alias(ctx context.Context, model, alias, version string) error {
	return fail("alias", model, version, d.alias(ctx, model, alias, version))
}

func (d *Dir) alias(ctx context.Context, model, alias, version string) error {
	if err := errors.Join(context.Cause(ctx), checkName("model", model), checkName("alias", alias)); err != nil {
		return err
	}
	dir := filepath.Join(d.root, model, aliasDir)
	file := filepath.Join(dir, alias)
	if version == "" {
		err := os.Remove(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(err, syncDir(dir))
	}
	if _, _, err := d.open(ctx, model, version); err != nil {
		return err
	}
	if old, err := os.ReadFile(file); err == nil && string(old) == version {
		return syncDir(dir) // a crash may have come between rename and sync
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as in publish
		return err
	}
	tmp := filepath.Join(dir, tmpPrefix+rand.Text())
	err := writeSynced(tmp, strings.NewReader(version))
	if err == nil {
		err = os.Rename(tmp, file)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// sweep removes what an interrupted Publish left behind. It is only tidiness:
// such directories are never listed, so errors do not matter.
func sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), tmpPrefix) && time.Since(info.ModTime()) > tmpAge {
			_ = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}

func writeSynced(name string, r io.Reader) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // as in publish
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes a rename or a new name in dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
