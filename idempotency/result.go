package idempotency

import (
	"encoding/json"
	"errors"
	"fmt"
)

// A stored result begins with the version of its format and its kind. An empty
// one means done, with nothing to give back.
const formatVersion = 1

type kind byte

const (
	kindValue    kind = 'v' // JSON of what the function returned
	kindResponse kind = 'h' // an HTTP response, see response
	kindTooLarge kind = 'l' // done, with a result above the limit
	kindUnkept   kind = 'x' // done, and why there is no result, as text
)

func (k kind) String() string {
	switch k {
	case kindValue:
		return "a value"
	case kindResponse:
		return "an HTTP response"
	case kindTooLarge, kindUnkept:
		return "no result"
	}
	return fmt.Sprintf("kind %q", byte(k))
}

func seal(k kind, body []byte) []byte {
	sealed := make([]byte, 0, 2+len(body))
	return append(append(sealed, formatVersion, byte(k)), body...)
}

// unseal returns the body of a stored result of the kind that is wanted, and an
// error that says what is there instead.
func unseal(want kind, stored []byte) ([]byte, error) {
	if len(stored) < 2 {
		return nil, errors.New("the key was completed without a result: by a message handler?")
	}
	version, got, body := stored[0], kind(stored[1]), stored[2:]
	switch {
	case version != formatVersion:
		return nil, fmt.Errorf("the result has format version %d, known is %d: a newer version of this package stored it", version, formatVersion)
	case got == kindTooLarge:
		return nil, ErrTooLarge
	case got == kindUnkept:
		return nil, fmt.Errorf("the result was not kept: %s", body)
	case got != want:
		return nil, fmt.Errorf("the key holds %v, not %v: two kinds of work share it", got, want)
	}
	return body, nil
}

// encodeValue returns what to store for v, also where v has no JSON form.
func encodeValue[T any](v T) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return seal(kindUnkept, []byte(err.Error())), err
	}
	return seal(kindValue, body), nil
}

func decodeValue[T any](stored []byte) (v T, err error) {
	body, err := unseal(kindValue, stored)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(body, &v); err != nil {
		var zero T
		return zero, fmt.Errorf("the stored value is no %T: %w", v, err)
	}
	return v, nil
}
