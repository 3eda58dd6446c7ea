package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// source is the package as it is, without its tests.
type source struct {
	dir   string // absolute
	name  string
	text  map[string][]byte // by file name
	fset  *token.FileSet
	from  types.Importer
	files map[string]*ast.File
	info  *types.Info
	pkg   *types.Package
}

func load(ctx context.Context, dir string) (*source, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	// Of the standard library, what the switches import.
	list := exec.CommandContext(ctx, "go", "list", "-export", "-deps", "-json=Dir,ImportPath,Name,GoFiles,Export", ".", "os", "strconv", "syscall")
	list.Dir, list.Stderr = dir, os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w", dir, err)
	}
	s := &source{dir: dir, text: map[string][]byte{}, fset: token.NewFileSet()}
	exports := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir, ImportPath, Name, Export string
			GoFiles                       []string
		}
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list in %s: %w", dir, err)
		}
		exports[p.ImportPath] = p.Export
		if p.Dir != dir {
			continue
		}
		s.name = p.Name
		for _, f := range p.GoFiles {
			if s.text[f], err = os.ReadFile(filepath.Join(dir, f)); err != nil {
				return nil, err
			}
		}
	}
	s.from = importer.ForCompiler(s.fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	var errs []types.Error
	if s.files, s.pkg, s.info, errs = s.check(s.text); len(errs) > 0 {
		return nil, errs[0]
	}
	return s, nil
}

// check type-checks the package with other text. It is for one goroutine.
func (s *source) check(text map[string][]byte) (map[string]*ast.File, *types.Package, *types.Info, []types.Error) {
	files := map[string]*ast.File{}
	var all []*ast.File
	for _, name := range slices.Sorted(maps.Keys(text)) {
		f, err := parser.ParseFile(s.fset, name, text[name], parser.SkipObjectResolution)
		if err != nil {
			return nil, nil, nil, []types.Error{{Fset: s.fset, Pos: f.Pos(), Msg: err.Error()}}
		}
		files[name], all = f, append(all, f)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	var errs []types.Error
	config := types.Config{Importer: s.from, Error: func(err error) {
		if e, ok := errors.AsType[types.Error](err); ok {
			errs = append(errs, e)
		}
	}}
	pkg, _ := config.Check(s.name, s.fset, all, info)
	return files, pkg, info, errs
}

// with is the text of the package with one mutant in it.
func (s *source) with(m *mutant) map[string][]byte {
	text := maps.Clone(s.text)
	was := text[m.file]
	text[m.file] = slices.Concat(was[:m.offset], []byte(m.text), was[m.offset+m.length:])
	return text
}
