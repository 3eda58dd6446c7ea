package shop

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"

const lines = header +
	`536365,85123A,"HEART, WHITE",6,2010-12-01 08:26:00,2.55,17850,United Kingdom
536365,71053,LANTERN,6,2010-12-01 08:26:00,3.39,17850,United Kingdom
536365,71053,LANTERN,6,2010-12-01 08:26:00,3.39,17850,United Kingdom
C536379,22423,STAND,-1,2010-12-01 09:41:00,12.75,14527,United Kingdom
536370,POST,POSTAGE,3,2010-12-01 09:45:00,18,12583,France
536370,22728,CLOCK,24,2010-12-01 09:45:00,3.75,12583,France
A563185,22139,Adjust bad debt,1,2010-12-01 09:50:00,11062.06,,United Kingdom
536414,22139,,56,2010-12-01 11:52:00,0,,United Kingdom
536415,22139,POT,5,2010-12-01 11:53:00,1.25,,United Kingdom
536416,22139,POT,x,2010-12-01 11:53:00,1.25,12345,United Kingdom
536417,22139
536418,22139,POT,5,2010-12-01 08:00:00,1.25,12345,United Kingdom
536419,22139,POT,-5,2010-12-01 12:00:00,1.25,12345,United Kingdom
536420,22139,POT,5,2010-12-01 12:00:00,1.25,12345,Norway
`

func TestReplayUsesSalesAndCountsTheRest(t *testing.T) {
	r, err := readReplay(strings.NewReader(lines))
	require.NoError(t, err)
	require.Len(t, r.Customers(), 3)
	require.Len(t, r.Items(), 4)
	require.Len(t, r.History(), 2)
	require.Equal(t, "17850", r.History()[0].Customer)
	require.Zero(t, r.History()[0].Basket)
	require.InDelta(t, 6*2.55, r.History()[1].Basket, 1e-9, "the basket holds the invoice's earlier lines")

	visit, bought, ok := r.Next()
	require.True(t, ok)
	require.Equal(t, Visit{Customer: "12583", Basket: 0, Depth: 1, Time: time.Date(2010, 12, 1, 9, 45, 0, 0, time.UTC)}, visit)
	require.Len(t, bought, 1)
	require.Equal(t, "22728", bought[0].Item)
	require.Equal(t, Lines{Read: 14, Used: 3, Skipped: map[string]int{
		"repeated in its invoice": 1, "cancellation": 1, "service, not an item": 1, "adjustment": 1, "no price": 1,
		"no customer": 1, "malformed": 2, "out of order": 1, "no quantity": 1, "not reached in the time given": 1,
	}}, r.Lines())
	total := r.Lines().Used
	for _, n := range r.Lines().Skipped {
		total += n
	}
	require.Equal(t, r.Lines().Read, total, "every line is accounted for")

	_, _, ok = r.Next()
	require.True(t, ok)
	_, _, ok = r.Next()
	require.False(t, ok)
}

func TestReplayReadsGzip(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write([]byte(lines))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	path := filepath.Join(t.TempDir(), "retail.csv.gz")
	require.NoError(t, os.WriteFile(path, packed.Bytes(), 0o600))
	r, err := OpenReplay(path)
	require.NoError(t, err)
	require.Equal(t, 14, r.Lines().Read)
}

func TestReplayRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"empty":         {"", "no header line"},
		"other columns": {"a,b,c\n1,2,3\n", `the columns are "a,b,c"`},
		"no sales":      {header + "C1,22423,S,-1,2010-12-01 09:41:00,1,1,UK\n", "no sale to a known customer: 1 lines: 0 used, 1 skipped (cancellation 1)"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readReplay(strings.NewReader(c.text))
			require.ErrorContains(t, err, c.says)
		})
	}
	_, err := OpenReplay(filepath.Join(t.TempDir(), "absent.csv"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func FuzzReplay(f *testing.F) {
	f.Add(lines)
	f.Add(header)
	f.Add(header + "1,11,\"x,1,2010-12-01 09:41:00,1,1,UK\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := readReplay(strings.NewReader(text))
		if err != nil {
			return
		}
		used := r.Lines().Used
		for {
			_, bought, ok := r.Next()
			if !ok {
				break
			}
			if len(bought) == 0 {
				t.Fatal("a visit of a replay without a purchase")
			}
			used += len(bought)
		}
		if used != r.Lines().Used {
			t.Fatalf("%d purchases came, %d were counted", used, r.Lines().Used)
		}
	})
}
