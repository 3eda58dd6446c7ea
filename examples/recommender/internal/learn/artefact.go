package learn

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/mainstay-go/mainstay/drift"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/rank"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/trainer"
	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/mlserve/gbdt"
)

// The files of a version: the model, the gateway's small model, and what the
// training data looked like.
const (
	modelFile     = "model.json"
	smallFile     = "small.json"
	referenceFile = "reference.bin"
	manifestFile  = "manifest.json"
)

// trainedTo is the metadata that holds the Seq after the last purchase learnt
// from: what comes later is fair to judge by.
const trainedTo = "trained_to"

// train learns from the purchases with from <= Seq < to and writes a complete
// version into dir, which appears by one rename.
func train(ctx context.Context, d *rank.Dataset, services *rank.Services, log []shop.Purchase, from, to int, seed uint64, dir, version string, pause func()) (mlserve.Manifest, error) {
	table, err := d.Table(ctx, from, to, seed)
	if err != nil {
		return mlserve.Manifest{}, err
	}
	rows, labels := table.Learn()
	booster, err := trainer.Train(ctx, table.Columns, rows, labels, trainer.Options{
		Rounds: 60, Depth: 4, LearningRate: 0.15, MinChildWeight: 3, Lambda: 2, Seed: seed, Pause: pause,
	})
	if err != nil {
		return mlserve.Manifest{}, fmt.Errorf("training: %w", err)
	}
	small, err := trainer.Train(ctx, table.Columns, rows, labels, trainer.Options{Rounds: 8, Depth: 3, LearningRate: 0.5, Seed: seed, Pause: pause})
	if err != nil {
		return mlserve.Manifest{}, fmt.Errorf("training the small model: %w", err)
	}
	reference, err := fitReference(table)
	if err != nil {
		return mlserve.Manifest{}, err
	}
	files := map[string][]byte{referenceFile: reference}
	for name, b := range map[string]*trainer.Booster{modelFile: booster, smallFile: small} {
		var text bytes.Buffer
		if err := b.WriteJSON(&text); err != nil {
			return mlserve.Manifest{}, fmt.Errorf("writing %s: %w", name, err)
		}
		files[name] = text.Bytes()
	}
	m := mlserve.Manifest{
		Model: rank.Model, Version: version,
		Code: commit(), Data: fingerprint(log, from, to), Features: services.Ranking.Fingerprint(),
		Reference: referenceFile, SHA256: map[string]string{},
		Metadata: map[string]string{trainedTo: strconv.Itoa(to), "trained_from": strconv.Itoa(from)},
	}
	if m.Golden, err = golden(files[modelFile], rows); err != nil {
		return mlserve.Manifest{}, err
	}
	for name, content := range files {
		sum := sha256.Sum256(content)
		m.SHA256[name] = hex.EncodeToString(sum[:])
	}
	return m, store(dir, m, files)
}

// fitReference describes what the model will be asked: one candidate of every
// visit, since the candidates of one visit are not independent.
func fitReference(t *rank.Table) ([]byte, error) {
	columns := make([]drift.Column, len(t.Columns))
	for c, name := range t.Columns {
		values := make([]float64, len(t.Observed))
		for i, row := range t.Observed {
			values[i] = float64(float32(t.Rows[row][c])) // as the model is asked
		}
		columns[c] = drift.Numbers(name, values)
	}
	reference, err := drift.Fit(columns...)
	if err != nil {
		return nil, fmt.Errorf("fitting the drift reference: %w", err)
	}
	return reference.MarshalBinary()
}

// golden are a few rows with the answer of the file that was written: a
// version that answers otherwise where it is loaded is refused.
func golden(model []byte, rows [][]float64) ([]mlserve.Golden, error) {
	m, err := gbdt.Parse(model)
	if err != nil {
		return nil, fmt.Errorf("reading back the model: %w", err)
	}
	var picked [][]float32
	for i := 0; i < len(rows) && len(picked) < 5; i += max(1, len(rows)/5) {
		row := make([]float32, len(rows[i]))
		for j, x := range rows[i] {
			row[j] = float32(x)
		}
		picked = append(picked, row)
	}
	in, err := m.Signature().Conform(mlserve.Rows(picked...))
	if err != nil {
		return nil, err
	}
	out, err := m.Predict(context.Background(), in)
	if err != nil {
		return nil, err
	}
	return []mlserve.Golden{{In: in, Out: out}}, nil
}

// commit is the revision this program was built from, or a hash of the program
// where the build did not say.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	path, err := os.Executable()
	if err != nil {
		return "unknown"
	}
	f, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "unknown"
	}
	return hex.EncodeToString(h.Sum(nil)) + " (the program's sha256)"
}

// fingerprint names the data: which purchases, and a hash of them.
func fingerprint(log []shop.Purchase, from, to int) string {
	h := sha256.New()
	n := 0
	for _, p := range log {
		if p.Seq >= from && p.Seq < to {
			fmt.Fprintf(h, "%d %s %s %d\n", p.Seq, p.Customer, p.Item, p.Time.UnixNano())
			n++
		}
	}
	return fmt.Sprintf("%d purchases, p%d to p%d, sha256:%x", n, from, to-1, h.Sum(nil)[:8])
}

// store writes the files and the manifest beside dir and renames them into place.
func store(dir string, m mlserve.Manifest, files map[string][]byte) error {
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	files[manifestFile] = manifest
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".writing-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // what is left after the rename: nothing
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(tmp, name), content, 0o600); err != nil {
			return err
		}
	}
	return os.Rename(tmp, dir)
}

// stored reads the manifest of a version that store has written.
func stored(dir string) (mlserve.Manifest, error) {
	var m mlserve.Manifest
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(text, &m)
}

// scorer reads a model from the files of a version.
func scorer(files fs.FS) (*gbdt.Model, error) {
	data, err := fs.ReadFile(files, modelFile)
	if err != nil {
		return nil, err
	}
	return gbdt.Parse(data)
}

// causeSeed makes a seed of what caused a training run, so that a run that is
// repeated learns the same.
func causeSeed(seed uint64, cause string) uint64 {
	sum := sha256.Sum256([]byte(cause))
	return seed ^ binary.BigEndian.Uint64(sum[:8])
}

// rest lets serving have the processor between two trees.
func rest() { time.Sleep(2 * time.Millisecond) }
