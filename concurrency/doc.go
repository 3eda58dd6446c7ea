// Package concurrency runs functions at the same time, bounded, and takes
// responsibility for them: every function here joins what it starts.
//
// # Fan-out
//
// [Map], [MapAll], [Each], [Gather], [GatherAll], [First], [Join2] and [Join3]
// share one set of promises:
//
//   - The limit is an argument. There is no unbounded form, and a limit that
//     is not positive panics instead of hanging or meaning "unlimited".
//   - Results align with the input.
//   - Nothing is started once the context is done or a sibling has failed (or
//     succeeded, for First). What runs is cancelled through its context, whose
//     [context.Cause] is the error that stopped it.
//   - Nothing is alive when the call returns. A function that ignores its
//     context therefore delays the return; see [Abandon] for the alternative.
//   - A panic in a task cancels the siblings, waits for them, and then panics
//     in the caller with a [*PanicError] that holds the task's own stack.
//     MapAll and GatherAll, which report each item on its own, put it into the
//     item's slot instead.
//   - [runtime.Goexit] in a task (a test's FailNow) cancels the siblings,
//     waits for them and ends the calling goroutine too, in all of them.
//   - The calling goroutine is one of the workers. A call makes progress by
//     itself, so calls nest without deadlock, and a limit of 1 or a single
//     item starts no goroutine.
//
// Workers pull the next index; items are never handed out in chunks, so a slow
// item delays no other while a worker is free, and items may wait for each other
// as far as the limit goes.
//
// # Streams
//
// [Stream] and [StreamUnordered] are fan-outs over an iter.Seq2[T, error]: over
// what has no length, does not fit into memory, or is wanted as it comes. What
// they return is such a sequence again, and [Batch] makes slices of one, so
// stages nest and the loop over the last is the whole pipeline:
//
//	rows := concurrency.Stream(ctx, 8, concurrency.From(ids), fetch)
//	for n, err := range concurrency.Stream(ctx, 2, concurrency.Batch(ctx, rows, 100, time.Second), store) {
//
// The promises are those above, with these in place of alignment and failure:
//
//   - At most 2*limit elements are between the source and the loop. Within that
//     window, reading and working go on while the loop's body runs.
//   - An error stands in its place among the results, and passes by the f of the
//     next stage. It ends nothing: leave the loop to end the stream.
//   - Leaving the loop, however, ends all stages and joins what they started.
//
// # Limiters
//
// A [Limiter] admits or refuses, and learns from the result. [Semaphore] is the
// one for weights, with a choice of what happens to those who must wait; [Rate]
// is units per second, and [Rates] the same for each of many keys; [Breaker]
// stops asking what keeps failing; [Admission] reads the deadlines, finds out how
// much its callee can do, and refuses what would be late, the unimportant first
// ([WithPriority]). [NewPermit] is for limiters of one's own. [Do]
// runs one function under one; limiters nest by nesting Do.
// A [Permit] is a value that is returned once and may be copied freely.
//
// Semaphores nest like fan-outs do: [Permit.Context], which Do applies, lets
// what runs below a permit borrow it where waiting would be for oneself.
//
// # Time
//
// [WaitFor] cancels a function that is late and waits until it has returned;
// it cannot leak. [Abandon] returns on time and books the late function in an
// [Orphans], which bounds how many there can be.
//
// # Repetition
//
// [Retry] takes an [Op], made only by [Idempotent] or [Keyed]: what is
// repeated has been declared repeatable. So does [Hedge], which starts a second
// run beside one that takes longer than most. Both take their extra runs from
// the [Budget] of the context, if it has one, so that nested retries do not
// multiply, and none that the deadline leaves no time for. [Permanent] and [RetryAfter] mark an
// error for whoever decides about a repetition; every package of this module
// reads the same marks.
//
// # Sharing
//
// [Flight] lets callers that want the same thing at the same time share one
// call. Who gives up leaves, and does not end it for the others; the last one
// to leave does.
//
// # Services
//
// [Run] runs the parts of a program, each a func(context.Context) error, and
// stops them in reverse order. It is the whole of a main function:
//
//	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
//	defer stop()
//	err := concurrency.Run(ctx, store.Run, consumer.Run, concurrencyhttp.Serve(srv, 5*time.Second))
//
// The package imports only the standard library and keeps no global state.
// Telemetry is polled: see [Stats]. Package otelconc exports it to OpenTelemetry.
package concurrency
