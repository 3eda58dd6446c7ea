// Package idempotency makes an effect happen once although its request comes
// more than once.
//
// Clients retry, brokers redeliver, and a process dies between doing something
// and saying so. Whoever asks again must get the first answer, not a second
// charge. This package holds one answer to that, for HTTP requests, messages
// and function calls alike:
//
//	guard := idempotency.New(idempotency.NewMemoryStore(100_000), nil)
//	key := idempotency.Key{Scope: "charge", ID: order.ID}
//	receipt, err := idempotency.Do(ctx, guard, key, charge) // runs charge
//	receipt, err = idempotency.Do(ctx, guard, key, charge)  // the same receipt
//
// [Do] guards a function, [Guard.Once] a message handler (the inbox), and
// [Guard.Handler] an HTTP handler, by its Idempotency-Key header. All three
// keep their keys in a [Store]: [MemoryStore] for one process, package
// redisstore for several. A store of one's own is checked by package
// idempotencytest.
//
// # How a key lives
//
// A key is free, held or done. [Store.Begin] takes a free key for the length of
// a lease; the guard renews the lease while the work runs. Work that succeeds
// completes the key with its result, which every later call gets until the
// key's TTL ends. Work that fails gives the key back, so that the next call
// runs it again; the store only counts the attempt. A process that dies leaves
// the key held until the lease ends; then the next caller takes it over.
//
// Every taking of a key has a fence, a number higher than any before it. Who
// lost the lease holds an older fence, and the store refuses what they bring
// with [ErrStale].
//
// # What is promised
//
//   - While a key is held, nobody else gets it, and callers get [ErrInProgress]
//     with the time the lease ends.
//   - After a result is stored, the work does not run again before the TTL
//     ends.
//   - A key is never forgotten early to make room: a full store refuses new
//     keys ([ErrFull]).
//
// What no store outside the effect's own transaction can promise: a process
// that dies after the effect and before the result is stored leaves an unknown
// outcome, and the effect runs again when the lease has ended. The same holds
// for a process that stands still longer than its lease: its context is
// cancelled, but a call already on the wire still lands. Where that matters,
// the far side should get [Key.String] as its own idempotency key, or the
// effect and the key should commit in one transaction.
//
// The TTL bounds the memory of the guard. It must be longer than anything that
// can bring a request back: the retries of a client, the retention of a topic,
// the age of a redriven dead letter. The default is seven days.
package idempotency
