package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mainstay-go/mainstay/drift"
)

const maxCategories = 10_000

// learned is what the reference file says.
type learned struct {
	reference *drift.Reference
	source    source
	leftOut   []leftOut
}

// column collects the values of one column of the reference, as numbers and as texts
// for as long as it can be either.
type column struct {
	name    string
	at      int
	numbers []float64
	texts   []string
	known   map[string]string
	present int

	noNumber string // why it is not numeric
	many     bool   // it has too many different values to be categorical
}

func learn(c config, in io.Reader) (*learned, error) {
	t, err := open(c.reference, in, c.format)
	if err != nil {
		return nil, err
	}
	defer t.close()
	for _, name := range slices.Concat(c.ignore, c.categorical) {
		if !slices.Contains(t.header, name) {
			return nil, t.wrong("it has no column %q, which a flag names", name)
		}
	}
	l := &learned{source: source{File: t.name}, leftOut: []leftOut{}}
	var columns []*column
	for i, name := range t.header {
		if slices.Contains(c.ignore, name) {
			l.leave(name, "-ignore")
			continue
		}
		col := &column{name: name, at: i, known: map[string]string{}}
		if slices.Contains(c.categorical, name) {
			col.noNumber = "-categorical"
		}
		columns = append(columns, col)
	}
	if err := fill(columns, t); err != nil {
		return nil, err
	}
	l.source.Rows = t.rows
	return l, l.fit(columns, t)
}

func fill(columns []*column, t *table) error {
	for {
		row, err := t.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if t.rows*len(columns) > t.format.values {
			return t.wrong("it has more than %d values: take a random share of the rows as the reference, or leave out columns", t.format.values)
		}
		for _, c := range columns {
			if !utf8.ValidString(row[c.at]) {
				return t.wrongCell(c.at, "%.40q is not UTF-8 text", row[c.at])
			}
			c.add(row[c.at], t)
		}
	}
}

func (c *column) add(s string, t *table) {
	if s != "" {
		c.present++
	}
	if c.noNumber == "" {
		x := math.NaN()
		ok := true
		if s != "" {
			x, ok = number(s)
		}
		if ok {
			c.numbers = append(c.numbers, x)
		} else {
			c.noNumber = fmt.Sprintf("%.40q in line %d is no number", s, t.line())
			c.numbers = nil
		}
	}
	if c.many {
		return
	}
	text, ok := c.known[s]
	if !ok && s != "" {
		// A cell is a part of its row, which would stay in memory with it.
		text = strings.Clone(s)
		c.known[text] = text
	}
	c.texts = append(c.texts, text)
	if len(c.known) > maxCategories {
		c.many, c.texts, c.known = true, nil, nil
	}
}

// fit decides what each column is.
func (l *learned) fit(columns []*column, t *table) error {
	if t.rows == 0 {
		return t.wrong("it has no rows")
	}
	var fitted []drift.Column
	for _, c := range columns {
		switch {
		case c.noNumber == "" && c.present > 0:
			fitted = append(fitted, drift.Numbers(c.name, c.numbers))
			l.source.Numeric = append(l.source.Numeric, c.name)
		case !c.many: // nothing but missing values is no number
			fitted = append(fitted, drift.Categories(c.name, c.texts))
			l.source.Categorical = append(l.source.Categorical, c.name)
		default:
			l.leave(c.name, fmt.Sprintf("%s, and more than %d different values are too many for categories", c.noNumber, maxCategories))
		}
	}
	if len(fitted) == 0 {
		return t.wrong("no column is left to compare")
	}
	var err error
	if l.reference, err = drift.Fit(fitted...); err != nil {
		return t.wrong("%w", err)
	}
	return nil
}

func (l *learned) leave(column, why string) { l.leftOut = append(l.leftOut, leftOut{column, why}) }

// bound says where the columns of the reference are in the current file.
type bound struct {
	*learned
	table *table
	at    map[string]int
}

func (l *learned) bind(t *table) (*bound, error) {
	b := &bound{learned: l, table: t, at: map[string]int{}}
	for _, name := range slices.Concat(l.source.Numeric, l.source.Categorical) {
		i := slices.Index(t.header, name)
		if i < 0 {
			return nil, t.wrong("it lacks the column %q of the reference; -ignore leaves it out", name)
		}
		b.at[name] = i
	}
	for _, name := range t.header {
		_, used := b.at[name]
		if !used && !slices.ContainsFunc(l.leftOut, func(o leftOut) bool { return o.Column == name }) {
			l.leave(name, "the reference lacks it")
		}
	}
	slices.SortFunc(l.leftOut, func(a, b leftOut) int { return cmp.Compare(a.Column, b.Column) })
	return b, nil
}

// observe returns the function that counts a row of the current file.
func (b *bound) observe(m *drift.Monitor) (func(row []string) error, error) {
	type number struct {
		*drift.Numeric
		at int
	}
	type category struct {
		*drift.Categorical
		at int
	}
	var numbers []number
	var categories []category
	for _, name := range b.source.Numeric {
		h, err := m.Numeric(name)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, number{h, b.at[name]})
	}
	for _, name := range b.source.Categorical {
		h, err := m.Categorical(name)
		if err != nil {
			return nil, err
		}
		categories = append(categories, category{h, b.at[name]})
	}
	return func(row []string) error {
		for _, n := range numbers {
			x, err := b.number(row, n.at)
			if err != nil {
				return err
			}
			n.Observe(x)
		}
		for _, c := range categories {
			if !utf8.ValidString(row[c.at]) {
				return b.table.wrongCell(c.at, "%.40q is not UTF-8 text", row[c.at])
			}
			c.Observe(row[c.at])
		}
		return nil
	}, nil
}

func (b *bound) number(row []string, at int) (float64, error) {
	if row[at] == "" {
		return math.NaN(), nil
	}
	x, ok := number(row[at])
	if !ok {
		return 0, b.table.wrongCell(at, "%.40q is no number, as those of the reference are; -missing makes it a missing value", row[at])
	}
	return x, nil
}
