package idempotency

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestKeyString(t *testing.T) {
	for want, k := range map[string]Key{
		"charge/order-17":     {Scope: "charge", ID: "order-17"},
		"http/acme/a%2Fb":     {Scope: "http/acme", ID: "a/b"},
		"http%20x/%7Ba%7D%25": {Scope: "http x", ID: "{a}%"},
		"s/%C3%A9%0A%00":      {Scope: "s", ID: "é\n\x00"},
		"a~b_c.d-e/~_.-":      {Scope: "a~b_c.d-e", ID: "~_.-"},
		"/":                   {},
	} {
		require.Equal(t, want, k.String())
	}
}

func TestChild(t *testing.T) {
	k := Key{Scope: "http/acme", ID: "k-1", Fingerprint: Sum([]byte("body"))}
	require.Equal(t, Key{Scope: "http/acme/transfer", ID: "k-1", Fingerprint: k.Fingerprint}, k.Child("transfer"))
	require.Equal(t, "http/acme/a%2Fb", k.Child("a/b").Scope, "a name cannot pass for two")
	require.ErrorIs(t, Key{}.Child("transfer").Validate(), ErrKey)
}

func genKey(t *rapid.T, label string) Key {
	part := rapid.StringOfN(rapid.SampledFrom([]rune("ab/%2F{} é\x00")), 1, 6, -1)
	return Key{Scope: part.Draw(t, label+" scope"), ID: part.Draw(t, label+" id")}
}

// Two keys have one string, one digest and one family of children if, and only
// if, they are the same key.
func TestKeysAreApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genKey(t, "a"), genKey(t, "b")
		same := a == b
		require.Equal(t, same, a.String() == b.String())
		require.Equal(t, same, identify(a) == identify(b))
		for _, c := range a.String() {
			require.True(t, c > ' ' && c <= '~' && c != '{' && c != '}', "%q is not plain", a.String())
		}
		name := rapid.StringOfN(rapid.SampledFrom([]rune("ab/%2F")), 0, 4, -1)
		m, n := name.Draw(t, "m"), name.Draw(t, "n")
		require.Equal(t, m == n, a.Child(m) == a.Child(n))
		require.Equal(t, same, a.Child(m) == b.Child(m))
		require.NotEqual(t, a, a.Child(m))
	})
}

func TestValidate(t *testing.T) {
	full := strings.Repeat("x", MaxKeyBytes)
	require.NoError(t, Key{Scope: full, ID: full}.Validate())
	for text, k := range map[string]Key{
		"empty Scope":                      {ID: "a"},
		"empty ID":                         {Scope: "a"},
		"Scope has 513 bytes, the limit":   {Scope: full + "x", ID: "a"},
		"ID has 513 bytes, the limit is 5": {Scope: "a", ID: full + "x"},
	} {
		err := k.Validate()
		require.ErrorIs(t, err, ErrKey)
		require.ErrorContains(t, err, text)
	}
}

func TestSum(t *testing.T) {
	parts := func(s ...string) (out [][]byte) {
		for _, p := range s {
			out = append(out, []byte(p))
		}
		return out
	}
	all := [][]string{nil, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"b", "a"}, {"ab", ""}, {"", "ab"}, {"\x00ab"}}
	seen := map[Fingerprint][]string{}
	for _, p := range all {
		f := Sum(parts(p...)...)
		require.False(t, f.IsZero())
		require.Nil(t, seen[f], "%q and %q have one fingerprint", seen[f], p)
		seen[f] = p
		require.Equal(t, f, Sum(parts(p...)...))
	}
	// Pinned, as fingerprints are stored: printf '\0\0\0\0\0\0\0\1a' | sha256sum
	require.Equal(t, "3b196fd4907bedf51c3090e9835f2f7cb61e7ee1b2299ea3b8fed9b4183a822a", fmt.Sprintf("%x", Sum([]byte("a"))))
	require.True(t, Fingerprint{}.IsZero())
}
