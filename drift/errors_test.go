package drift

import (
	"errors"
	"testing"
)

// An error says which feature and which row, where there is one; the first row is row 0.
func TestErrorSaysWhere(t *testing.T) {
	cause := errors.New("cause")
	for want, err := range map[string]error{
		`drift: cause`:                        errorf("%w", cause),
		`drift: feature "x": cause`:           featureError("x", cause),
		`drift: feature "a\nb": row 0: cause`: &Error{Feature: "a\nb", Row: 0, Err: cause},
		`drift: row 17: cause`:                &Error{Row: 17, Err: cause},
	} {
		if err.Error() != want || !errors.Is(err, cause) {
			t.Errorf("%q, want %q", err, want)
		}
	}
}
