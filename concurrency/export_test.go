package concurrency

// NewBoundedAdmission is an Admission that has no more than most units in
// flight, whatever it learns: the kit is about limiters of a known size.
func NewBoundedAdmission(most int64, waiting int) *Admission {
	return &Admission{MaxWaiting: waiting, most: most}
}
