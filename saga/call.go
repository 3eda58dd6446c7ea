package saga

import (
	"errors"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/idempotency"
)

// Op says which of a step's two functions is meant.
type Op int

const (
	// Action is the step itself.
	Action Op = iota + 1
	// Compensation is what undoes it.
	Compensation
)

var opNames = []string{"", "action", "compensation"}

// String returns "action" or "compensation", and "Op(n)" for anything else.
func (o Op) String() string { return enumName("Op", opNames, int(o)) }

// MarshalText returns what String returns; the zero Op is empty.
func (o Op) MarshalText() ([]byte, error) { return marshalEnum("Op", opNames, int(o)) }

// UnmarshalText reads what MarshalText wrote and refuses anything else.
func (o *Op) UnmarshalText(text []byte) error {
	n, err := unmarshalEnum("Op", opNames, text)
	*o = Op(n)
	return err
}

// Call tells an action or a compensation who calls it.
type Call struct {
	// Saga is the ID the saga was started with.
	Saga string
	// Step is the name of the step.
	Step string
	// Op says whether this is the action or the compensation.
	Op Op
	// Key names this effect: the same for every attempt, before and after a
	// crash, and another for every saga, step and Op. It is what a far side
	// should take as its idempotency key (Key.String()).
	Key idempotency.Key
	// Attempt is 1 for the first call and one more after each failure. A call
	// after [Ongoing] is the same attempt. It starts again when another runner
	// takes over.
	Attempt int
	// Fence goes up whenever another runner takes the saga over. A far side
	// that remembers the highest one it saw can refuse a runner that has been
	// replaced without knowing it.
	Fence int64
}

// keyOf is the stable key of an effect.
func keyOf(definition, saga, step string, op Op) idempotency.Key {
	k := idempotency.Key{Scope: "saga/" + definition, ID: saga}.Child(step)
	if op == Compensation {
		return k.Child("undo")
	}
	return k
}

// Outcome is what a compensation knows about the action it undoes.
type Outcome[O any] struct {
	// Value is what the action returned; the zero O if not Known.
	Value O
	// Known is true if the action returned without error and that was
	// recorded. If false, the action may have run, in whole, in part or not at
	// all, and the compensation has to find out: by Call.Saga, by the state, or
	// by asking the far side.
	Known bool
}

// Reject returns an error that says: definitely no effect, and none to come. The
// saga undoes the steps before this one, without repeating it. After the pivot
// nothing can be undone, so a rejected [Retriable] step is parked; so is a
// rejected compensation. A nil err is replaced by one that says "rejected".
func Reject(err error) error {
	if err == nil {
		err = errors.New("rejected")
	}
	return &rejection{err}
}

type rejection struct{ err error }

func (r *rejection) Error() string { return r.err.Error() }
func (r *rejection) Unwrap() error { return r.err }

// Ongoing returns an error that says: neither done nor failed, ask again after
// d. It is not a failure and has no limit; a saga's Deadline still ends it
// before the pivot. A d of zero or less is one second.
func Ongoing(d time.Duration) error {
	if d <= 0 {
		d = time.Second
	}
	return &ongoing{d}
}

type ongoing struct{ after time.Duration }

func (o *ongoing) Error() string { return fmt.Sprintf("ongoing, ask again after %v", o.after) }

func enumName(kind string, names []string, n int) string {
	if n > 0 && n < len(names) {
		return names[n]
	}
	return fmt.Sprintf("%s(%d)", kind, n)
}

func marshalEnum(kind string, names []string, n int) ([]byte, error) {
	if n < 0 || n >= len(names) {
		return nil, fmt.Errorf("saga: there is no %s %d", kind, n)
	}
	return []byte(names[n]), nil
}

func unmarshalEnum(kind string, names []string, text []byte) (int, error) {
	for i, name := range names {
		if name == string(text) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("saga: there is no %s %q", kind, text)
}
