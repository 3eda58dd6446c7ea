package mlserve

// Traffic says which versions answer. The zero value sends everything to the
// primary, the first version of the [Policy].
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
