package mlserve

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// Traffic says which versions answer. The zero value sends everything to the
// primary, the first version of the [Policy].
//
// A key is assigned by hash(salt, key) to one of 10,000 buckets, and buckets
// are dealt to arms by weight, so that a weight counts in steps of 0.01 %. All
// replicas agree. With two arms, raising the weight of the second only moves
// keys from the first to it, and no key twice. With k arms after the first the
// same holds for each as long as its share is at most 1/k; beyond that some
// keys move between them.
type Traffic struct {
	// Arms share the traffic by weight. The first is the control: what others
	// are compared with and where their keys come from. Empty: the primary.
	Arms []Arm
	// Shadow versions get a copy of every routed request; their answers are
	// thrown away, their errors and latencies measured.
	Shadow []string
	// Salt of the assignment; "" means the model's name. Another salt deals
	// all keys anew.
	Salt string
	// Judge is told the outcome of every routed request; nil: none.
	Judge Judge
}

// Arm is one share of the traffic.
type Arm struct {
	Name    string  // unique in its Traffic; "" means Version
	Version string  // must be loaded; "" means the primary, whichever it is
	Weight  float64 // relative to the sum of weights; not negative
}

const (
	bucketCount = 10_000
	maxArms     = 64
	primaryArm  = "primary" // what the only arm is called without a split
	shadowArm   = "shadow"
)

// Split sets the traffic of a model, at once and as a whole. Every version
// named must be loaded ([ErrNotFound]; see Load). Versions that neither t, nor
// the Policy names are drained and closed, the last of their users doing so,
// versions from Load among them. Split(model, Traffic{}) ends a split. t is
// copied; its Judge is shared.
func (s *Server) Split(model string, t Traffic) error {
	e, err := s.find("split", model)
	if err != nil {
		return err
	}
	t = t.clone()
	for i := range t.Arms {
		if a := &t.Arms[i]; a.Name == "" {
			a.Name = a.Version
			if a.Name == "" {
				a.Name = primaryArm
			}
		}
	}
	dropped, err := e.publish(change{traffic: &t})
	for _, i := range dropped {
		i.retire(0)
	}
	return fail("split", model, "", err)
}

// Traffic returns a copy of the model's traffic; its Judge is shared.
func (s *Server) Traffic(model string) Traffic {
	e, ok := s.entry(model)
	if !ok {
		return Traffic{}
	}
	return e.state.Load().traffic.clone()
}

func (t Traffic) clone() Traffic {
	t.Arms, t.Shadow = slices.Clone(t.Arms), slices.Clone(t.Shadow)
	return t
}

func (t *Traffic) names(version string) bool {
	return slices.Contains(t.Shadow, version) || slices.ContainsFunc(t.Arms, func(a Arm) bool { return a.Version == version })
}

func (t *Traffic) check(st *state) error {
	if len(t.Arms) > maxArms {
		return fmt.Errorf("%w: %d arms; at most %d", ErrInput, len(t.Arms), maxArms)
	}
	sum, seen := 0.0, map[string]bool{}
	for _, a := range t.Arms {
		if seen[a.Name] {
			return fmt.Errorf("%w: two arms are called %q", ErrInput, a.Name)
		}
		seen[a.Name] = true
		if a.Weight < 0 || math.IsNaN(a.Weight) || math.IsInf(a.Weight, 0) {
			return fmt.Errorf("%w: arm %q has weight %v", ErrInput, a.Name, a.Weight)
		}
		sum += a.Weight
	}
	if len(t.Arms) > 0 && (sum <= 0 || math.IsInf(sum, 0)) {
		return fmt.Errorf("%w: the weights of the arms sum to %v", ErrInput, sum)
	}
	for _, a := range t.Arms {
		if a.Version != "" && st.find(a.Version) == nil || a.Version == "" && st.primary() == nil {
			return fmt.Errorf("%w: arm %q: version %q is not loaded", ErrNotFound, a.Name, a.Version)
		}
	}
	for _, v := range t.Shadow {
		if st.find(v) == nil {
			return fmt.Errorf("%w: shadow: version %q is not loaded", ErrNotFound, v)
		}
	}
	return nil
}

// route is an arm and the version behind it.
type route struct {
	arm        string
	inst       *instance
	control    bool
	propensity float64
	attrs      outcomeAttrs
}

// route fills in what requests look up. The traffic has been checked.
func (st *state) route(e *entry) {
	salt := st.traffic.Salt
	if salt == "" {
		salt = e.name
	}
	st.seed = hashString(hashString(fnvOffset, salt), "\x00")
	for _, v := range st.traffic.Shadow {
		st.shadows = append(st.shadows, st.find(v))
	}
	arms := st.traffic.Arms
	if len(arms) == 0 {
		arms = []Arm{{Name: primaryArm, Weight: 1}}
	}
	shares := deal(arms)
	for n, a := range arms {
		inst := st.primary()
		if a.Version != "" {
			inst = st.find(a.Version)
		}
		if inst == nil { // the server has ended
			return
		}
		st.routes = append(st.routes, route{
			arm: a.Name, inst: inst, control: n == 0, propensity: float64(shares[n]) / bucketCount,
			attrs: newOutcomeAttrs(e.name, inst.version.Version, a.Name),
		})
	}
	if len(arms) > 1 {
		st.buckets = layOut(shares)
	}
}

// deal turns weights into numbers of buckets. What rounding leaves over is the
// first arm's; every other arm with a weight has at least one bucket.
func deal(arms []Arm) []int {
	sum := 0.0
	for _, a := range arms {
		sum += a.Weight
	}
	shares, rest := make([]int, len(arms)), bucketCount
	for n := len(arms) - 1; n > 0; n-- {
		if arms[n].Weight == 0 {
			continue
		}
		shares[n] = min(max(int(math.Round(arms[n].Weight/sum*bucketCount)), 1), rest)
		rest -= shares[n]
	}
	if arms[0].Weight > 0 || rest == bucketCount {
		shares[0] = rest
		return shares
	}
	for n := 1; rest > 0; n++ { // a control without weight gets nothing
		if arms[n].Weight > 0 {
			shares[n] += rest
			rest = 0
		}
	}
	return shares
}

// layOut deals the buckets: each arm after the first grows from the start of
// a stretch of its own and only beyond it into what is free elsewhere; the
// first arm has the rest.
func layOut(shares []int) []uint8 {
	buckets := make([]uint8, bucketCount)
	others := len(shares) - 1
	left := slices.Clone(shares)
	for n := 1; n <= others; n++ {
		from, to := (n-1)*bucketCount/others, n*bucketCount/others
		for b := from; b < to && left[n] > 0; b++ {
			buckets[b] = uint8(n)
			left[n]--
		}
	}
	for n := 1; n <= others; n++ {
		for b := 0; b < bucketCount && left[n] > 0; b++ {
			if buckets[b] == 0 {
				buckets[b] = uint8(n)
				left[n]--
			}
		}
	}
	return buckets
}

// pick assigns a key, or, without one, draws.
func (st *state) pick(key string) *route {
	if st.buckets == nil {
		return &st.routes[0]
	}
	b := rand.Uint64()
	if key != "" {
		b = mix(hashString(st.seed, key))
	}
	// The upper 32 bits, scaled: as even as a remainder, without a division.
	return &st.routes[st.buckets[(b>>32)*bucketCount>>32]]
}

// arm finds a route by its name.
func (st *state) arm(name string) *route {
	for n := range st.routes {
		if st.routes[n].arm == name {
			return &st.routes[n]
		}
	}
	return nil
}

const fnvOffset = 14695981039346656037

// hashString is 64-bit FNV-1a, which is the same in every process and release.
func hashString(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix spreads what FNV leaves in the low bits: the finalizer of SplitMix64
// (Steele, Lea and Flood 2014).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// Observe tells the judge what came of a request: a click, a purchase, a
// complaint. Key and Arm are those of the response; without Arm the arm is
// found from the key as the traffic is now. [ErrInput] if there is neither, or
// no such arm now. Without a judge it does nothing.
func (s *Server) Observe(model string, o Outcome) error {
	e, err := s.find("observe", model)
	if err != nil {
		return err
	}
	st := e.state.Load()
	switch {
	case st.traffic.Judge == nil || o.Shadow && o.Arm == "":
		return nil
	case len(st.routes) == 0:
		return fail("observe", model, "", ErrNotReady)
	case o.Arm == "" && o.Key == "":
		return fail("observe", model, "", fmt.Errorf("%w: an outcome needs an arm or a key", ErrInput))
	case o.Arm == "":
		o.Arm = st.pick(o.Key).arm
	}
	if !o.Shadow {
		r := st.arm(o.Arm)
		if r == nil {
			return fail("observe", model, "", fmt.Errorf("%w: the traffic has no arm %q", ErrInput, strings.ToValidUTF8(o.Arm, "?")))
		}
		o.Control = r.control
	}
	st.traffic.Judge.Observe(o)
	return nil
}
