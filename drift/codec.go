package drift

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// The binary form: magic, version, schema hash of 16 bytes (not in version 1), content, SHA-256 of
// all before it. Integers are unsigned varints, floats 8 bytes little endian,
// strings length and bytes.
const (
	magic         = "DRFT"
	formatVersion = 2
	schemaSize    = 16
)

// Kinds as they are written; 1 and 2 are those of kind.
const kindPredictions = 3

// AppendBinary appends the binary form to b. It fails only for a zero Reference.
func (r *Reference) AppendBinary(b []byte) ([]byte, error) {
	if len(r.features) == 0 {
		return b, errorf("an empty reference has no binary form")
	}
	start := len(b)
	b = append(b, magic...)
	b = append(b, formatVersion)
	schema, err := hex.DecodeString(r.schema)
	if err != nil {
		return b[:start], featureError("", err)
	}
	b = append(b, schema...)
	b = appendContent(b, r.features)
	sum := sha256.Sum256(b[start:])
	return append(b, sum[:]...), nil
}

// MarshalBinary implements encoding.BinaryMarshaler: see AppendBinary.
func (r *Reference) MarshalBinary() ([]byte, error) { return r.AppendBinary(nil) }

func contentID(features []*feature) string {
	sum := sha256.Sum256(appendContent(nil, features))
	return hex.EncodeToString(sum[:16])
}

func schemaID(features []*feature) string {
	h := sha256.New()
	for _, f := range features {
		fmt.Fprintf(h, "%q %s\n", f.name, f.kindName())
	}
	return hex.EncodeToString(h.Sum(nil)[:schemaSize])
}

func appendContent(b []byte, features []*feature) []byte {
	str := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.AppendUvarint(b, uint64(len(features)))
	for _, f := range features {
		str(f.name)
		if f.labels != nil {
			b = append(b, kindPredictions)
		} else {
			b = append(b, byte(f.kind))
		}
		b = binary.AppendUvarint(b, uint64(f.missing))
		b = binary.AppendUvarint(b, uint64(len(f.counts)))
		for _, c := range f.counts {
			b = binary.AppendUvarint(b, uint64(c))
		}
		for _, e := range f.edges {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(e))
		}
		b = append(b, f.bin...)
		for _, s := range f.categories {
			str(s)
		}
		if f.labels != nil {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(f.threshold))
			b = f.labels.append(b)
		}
	}
	return b
}

func (l *labelled) append(b []byte) []byte {
	for _, counts := range [][]int64{l.negatives, l.positives} {
		for _, c := range counts {
			b = binary.AppendUvarint(b, uint64(c))
		}
	}
	b = binary.AppendUvarint(b, l.brier)
	b = binary.AppendUvarint(b, l.logLoss)
	for _, x := range l.bins {
		b = binary.AppendUvarint(b, uint64(x.n))
		b = binary.AppendUvarint(b, uint64(x.positives))
		b = binary.AppendUvarint(b, x.sum)
	}
	return b
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. Anything but the
// undamaged output of MarshalBinary is an error that is [ErrFormat]; r is then
// unchanged. data is not kept.
func (r *Reference) UnmarshalBinary(data []byte) error {
	bad := func(format string, a ...any) error {
		return errorf("%s: %w", fmt.Sprintf(format, a...), ErrFormat)
	}
	if len(data) < len(magic)+1 || string(data[:len(magic)]) != magic {
		return bad("does not begin with %q", magic)
	}
	from := len(magic) + 1
	switch v := data[len(magic)]; v {
	case 1:
	case formatVersion:
		from += schemaSize
	default:
		return bad("format version %d, this program reads 1 and %d", v, formatVersion)
	}
	end := len(data) - sha256.Size
	if end < from {
		return bad("cut short at %d bytes", len(data))
	}
	if sum := sha256.Sum256(data[:end]); !bytes.Equal(sum[:], data[end:]) {
		return bad("the checksum does not match: damaged or cut short")
	}
	d := &decoder{b: data[from:end]}
	features := d.content()
	if d.err != nil {
		return bad("%v", d.err)
	}
	var n Reference
	if err := n.set(features); err != nil {
		return bad("%v", err)
	}
	if from > len(magic)+1 && n.schema != hex.EncodeToString(data[len(magic)+1:from]) {
		return bad("the content does not match its schema hash")
	}
	*r = n
	return nil
}

// decoder reads the content; after the first error it returns zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = errors.New(what)
		d.b = nil
	}
}

func (d *decoder) uvarint(limit uint64, what string) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > limit {
		d.fail(what + " is cut short or over its limit")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes(n int, what string) []byte {
	if n > len(d.b) {
		d.fail(what + " is cut short")
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

// length reads a count of things that take at least size bytes each, so that
// nothing is allocated that the data could not fill.
func (d *decoder) length(limit, size int, what string) int {
	n := int(d.uvarint(uint64(limit), what))
	if n*size > len(d.b) {
		d.fail(what + " is cut short")
		return 0
	}
	return n
}

func (d *decoder) content() []*feature {
	n := d.length(maxFeatures, 4, "the number of features")
	features := make([]*feature, 0, n)
	for range n {
		f := d.feature()
		if d.err != nil {
			return nil
		}
		features = append(features, f)
	}
	if len(d.b) > 0 {
		d.fail("bytes are left over")
	}
	return features
}

func (d *decoder) feature() *feature {
	f := &feature{name: string(d.bytes(d.length(maxName, 1, "a name"), "a name"))}
	predictions := false
	if k := d.bytes(1, "a kind"); len(k) == 1 {
		if predictions = k[0] == kindPredictions; predictions {
			k = []byte{byte(numeric)}
		}
		f.kind = kind(k[0])
	}
	f.missing = int64(d.uvarint(maxRows, "a count"))
	f.counts = make([]int64, d.length(maxCounts, 1, "the number of counts"))
	for i := range f.counts {
		f.counts[i] = int64(d.uvarint(maxRows, "a count"))
	}
	if d.err != nil {
		return f
	}
	switch f.kind {
	case numeric:
		if len(f.counts) == 0 {
			d.fail("a numeric feature without cells")
			return f
		}
		if b := d.bytes(8*(len(f.counts)-1), "the edges"); b != nil {
			f.edges = make([]float64, len(f.counts)-1)
			for i := range f.edges {
				f.edges[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
			}
		}
		f.bin = bytes.Clone(d.bytes(len(f.counts), "the bins"))
		if predictions {
			if b := d.bytes(8, "the threshold"); b != nil {
				f.threshold = math.Float64frombits(binary.LittleEndian.Uint64(b))
			}
			f.labels = d.labels(len(f.counts))
		}
	case categorical:
		for range f.counts {
			f.categories = append(f.categories, string(d.bytes(d.length(maxCategory, 1, "a category"), "a category")))
		}
	default:
		d.fail(fmt.Sprintf("unknown kind %d", f.kind))
	}
	return f
}

// labels reads those of so many cells, a number that length has bounded.
func (d *decoder) labels(cells int) *labelled {
	l := newLabelled(cells)
	for _, counts := range [][]int64{l.negatives, l.positives} {
		for k := range counts {
			counts[k] = int64(d.uvarint(maxRows, "a count of labels"))
		}
	}
	l.brier = d.uvarint(maxRows*brierUnit, "a sum")
	l.logLoss = d.uvarint(maxRows*35*lossUnit, "a sum")
	for b := range l.bins {
		l.bins[b].n = int64(d.uvarint(maxRows, "a count of labels"))
		l.bins[b].positives = int64(d.uvarint(maxRows, "a count of labels"))
		l.bins[b].sum = d.uvarint(maxRows*brierUnit, "a sum")
	}
	return l
}

// The JSON form, for people and other languages.
type referenceJSON struct {
	Format   int           `json:"format"`
	ID       string        `json:"id"`
	Schema   string        `json:"schema,omitempty"`
	Features []featureJSON `json:"features"`
}

type featureJSON struct {
	Name       string    `json:"name"`
	Kind       string    `json:"kind"`
	Missing    int64     `json:"missing"`
	Edges      []float64 `json:"edges,omitempty"`
	Bins       []int     `json:"bins,omitempty"`
	Categories []string  `json:"categories,omitempty"`
	Counts     []int64   `json:"counts"`

	Labels *labelsJSON `json:"labels,omitempty"`
}

type labelsJSON struct {
	Threshold float64    `json:"threshold"`
	Negatives []int64    `json:"negatives"`
	Positives []int64    `json:"positives"`
	Brier     uint64     `json:"brier"`
	LogLoss   uint64     `json:"log_loss"`
	Bins      [][3]int64 `json:"bins"`
}

// MarshalJSON implements json.Marshaler: {"format":2,"id":…,"schema":…,"features":[…]}.
// A feature has name, kind, missing and counts; a numeric one edges (cell k of
// counts is (edges[k-1], edges[k]]) and the PSI bin of each cell; a categorical
// one its categories in the order of counts; predictions are numeric with labels per cell,
// sums of losses in units of 2^-24 (Brier) and 2^-18 (log loss), and per tenth of the score the rows, the
// positives and the sum of scores in units of 2^-24.
func (r *Reference) MarshalJSON() ([]byte, error) {
	out := referenceJSON{Format: formatVersion, ID: r.id, Schema: r.schema, Features: make([]featureJSON, len(r.features))}
	if len(r.features) == 0 {
		return nil, errorf("an empty reference has no JSON form")
	}
	for i, f := range r.features {
		j := featureJSON{Name: f.name, Kind: f.kind.String(), Missing: f.missing, Edges: f.edges, Categories: f.categories, Counts: f.counts}
		for _, b := range f.bin {
			j.Bins = append(j.Bins, int(b))
		}
		if l := f.labels; l != nil {
			j.Labels = &labelsJSON{Threshold: f.threshold, Negatives: l.negatives, Positives: l.positives, Brier: l.brier, LogLoss: l.logLoss}
			for _, b := range l.bins {
				j.Labels.Bins = append(j.Labels.Bins, [3]int64{b.n, b.positives, int64(b.sum)})
			}
		}
		out.Features[i] = j
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler. Content that does not match its id,
// an unknown format and anything Fit would not have made are errors that are
// [ErrFormat]; r is then unchanged.
func (r *Reference) UnmarshalJSON(data []byte) error {
	bad := func(err error) error {
		return errorf("%w: %w", ErrFormat, err)
	}
	var in referenceJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return bad(err)
	}
	if in.Format < 1 || in.Format > formatVersion {
		return bad(fmt.Errorf("format %d, this program reads 1 and %d", in.Format, formatVersion))
	}
	features := make([]*feature, len(in.Features))
	for i, j := range in.Features {
		f := &feature{name: j.Name, missing: j.Missing, edges: j.Edges, categories: j.Categories, counts: j.Counts}
		switch j.Kind {
		case numeric.String():
			f.kind = numeric
		case categorical.String():
			f.kind = categorical
		default:
			return bad(featureError(j.Name, fmt.Errorf("unknown kind %.40q", j.Kind)))
		}
		for _, b := range j.Bins {
			if b < 0 || b >= maxBins {
				return bad(featureError(j.Name, fmt.Errorf("bin %d", b)))
			}
			f.bin = append(f.bin, uint8(b))
		}
		if j.Labels != nil {
			if f.labels = j.Labels.labelled(); f.labels == nil || f.kind != numeric {
				return bad(featureError(j.Name, errors.New("labels that no scores have")))
			}
			f.threshold = j.Labels.Threshold
		}
		features[i] = f
	}
	var n Reference
	if err := n.set(features); err != nil {
		return bad(err)
	}
	if in.Format > 1 && n.schema != in.Schema {
		return bad(errors.New("the content does not match its schema hash"))
	}
	if n.id != in.ID {
		return bad(errors.New("the content does not match its id"))
	}
	*r = n
	return nil
}

// labelled is nil if there are not as many bins as there have to be.
func (j *labelsJSON) labelled() *labelled {
	l := &labelled{negatives: j.Negatives, positives: j.Positives, brier: j.Brier, logLoss: j.LogLoss}
	if len(j.Bins) != len(l.bins) {
		return nil
	}
	for b, x := range j.Bins {
		if x[2] < 0 {
			return nil
		}
		l.bins[b] = scoreBin{n: x[0], positives: x[1], sum: uint64(x[2])}
	}
	return l
}
