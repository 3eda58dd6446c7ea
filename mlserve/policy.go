package mlserve

import (
	"slices"
	"strings"
)

// Latest picks the n newest versions, the newest first. Versions are ordered
// by name, digits in it as numbers, so that "10" follows "9" and "v1.10"
// follows "v1.9", whatever the clock of whoever wrote them; names that are
// hashes have no such order, use [Alias] with them. n below 1 counts as 1.
func Latest(n int) Policy {
	return func(vs []Version) []Version {
		vs = newestFirst(vs)
		return vs[:min(max(n, 1), len(vs))]
	}
}

// Only picks these versions where they exist, in this order.
func Only(versions ...string) Policy {
	return func(vs []Version) []Version {
		return inOrder(versions, vs, func(v Version, name string) bool { return v.Version == name })
	}
}

// All picks every version, the newest first; see [Latest] for the order.
func All() Policy { return newestFirst }

// Alias picks the versions that these aliases point at, in this order; an
// alias that is not set is passed over, a version is picked once.
func Alias(aliases ...string) Policy {
	return func(vs []Version) []Version {
		return inOrder(aliases, vs, func(v Version, name string) bool { return slices.Contains(v.Aliases, name) })
	}
}

func inOrder(names []string, vs []Version, match func(Version, string) bool) []Version {
	var out []Version
	for _, name := range names {
		for _, v := range vs {
			if match(v, name) && !slices.ContainsFunc(out, func(o Version) bool { return o.Version == v.Version }) {
				out = append(out, v)
			}
		}
	}
	return out
}

func newestFirst(vs []Version) []Version {
	vs = slices.Clone(vs)
	slices.SortStableFunc(vs, func(a, b Version) int { return natural(b.Version, a.Version) })
	return vs
}

// natural compares names with runs of digits as numbers.
func natural(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		dx, dy := digits(x), digits(y)
		if dx == 0 || dy == 0 {
			if x[0] != y[0] {
				return int(x[0]) - int(y[0])
			}
			x, y = x[1:], y[1:]
			continue
		}
		nx, ny := strings.TrimLeft(x[:dx], "0"), strings.TrimLeft(y[:dy], "0")
		if len(nx) != len(ny) {
			return len(nx) - len(ny)
		}
		if c := strings.Compare(nx, ny); c != 0 {
			return c
		}
		x, y = x[dx:], y[dy:]
	}
	if len(x) != len(y) {
		return len(x) - len(y)
	}
	return strings.Compare(a, b) // "01" and "1" are equal numbers, but two names
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}
