package shop

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	maxBytes       = 4 << 30 // of a data file, unpacked
	maxPurchases   = 5_000_000
	replayHistory  = 20_000 // purchases before the first visit
	linesPerVisit  = 2
	countriesApart = 9 // the rest share a segment
	shelvesApart   = 24
)

// columns of the UCI Online Retail data set, in its order.
var columns = []string{"InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"}

// Lines says what became of the lines of a data file.
type Lines struct {
	Read    int            `json:"read"` // data lines, without the header
	Used    int            `json:"used"` // history and replay so far
	Skipped map[string]int `json:"skipped"`
}

// String gives the lines and the reasons, most frequent first.
func (l Lines) String() string {
	reasons := make([]string, 0, len(l.Skipped))
	for r := range l.Skipped {
		reasons = append(reasons, r)
	}
	sort.Slice(reasons, func(i, j int) bool {
		if l.Skipped[reasons[i]] != l.Skipped[reasons[j]] {
			return l.Skipped[reasons[i]] > l.Skipped[reasons[j]]
		}
		return reasons[i] < reasons[j]
	})
	skipped := 0
	parts := make([]string, len(reasons))
	for i, r := range reasons {
		skipped += l.Skipped[r]
		parts[i] = fmt.Sprintf("%s %d", r, l.Skipped[r])
	}
	return fmt.Sprintf("%d lines: %d used, %d skipped (%s)", l.Read, l.Used, skipped, strings.Join(parts, ", "))
}

// Replay is a real shop's invoices, played again.
type Replay struct {
	customers []Customer
	items     []Item
	purchases []Purchase
	history   int // how many of purchases
	next      int
	lines     Lines
}

// OpenReplay reads a file of the UCI Online Retail data set, plain or gzip.
// Lines that are no sale to a known customer are skipped and counted; a file
// that has other columns, or no sales, is an error.
func OpenReplay(path string) (*Replay, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<20)
	var source io.Reader = in
	if magic, err := in.Peek(2); err == nil && bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		defer z.Close()
		source = z
	}
	r, err := readReplay(io.LimitReader(source, maxBytes))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func readReplay(in io.Reader) (*Replay, error) {
	rows := csv.NewReader(in)
	rows.ReuseRecord = true
	rows.FieldsPerRecord = -1
	header, err := rows.Read()
	if err != nil {
		return nil, fmt.Errorf("no header line: %w", err)
	}
	header[0] = strings.TrimPrefix(header[0], "\ufeff")
	if !slices.Equal(header, columns) {
		return nil, fmt.Errorf("the columns are %.80q, not those of the Online Retail data set (%s)",
			strings.Join(header, ","), strings.Join(columns, ","))
	}
	b := newReplayBuilder()
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if _, ok := errors.AsType[*csv.ParseError](err); ok {
			b.lines.Read++
			b.lines.Skipped["malformed"]++
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("after %d lines: %w", b.lines.Read, err)
		}
		b.lines.Read++
		if reason := b.add(row); reason != "" {
			b.lines.Skipped[reason]++
		}
	}
	return b.replay()
}

// replayBuilder collects sales.
type replayBuilder struct {
	lines     Lines
	purchases []Purchase
	customers map[string]string // id to country
	items     map[string]*itemSum
	countries map[string]int
	shelves   map[string]int
	invoice   string
	basket    float64
	depth     int
	seen      map[string]bool // lines of the invoice, to notice repeats
}

type itemSum struct {
	id    string
	price float64
	sold  int
}

func newReplayBuilder() *replayBuilder {
	return &replayBuilder{
		lines: Lines{Skipped: map[string]int{}}, customers: map[string]string{}, items: map[string]*itemSum{},
		countries: map[string]int{}, shelves: map[string]int{}, seen: map[string]bool{},
	}
}

// add takes one line, or says why not.
func (b *replayBuilder) add(row []string) string {
	if len(row) != len(columns) {
		return "malformed"
	}
	invoice, code, customer := row[0], row[1], row[6]
	quantity, err1 := strconv.Atoi(row[3])
	when, err2 := time.ParseInLocation(time.DateTime, row[4], time.UTC)
	price, err3 := strconv.ParseFloat(row[5], 64)
	switch {
	case err1 != nil || err2 != nil || err3 != nil || invoice == "" || len(code) < 2 || len(code) > 32 || len(customer) > 32:
		return "malformed"
	case invoice[0] == 'C':
		return "cancellation"
	case invoice[0] == 'A':
		return "adjustment"
	case code[0] < '0' || code[0] > '9':
		return "service, not an item"
	case quantity <= 0:
		return "no quantity"
	case !(price > 0): // also NaN
		return "no price"
	case customer == "":
		return "no customer"
	case len(b.purchases) > 0 && when.Before(b.purchases[len(b.purchases)-1].Time):
		return "out of order"
	case len(b.purchases) == maxPurchases:
		return "beyond the limit"
	}
	if invoice != b.invoice {
		b.invoice, b.basket, b.depth = strings.Clone(invoice), 0, 0
		clear(b.seen)
	}
	line := code + "\x00" + row[3] + "\x00" + row[5]
	if b.seen[line] {
		return "repeated in its invoice"
	}
	b.seen[line] = true
	b.sell(customer, row[7], code, quantity, price, when)
	return ""
}

func (b *replayBuilder) sell(customer, country, code string, quantity int, price float64, when time.Time) {
	item, ok := b.items[code]
	if !ok {
		item = &itemSum{id: strings.Clone(code)}
		b.items[item.id] = item
	}
	item.price, item.sold = price, item.sold+1
	if _, ok := b.customers[customer]; !ok {
		country = strings.Clone(country)
		b.customers[strings.Clone(customer)] = country
		b.countries[country]++
	}
	b.shelves[item.id[:2]]++
	b.depth++
	b.purchases = append(b.purchases, Purchase{
		Seq: len(b.purchases), Customer: strings.Clone(customer), Item: item.id, Quantity: quantity, Price: price,
		Basket: b.basket, Depth: b.depth, Time: when,
	})
	b.basket += float64(quantity) * price
}

func (b *replayBuilder) replay() (*Replay, error) {
	if len(b.purchases) == 0 {
		return nil, fmt.Errorf("holds no sale to a known customer: %s", b.lines)
	}
	r := &Replay{purchases: b.purchases, lines: b.lines}
	r.history = min(replayHistory, len(b.purchases)/2)
	r.next, r.lines.Used = r.history, r.history
	countries, shelves := numbered(b.countries, countriesApart), numbered(b.shelves, shelvesApart)
	for id, country := range b.customers {
		r.customers = append(r.customers, Customer{ID: id, Segment: countries[country]})
	}
	for _, item := range b.items {
		r.items = append(r.items, Item{ID: item.id, Shelf: shelves[item.id[:2]], Price: item.price})
	}
	sort.Slice(r.customers, func(i, j int) bool { return r.customers[i].ID < r.customers[j].ID })
	sort.Slice(r.items, func(i, j int) bool { return r.items[i].ID < r.items[j].ID })
	return r, nil
}

// numbered gives the most frequent names the numbers 0 to apart-1 and the rest apart.
func numbered(counts map[string]int, apart int) map[string]int64 {
	names := make([]string, 0, len(counts))
	for name := range counts {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		if counts[names[i]] != counts[names[j]] {
			return counts[names[i]] > counts[names[j]]
		}
		return names[i] < names[j]
	})
	numbers := make(map[string]int64, len(names))
	for i, name := range names {
		numbers[name] = int64(min(i, apart))
	}
	return numbers
}

// Customers implements Shop.
func (r *Replay) Customers() []Customer { return r.customers }

// Items implements Shop; prices are the last of the file.
func (r *Replay) Items() []Item { return r.items }

// History implements Shop: the first sales of the file, at most 20,000 and at
// most half.
func (r *Replay) History() []Purchase { return r.purchases[:r.history] }

// Next implements Shop: a visit for every two lines of an invoice.
func (r *Replay) Next() (Visit, []Purchase, bool) {
	if r.next == len(r.purchases) {
		return Visit{}, nil, false
	}
	first := r.purchases[r.next]
	end := r.next + 1
	for end < len(r.purchases) && end < r.next+linesPerVisit &&
		r.purchases[end].Customer == first.Customer && r.purchases[end].Time.Equal(first.Time) {
		end++
	}
	bought := r.purchases[r.next:end]
	r.lines.Used += len(bought)
	r.next = end
	return first.Visit(), bought, true
}

// Shift implements Shop: a real shop shifts by itself.
func (r *Replay) Shift() {}

// Shifted implements Shop: nobody knows.
func (r *Replay) Shifted() []string { return nil }

// Lines says what became of the file's lines; those not reached yet are
// counted as such. It must not be called beside Next.
func (r *Replay) Lines() Lines {
	l := Lines{Read: r.lines.Read, Used: r.lines.Used, Skipped: map[string]int{}}
	maps.Copy(l.Skipped, r.lines.Skipped)
	if rest := len(r.purchases) - r.next; rest > 0 {
		l.Skipped["not reached in the time given"] = rest
	}
	return l
}
