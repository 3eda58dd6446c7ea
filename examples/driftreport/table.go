package main

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of what is read. They bound the memory that a wrong or hostile file takes.
const (
	maxRows    = 100_000_000
	maxValues  = 20_000_000 // of a reference
	maxColumns = 1000
	maxName    = 1 << 10
	maxCell    = 4 << 10
	maxRow     = 1 << 20 // bytes
)

// stdin is the name of standard input.
const stdin = "-"

// format is how tables are written, and how much of one is read.
type format struct {
	separator rune
	missing   []string
	rows      int // at most
	values    int // of a reference, at most
}

// table reads a CSV file row by row.
type table struct {
	name   string
	header []string
	rows   int // read so far

	format format
	csv    *csv.Reader
	bytes  *meter
	close  func()
}

func open(name string, in io.Reader, f format) (*table, error) {
	t := &table{name: name, format: f, close: func() {}}
	if name == stdin {
		t.name = "standard input"
	} else {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", name, cause(err))
		}
		in, t.close = file, func() { _ = file.Close() } // it was only read
	}
	if err := t.begin(in); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// begin unpacks and reads the header.
func (t *table) begin(in io.Reader) error {
	raw := bufio.NewReader(in)
	if magic, _ := raw.Peek(2); string(magic) == "\x1f\x8b" {
		unpacked, err := gzip.NewReader(raw)
		if err != nil {
			return t.wrong("it begins as gzip does, and is none: %w", err)
		}
		raw = bufio.NewReader(unpacked)
	}
	if mark, _ := raw.Peek(3); string(mark) == "\xef\xbb\xbf" {
		_, _ = raw.Discard(3)
	}
	t.bytes = &meter{from: raw}
	t.csv = csv.NewReader(t.bytes)
	t.csv.Comma = t.format.separator
	t.csv.ReuseRecord = true
	header, err := t.read()
	if errors.Is(err, io.EOF) {
		return t.wrong("it is empty: there has to be a header")
	}
	if err != nil {
		return err
	}
	t.rows = 0
	if len(header) > maxColumns {
		return t.wrong("it has %d columns, more than %d", len(header), maxColumns)
	}
	for i, name := range header {
		name = strings.TrimSpace(name)
		switch {
		case !utf8.ValidString(name):
			return t.wrong("the header is not UTF-8 text")
		case name == "":
			return t.wrong("column %d has no name in the header", i+1)
		case len(name) > maxName:
			return t.wrong("the name of column %d is longer than %d bytes", i+1, maxName)
		case slices.Contains(t.header, name):
			return t.wrong("two columns are called %q", name)
		}
		t.header = append(t.header, name)
	}
	return nil
}

// next reads a row, which is valid until the next call. io.EOF ends the table.
func (t *table) next() ([]string, error) {
	row, err := t.read()
	if err != nil {
		return nil, err
	}
	if t.rows > t.format.rows {
		return nil, t.wrong("it has more than %d rows", t.format.rows)
	}
	for i, cell := range row {
		if len(cell) > maxCell {
			return nil, t.wrongCell(i, "%d bytes, more than %d", len(cell), maxCell)
		}
		row[i] = strings.TrimSpace(cell)
		if row[i] != "" && slices.Contains(t.format.missing, row[i]) {
			row[i] = ""
		}
	}
	return row, nil
}

func (t *table) read() ([]string, error) {
	t.bytes.row = t.bytes.read
	row, err := t.csv.Read()
	var parse *csv.ParseError
	switch {
	case err == nil:
		t.rows++
		return row, nil
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case errors.Is(err, csv.ErrFieldCount):
		return nil, t.wrong("line %d has %d cells, the header %d", t.line(), len(row), t.csv.FieldsPerRecord)
	case errors.As(err, &parse):
		return nil, t.wrong("line %d: %w", parse.Line, parse.Err)
	case errors.Is(err, errLong):
		return nil, t.wrong("%w", err)
	}
	return nil, t.wrong("after %d rows: %w", max(0, t.rows-1), cause(err))
}

func (t *table) line() int {
	line, _ := t.csv.FieldPos(0)
	return line
}

func (t *table) wrong(format string, of ...any) error {
	return fmt.Errorf("%s: "+format, append([]any{t.name}, of...)...)
}

func (t *table) wrongCell(i int, format string, of ...any) error {
	line, _ := t.csv.FieldPos(i)
	return t.wrong("line %d, column %q: "+format, append([]any{line, t.header[i]}, of...)...)
}

// cause is the error without the name of the file, which is said already.
func cause(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it is cut short")
	}
	return err
}

// number reads a number as people write them: what Go reads besides is text.
func number(s string) (float64, bool) {
	if strings.ContainsAny(s, "_xXpP") {
		return 0, false
	}
	x, err := strconv.ParseFloat(s, 64)
	return x, err == nil || errors.Is(err, strconv.ErrRange) // beyond all others is a number
}

var errLong = fmt.Errorf("a row is longer than %d bytes; is a quote not closed?", maxRow)

// meter ends a row that does not end, before it fills the memory.
type meter struct {
	from      io.Reader
	read, row int // bytes, and those read when the row began
}

func (m *meter) Read(p []byte) (int, error) {
	if m.read-m.row > maxRow {
		return 0, errLong
	}
	n, err := m.from.Read(p)
	m.read += n
	return n, err
}
