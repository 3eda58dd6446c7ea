// Package saga runs business transactions that span services: a list of steps,
// each with the step that undoes it, executed in order, recorded durably, and
// either carried to the end or undone, also after kill -9.
//
// # Steps
//
// A [Definition] has three parts, and the types keep them apart:
//
//   - before the pivot, steps that can be taken back: [Undoable] has a
//     compensation, [ReadOnly] needs none;
//   - at most one [Pivot], the step that cannot be taken back;
//   - after it, [Retriable] steps, which are repeated until they succeed.
//
// A step's action says what happened by its error. Nil means done. [Reject]
// means that definitely nothing happened: the saga undoes what came before.
// [Ongoing] means not finished and not failed: it is asked again. Any other
// error, a timeout among them, means that nobody knows. The action is then
// repeated with the same [Call].Key, after a growing pause. When its attempts
// are used up, a step before the pivot is undone too, with an [Outcome] that is
// not Known; a pivot or a later step is parked for a person to decide
// ([Runner.Resume], [Runner.Resolve]), because nothing is ever guessed.
//
// So an action and a compensation must bear being called more than once, and a
// compensation must bear an action that never ran. Call.Key is the same for
// every attempt: hand it to the far side as the idempotency key. Package
// sagatest explores every crash, refusal, lost answer and repetition of a saga
// of yours.
//
// # What is durable
//
// A saga of N steps costs N+1 durable writes: one that creates it, and one for
// each finished step, which also says that the next may have run. Undoing costs
// one for the decision and one for each compensation. Waiting, polling and
// counting attempts cost none. A compensation's context does not end when the
// caller, the deadline or [Runner.Cancel] gives the saga up.
//
// # Who executes
//
// A [Runner] executes the sagas it owns. Its lease is one heartbeat for the
// whole process, however many sagas it holds; when the heartbeat ends, another
// runner claims them and the fence of each goes up, so that whatever the first
// one still writes is refused. It looks before every call whether its lease has
// held, and reads the saga again if not. Its effects in flight cannot be called
// back: a far side that must be safe from them has to honour Call.Key or Call.Fence.
// A saga is run only by a definition of the same name, version and shape; give
// NewRunner the old version too while sagas of it are in flight.
//
// # What it is not
//
// A saga is not isolated: others see its intermediate states. It is eventually
// consistent: finished, undone, or parked and visible.
package saga
