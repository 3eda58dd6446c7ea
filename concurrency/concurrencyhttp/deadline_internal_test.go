package concurrencyhttp

import (
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestTimeoutFormat(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1:                                       "1n",
		95 * time.Millisecond:                   "95000000n",
		100 * time.Millisecond:                  "100000u",
		100*time.Millisecond + 999:              "100000u",
		99*time.Second + 999_999_999:            "99999999u",
		100 * time.Second:                       "100000m",
		28 * time.Hour:                          "100800S",
		time.Duration(math.MaxInt64):            "2562047H",
		100_000_000*time.Second - 1:             "99999999S",
		100_000_000 * time.Second:               "1666666M",
		99_999_999*time.Minute + 59*time.Second: "99999999M",
	} {
		if got := formatTimeout(d); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
}

func TestTimeoutParse(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"1n": 1, "0m": 0, "007S": 7 * time.Second, "2M": 2 * time.Minute, "3H": 3 * time.Hour,
		"99999999u": 99_999_999 * time.Microsecond, "99999999H": math.MaxInt64,
	} {
		if got, err := parseTimeout(s); got != want || err != nil {
			t.Errorf("%q is read as %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "5", "m", "5s", "5 m", " 5m", "5m ", "-5m", "+5m", "1.5S", "1e3m", "123456789m", "5mm", "٣m", "5µ"} {
		if got, err := parseTimeout(s); err == nil {
			t.Errorf("%q is read as %v", s, got)
		}
	}
}

func FuzzTimeout(f *testing.F) {
	for _, s := range []string{"1n", "99999999H", "0m", "12", "-1S", "123456789m", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseTimeout(s)
		if err != nil {
			if d != 0 || !strings.HasPrefix(err.Error(), "concurrencyhttp: ") || len(err.Error()) > 250 {
				t.Errorf("%q: %v, %v", s, d, err)
			}
			return
		}
		if d < 0 || len(s) > 9 {
			t.Fatalf("%q is read as %v", s, d)
		}
		if d == 0 {
			return
		}
		// Written again it is never longer, and shorter by less than the unit
		// that eight digits leave.
		again, err := parseTimeout(formatTimeout(d))
		if err != nil || again > d || float64(again) < float64(d)*0.999 {
			t.Errorf("%q is %v, written %q, read %v, %v", s, d, formatTimeout(d), again, err)
		}
	})
}

func TestDeadlineHandler(t *testing.T) {
	for header, want := range map[string]int{
		"": http.StatusOK, "5S": http.StatusOK,
		"soon": http.StatusBadRequest, "123456789S": http.StatusBadRequest, "-1S": http.StatusBadRequest,
		"0n": http.StatusGatewayTimeout,
	} {
		called, limited := false, false
		h := Deadline(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			called = true
			_, limited = r.Context().Deadline()
		}))
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		if header != "" {
			r.Header.Set(timeoutHeader, header)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want || called != (want == http.StatusOK) || limited != (header == "5S") {
			t.Errorf("%q: status %d, called %v, deadline %v", header, w.Code, called, limited)
		}
	}
}
