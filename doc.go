// Package mainstay is the map of a library of production patterns for Go
// services. It exports nothing; import the packages below it.
//
// # Which package answers which question
//
//   - How do I ask many at once, bounded and in time, and leave nothing behind?
//     [concurrency]; over HTTP, with deadlines that travel, [concurrencyhttp].
//   - How do I publish and consume without losing a message, and without
//     blocking a queue on one that fails? [messaging], with a broker from
//     [kafka], or [memory] inside one process.
//   - How does an effect happen once although its request comes twice, over
//     HTTP, from a broker or in a call? [idempotency], with keys in memory or
//     in Redis.
//   - How do several services carry out one transaction, or undo it, also
//     after kill -9? [saga], durable in one file with [boltstore].
//   - How do I compute features once, for training and for serving? [featurestore],
//     online in memory or in Redis.
//   - Do live data still look like the training data? [drift]; as OpenTelemetry
//     gauges, [oteldrift].
//   - How do I serve a model, swap it under load and compare two versions?
//     [mlserve], with trees from XGBoost by [gbdt]; [rollout] brings a new
//     version into service as a saga, [retrain] starts that within a budget,
//     and [features] asks a model with a feature service's vectors.
//   - How do I test what I build on these? A package whose name ends in "test"
//     stands beside each: conformance kits for stores, brokers and judges of
//     one's own, and for one's own sagas and features an exploration of faults
//     and a proof of parity.
//
// The directory docs leads from a problem to a package (choose.md), says what
// holds for each broker and store under crash and partition (guarantees.md),
// fixes what other services read on the wire (wire.md), and records why things
// are as they are (decisions). The program examples/recommender joins all of
// it.
//
// # What holds everywhere
//
//   - What a function starts ends before it returns. What lives is a
//     func(context.Context) error, which owns its goroutines, drains when its
//     context ends, and is joined by [concurrency.Run].
//   - An unknown outcome is said to be unknown. A confirmation that did not
//     come is [messaging.ErrUnknown]; a saga's action that may have run is
//     repeated under the same key, undone as unknown, or parked for a person;
//     none is guessed.
//   - The zero of a result is never good news: no evidence is not stable, no row
//     is not a hit, and no verdict is not a promotion.
//   - Limits are arguments where forgetting them hurts. Elsewhere zero is a
//     stated default and never "unlimited".
//   - Settings that contradict each other are refused at start, by name.
//   - Nothing has an init function, mutable package variables, a context in a
//     struct, or a logger that speaks by default.
//   - [concurrency] and [drift] import the standard library only. The other
//     packages add the OpenTelemetry API, never its SDK; a vendor's client is
//     imported by the package named for it and by no other.
//
// [boltstore]: https://pkg.go.dev/github.com/mainstay-go/mainstay/saga/boltstore
// [concurrency]: https://pkg.go.dev/github.com/mainstay-go/mainstay/concurrency
// [concurrency.Run]: https://pkg.go.dev/github.com/mainstay-go/mainstay/concurrency#Run
// [concurrencyhttp]: https://pkg.go.dev/github.com/mainstay-go/mainstay/concurrency/concurrencyhttp
// [drift]: https://pkg.go.dev/github.com/mainstay-go/mainstay/drift
// [featurestore]: https://pkg.go.dev/github.com/mainstay-go/mainstay/featurestore
// [features]: https://pkg.go.dev/github.com/mainstay-go/mainstay/mlserve/features
// [gbdt]: https://pkg.go.dev/github.com/mainstay-go/mainstay/mlserve/gbdt
// [idempotency]: https://pkg.go.dev/github.com/mainstay-go/mainstay/idempotency
// [kafka]: https://pkg.go.dev/github.com/mainstay-go/mainstay/messaging/kafka
// [memory]: https://pkg.go.dev/github.com/mainstay-go/mainstay/messaging/memory
// [messaging]: https://pkg.go.dev/github.com/mainstay-go/mainstay/messaging
// [messaging.ErrUnknown]: https://pkg.go.dev/github.com/mainstay-go/mainstay/messaging#pkg-variables
// [mlserve]: https://pkg.go.dev/github.com/mainstay-go/mainstay/mlserve
// [oteldrift]: https://pkg.go.dev/github.com/mainstay-go/mainstay/drift/oteldrift
// [retrain]: https://pkg.go.dev/github.com/mainstay-go/mainstay/mlserve/retrain
// [rollout]: https://pkg.go.dev/github.com/mainstay-go/mainstay/mlserve/rollout
// [saga]: https://pkg.go.dev/github.com/mainstay-go/mainstay/saga
package mainstay
