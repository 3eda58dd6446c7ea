package saga

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type order struct {
	Steps []string
}

func act(name string) func(context.Context, Call, order) (string, error) {
	return func(context.Context, Call, order) (string, error) { return name, nil }
}

func noUndo(context.Context, Call, order, Outcome[string]) error { return nil }

func (o *order) add(s string) { o.Steps = append(o.Steps, s) }

func TestDefineRefuses(t *testing.T) {
	good := Undoable("a", act("a"), noUndo, (*order).add)
	pivot := Pivot("p", act("p"), (*order).add)
	cases := map[string]*Definition[order]{
		`name ""`:                                 Define("", 1, Before(good), nil),
		`name "a b"`:                              Define("a b", 1, Before(good), nil),
		"version 0":                               Define("d", 0, Before(good), nil),
		"there are no steps":                      Define[order]("d", 1, nil, nil),
		`two steps are named "a"`:                 Define("d", 1, Before(good, good), nil),
		`step name "x/y"`:                         Define("d", 1, Before(ReadOnly[order, string]("x/y", act(""), nil)), nil),
		"has no compensation":                     Define("d", 1, Before(Undoable[order, string]("a", act(""), nil, nil)), nil),
		"has no action":                           Define("d", 1, Before(ReadOnly[order, string]("a", nil, nil)), nil),
		"is a zero value":                         Define("d", 1, Before(Reversible[order]{}), pivot),
		"negative limit":                          Define("d", 1, Before(good.With(StepOptions{Attempts: -1})), nil),
		"steps after the pivot, and no":           Define("d", 1, Before(good), nil, Retriable("r", act(""), (*order).add)),
		"negative deadline":                       Define("d", 1, Before(good), nil).Deadline(-1),
		"one of one's own":                        Define("d", 1, Before(good), nil).WithErr(errors.New("one of one's own")),
		"step name \"" + strings.Repeat("n", 101): Define("d", 1, nil, Pivot(strings.Repeat("n", 101), act(""), (*order).add)),
	}
	for text, d := range cases {
		require.ErrorIs(t, d.Err(), ErrDefinition, text)
		require.ErrorContains(t, d.Err(), text)
		_, err := NewRunner(NewMemoryStore(), nil, d)
		require.ErrorIs(t, err, ErrDefinition, text)
	}
	d := Define("d", 1, Before(good), pivot)
	require.NoError(t, d.Err())
	require.NoError(t, d.WithErr(nil).Err())
	_, err := NewRunner(NewMemoryStore(), nil, d, Define("d", 1, Before(good), nil))
	require.ErrorContains(t, err, "given twice")
	_, err = NewRunner(NewMemoryStore(), nil, nil)
	require.ErrorIs(t, err, ErrDefinition)
	_, err = NewRunner(nil, nil, d)
	require.Error(t, err)
	_, err = NewRunner(NewMemoryStore(), &Options{Lease: -1}, d)
	require.Error(t, err)
}

func checkout() *Definition[order] {
	return Define("checkout", 3,
		Before(
			Undoable("reserve", act("reserve"), noUndo, (*order).add),
			ReadOnly("price", act("price"), (*order).add),
			Undoable("charge", act("charge"), noUndo, (*order).add),
		),
		Pivot("confirm", act("confirm"), (*order).add),
		Retriable("ship", act("ship"), (*order).add),
		Undoable("label", act("label"), noUndo, (*order).add).Forward(),
	)
}

func TestShape(t *testing.T) {
	require.JSONEq(t, `{"name":"checkout","version":3,"steps":[
		{"name":"reserve","kind":"undoable"},{"name":"price","kind":"read-only"},{"name":"charge","kind":"undoable"},
		{"name":"confirm","kind":"pivot"},{"name":"ship","kind":"retriable"},{"name":"label","kind":"retriable"}]}`,
		string(checkout().Shape()))
	require.Equal(t, checkout().Shape(), checkout().Deadline(time.Hour).Shape(), "a deadline is not a step")
}

//nolint:dupword // a diagram repeats its names
func TestDiagrams(t *testing.T) {
	d := checkout()
	require.Equal(t, `checkout version 3, o1: rolling back (step "confirm": no)
 1. undoable   reserve  active
 2. read-only  price    done
 3. undoable   charge   undone
 4. pivot      confirm  failed
 5. retriable  ship     waiting
 6. retriable  label    waiting
`, d.Text(&Info{ID: "o1", Status: RollingBack, Step: "reserve", Op: Compensation, Failed: "confirm", Err: `step "confirm": no`}))
	require.Equal(t, `flowchart LR
  s0["reserve"]:::done
  s1["price"]:::done
  s2["charge"]:::done
  s3{{"confirm"}}:::done
  s4["ship"]:::parked
  s5["label"]:::waiting
  s0 --> s1
  s1 --> s2
  s2 --> s3
  s3 --> s4
  s4 --> s5
  u0(["undo reserve"])
  s0 -.- u0
  u2(["undo charge"])
  s2 -.- u2
  u2 -.-> u0
  classDef done fill:#cfc
  classDef active fill:#ffc
  classDef undone fill:#ddd
  classDef failed fill:#fcc
  classDef parked fill:#fcc
  classDef waiting fill:#fff
`, d.Mermaid(&Info{Status: Parked, Step: "ship", Op: Action, PastPivot: true}))
	require.NotContains(t, d.Mermaid(nil), ":::")
	require.NotContains(t, d.Text(nil), "waiting")
}

func TestEnumsAsText(t *testing.T) {
	for s := Running; s <= Parked; s++ {
		text, err := json.Marshal(s)
		require.NoError(t, err)
		var back Status
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, s, back)
	}
	require.Equal(t, "rolling back", RollingBack.String())
	require.Equal(t, "Status(9)", Status(9).String())
	require.Equal(t, "Op(0)", Op(0).String())
	require.Error(t, new(Status).UnmarshalText([]byte("fine")))
	_, err := json.Marshal(Op(7))
	require.Error(t, err)
}

func TestKeys(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range []string{"a", "b"} {
		for _, id := range []string{"1", "1/x"} {
			for _, step := range []string{"s", "t", "undo"} {
				for _, op := range []Op{Action, Compensation} {
					k := keyOf(d, id, step, op)
					require.NoError(t, k.Validate())
					require.False(t, seen[k.String()], "two effects with key %s", k)
					seen[k.String()] = true
				}
			}
		}
	}
}
