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

// The binary form: magic, version, content, SHA-256 of all before it. Integers
// are unsigned varints, floats 8 bytes little endian, strings length and bytes.
const (
	magic         = "DRFT"
	formatVersion = 1
)

// AppendBinary appends the binary form to b. It fails only for a zero Reference.
func (r *Reference) AppendBinary(b []byte) ([]byte, error) {
	if len(r.features) == 0 {
		return b, &Error{Row: -1, Err: errors.New("an empty reference has no binary form")}
	}
	start := len(b)
	b = append(b, magic...)
	b = append(b, formatVersion)
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

func appendContent(b []byte, features []*feature) []byte {
	str := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.AppendUvarint(b, uint64(len(features)))
	for _, f := range features {
		str(f.name)
		b = append(b, byte(f.kind))
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
	}
	return b
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. Anything but the
// undamaged output of MarshalBinary is an error that is [ErrFormat]; r is then
// unchanged. data is not kept.
func (r *Reference) UnmarshalBinary(data []byte) error {
	bad := func(format string, a ...any) error {
		return &Error{Row: -1, Err: fmt.Errorf("%s: %w", fmt.Sprintf(format, a...), ErrFormat)}
	}
	if len(data) < len(magic)+1 || string(data[:len(magic)]) != magic {
		return bad("does not begin with %q", magic)
	}
	if v := data[len(magic)]; v != formatVersion {
		return bad("format version %d, this program reads %d", v, formatVersion)
	}
	end := len(data) - sha256.Size
	if end < len(magic)+1 {
		return bad("cut short at %d bytes", len(data))
	}
	if sum := sha256.Sum256(data[:end]); !bytes.Equal(sum[:], data[end:]) {
		return bad("the checksum does not match: damaged or cut short")
	}
	d := &decoder{b: data[len(magic)+1 : end]}
	features := d.content()
	if d.err != nil {
		return bad("%v", d.err)
	}
	var n Reference
	if err := n.set(features); err != nil {
		return bad("%v", err)
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
	if k := d.bytes(1, "a kind"); len(k) == 1 {
		f.kind = kind(k[0])
	}
	f.missing = int64(d.uvarint(maxRows, "a count"))
	f.counts = make([]int64, d.length(max(maxCells+1, maxCategories), 1, "the number of counts"))
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
	case categorical:
		for range f.counts {
			f.categories = append(f.categories, string(d.bytes(d.length(maxCategory, 1, "a category"), "a category")))
		}
	default:
		d.fail(fmt.Sprintf("unknown kind %d", f.kind))
	}
	return f
}

// The JSON form, for people and other languages.
type referenceJSON struct {
	Format   int           `json:"format"`
	ID       string        `json:"id"`
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
}

// MarshalJSON implements json.Marshaler: {"format":1,"id":…,"features":[…]}.
// A feature has name, kind, missing and counts; a numeric one edges (cell k of
// counts is (edges[k-1], edges[k]]) and the PSI bin of each cell; a categorical
// one its categories in the order of counts.
func (r *Reference) MarshalJSON() ([]byte, error) {
	out := referenceJSON{Format: formatVersion, ID: r.id, Features: make([]featureJSON, len(r.features))}
	if len(r.features) == 0 {
		return nil, &Error{Row: -1, Err: errors.New("an empty reference has no JSON form")}
	}
	for i, f := range r.features {
		j := featureJSON{Name: f.name, Kind: f.kind.String(), Missing: f.missing, Edges: f.edges, Categories: f.categories, Counts: f.counts}
		for _, b := range f.bin {
			j.Bins = append(j.Bins, int(b))
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
		return &Error{Row: -1, Err: fmt.Errorf("%w: %w", ErrFormat, err)}
	}
	var in referenceJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return bad(err)
	}
	if in.Format != formatVersion {
		return bad(fmt.Errorf("format %d, this program reads %d", in.Format, formatVersion))
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
		features[i] = f
	}
	var n Reference
	if err := n.set(features); err != nil {
		return bad(err)
	}
	if n.id != in.ID {
		return bad(errors.New("the content does not match its id"))
	}
	*r = n
	return nil
}
