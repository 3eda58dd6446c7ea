package idempotency

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
)

// MaxKeyBytes is the longest Scope and the longest ID of a [Key], in bytes.
const MaxKeyBytes = 512

// Key names one effect. Scope and ID are its identity; neither may be empty.
// A Key is a plain value, comparable and safe to copy.
type Key struct {
	// Scope says what the ID identifies and for whom: "charge", or
	// "http/tenant-7". Keys of different scopes never meet, so a scope must
	// hold everything that keeps one client's IDs apart from another's. A
	// slash separates its parts, and [Key.Child] appends to it. At most
	// MaxKeyBytes.
	Scope string
	// ID is what stays the same when the request comes again: an order number,
	// a message ID, a client's idempotency key. Any bytes, at most MaxKeyBytes.
	ID string
	// Fingerprint is a digest of what was asked for, see [Sum]. It is not part
	// of the identity. The first one a key is taken with stays with it, and a
	// claim with another is refused ([Mismatch]), so that a key used for two
	// different requests is noticed. The zero Fingerprint is not compared.
	Fingerprint Fingerprint
}

// Child returns the key of one effect among several that a request has:
// key.Child("charge"), key.Child("receipt"). Children of different keys differ,
// and so do children of different names. The child keeps the fingerprint.
func (k Key) Child(name string) Key {
	k.Scope += "/" + escape(name, false)
	return k
}

// String returns Scope and ID as one string of printable ASCII, to send to
// another system as its idempotency key or to write in a log. Different
// identities have different strings: the scope, a slash, and the ID, with
// everything escaped as %XX that is not a letter, a digit or one of -._~ (and,
// in the scope, the slash).
func (k Key) String() string {
	return escape(k.Scope, true) + "/" + escape(k.ID, false)
}

// Validate returns nil, or an error that matches [ErrKey] and says what is
// wrong with the key. Stores and guards call it; callers seldom need to.
func (k Key) Validate() error {
	switch {
	case k.Scope == "":
		return fmt.Errorf("%w: empty Scope", ErrKey)
	case k.ID == "":
		return fmt.Errorf("%w: empty ID", ErrKey)
	case len(k.Scope) > MaxKeyBytes:
		return fmt.Errorf("%w: Scope has %d bytes, the limit is %d", ErrKey, len(k.Scope), MaxKeyBytes)
	case len(k.ID) > MaxKeyBytes:
		return fmt.Errorf("%w: ID has %d bytes, the limit is %d; use a digest of it", ErrKey, len(k.ID), MaxKeyBytes)
	}
	return nil
}

// Fingerprint is a SHA-256 digest of a request; see [Sum]. The zero value means
// that none was taken.
type Fingerprint [sha256.Size]byte

// Sum returns the fingerprint of the parts in their order. Parts cannot run
// into each other: Sum("ab", "c") and Sum("a", "bc") differ. The parts are not
// modified.
func Sum(parts ...[]byte) Fingerprint {
	h := sha256.New()
	var size [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		h.Write(size[:])
		h.Write(p)
	}
	return Fingerprint(h.Sum(nil))
}

// IsZero reports whether no fingerprint was taken.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

const hexDigits = "0123456789ABCDEF"

// escape is percent-encoding with the fewest plain characters, so that the
// result is plain in URLs, headers and Redis hash tags.
func escape(s string, slash bool) string {
	plain := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '-' || c == '.' || c == '_' || c == '~' || slash && c == '/'
	}
	n := 0
	for i := range len(s) {
		if !plain(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 2*n)
	for i := range len(s) {
		if c := s[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}
