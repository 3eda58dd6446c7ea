// Package sagatest tests sagas and their stores.
//
// [Explore] runs a saga of yours once for every fault that can befall it: a
// crash before and after each durable write, a store that fails or whose answer
// is lost, a runner that is replaced without knowing it, in the middle of a write
// or while the saga waits for its turn among others, an action that rejects, that
// fails before or after its effect, whose outcome stays unknown, or that runs
// twice; on the way forward, and on every way back. It does so in virtual time, and prints the shortest schedule that breaks an invariant, to replay it.
//
// [Laws] checks the compensations alone. [TestStore] is the conformance kit of
// a saga.Store.
package sagatest
