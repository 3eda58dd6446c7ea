package featurestore

// batch collects the refs of one read, each once.
type batch struct {
	refs  []Ref
	index map[Ref]int
	text  []byte // of the key being built
}

func newBatch(size int) *batch {
	return &batch{refs: make([]Ref, 0, size), index: make(map[Ref]int, size)}
}

// add returns the place of d's row for the key whose columns get reads.
func (b *batch) add(d *definition, columns []field, get func(*field) cell) (int, error) {
	b.text = b.text[:0]
	for i := range columns {
		b.text = appendKey(b.text, i == 0, &columns[i], get(&columns[i]))
	}
	if len(b.text) > maxKey {
		return 0, d.fail(string(b.text[:64])+"...", errKeyTooLong)
	}
	// A map lookup by a converted slice does not allocate, and runs of one key
	// are common: the user of fifty candidates.
	if i, ok := b.index[Ref{View: d.name, Key: string(b.text)}]; ok {
		return i, nil
	}
	ref := Ref{View: d.name, Key: string(b.text)}
	b.index[ref] = len(b.refs)
	b.refs = append(b.refs, ref)
	return len(b.refs) - 1, nil
}
