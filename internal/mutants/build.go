package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
)

// builder makes test binaries of the package with other text, which it lays
// over the files where they are: tests find their testdata beside them.
type builder struct {
	dir, tmp string
}

// build returns the name of the binary, or none and what the compiler said.
func (b builder) build(ctx context.Context, name string, text map[string][]byte) (binary, message string, err error) {
	over := filepath.Join(b.tmp, name)
	if err := os.Mkdir(over, 0o700); err != nil {
		return "", "", err
	}
	defer func() { _ = os.RemoveAll(over) }()
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for file, t := range text {
		copied := filepath.Join(over, file)
		if err := os.WriteFile(copied, t, 0o600); err != nil {
			return "", "", err
		}
		overlay.Replace[filepath.Join(b.dir, file)] = copied
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		return "", "", err
	}
	if err := os.WriteFile(over+".json", list, 0o600); err != nil {
		return "", "", err
	}
	binary = filepath.Join(b.tmp, name+".test")
	//nolint:gosec // the command that the tool is for
	c := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay="+over+".json", "-o", binary, ".")
	c.Dir = b.dir
	said, err := c.CombinedOutput()
	if ctx.Err() != nil {
		return "", "", ctx.Err()
	}
	if err != nil {
		return "", string(said), nil
	}
	return binary, "", nil
}
