// Package mlserve serves models: it swaps their versions under load without a
// dropped request, shares traffic between versions, judges them, and answers
// in time even when a model cannot.
package mlserve
