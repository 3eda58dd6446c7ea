// Package mlserve serves models: it swaps their versions under load without a
// dropped request, deals traffic to them by key, judges one against another,
// and answers in time even when a model cannot.
//
// # A version goes live
//
// A [Source] says which versions there are; [NewDir] is one in a directory,
// and a [Registry], which can be written. A [Loader] makes a [Model] of a
// version's files; mlserve/gbdt has one for XGBoost. A [Policy] picks what to
// keep loaded, as a rule the newest or what an alias points at; the first is
// the primary. [Server.Run] looks every few seconds, [Server.Refresh] at once.
// A new version then goes through
//
//	fetch, sha256 of every file, load, signature, warm-up, golden cases,
//	publish one pointer, drain the old version, close it
//
// and whatever fails before the pointer is published leaves the old version
// serving, and healthy; the error says what it was. A request takes a reference
// to one version and answers with that one. A version is closed when nobody
// uses it any more: a drain that takes too long leaves it to its last user and
// never closes it underneath one. See [Server.Acquire] to hold one on purpose.
//
// # Two versions at once
//
// [Server.Load] makes a version ready without traffic, [Server.Split] gives it
// some. Keys, as a rule customers, are assigned by hash to 10,000 buckets, so
// that a customer stays where they are, in every replica, while a weight is
// raised: see [Traffic]. A shadow gets copies of the requests and its answers
// are thrown away. A [Judge] hears what came of every request; [Sequential] may
// be asked at any time without its error rates suffering, and counts keys, not
// requests. Nothing is promoted or rolled back by the server itself:
// mlserve/rollout does that, as a saga.
//
// # When a version is late or fails
//
// [ModelOptions].Timeout bounds a request, and the [ModelOptions].Ladder says
// what to answer when the version has not by then, fails, panics, is not
// admitted by the limiter, or none serves: a smaller model, a cache, what is
// popular. The version is cut off early enough for the rung to have its time.
// Response.Degraded says which rung answered and why, and Response.Version is
// then empty. A model must obey its context: the server runs it on the
// caller's goroutine and cannot leave it behind.
//
// # What is seen
//
// A [Recorder] hands requests and answers to sinks without ever blocking;
// [DriftSink] shows them to a drift monitor, [Rebase] gives that monitor the
// reference of the version that serves. OpenTelemetry gets
//
//	mainstay.mlserve.request.duration  histogram, s   model, version, arm, outcome
//	mainstay.mlserve.predictions       rows           model, version, class
//	mainstay.mlserve.degraded          requests       model, rung, reason
//	mainstay.mlserve.loads             loads          model, outcome
//	mainstay.mlserve.model.loaded      versions       model, version
//	mainstay.mlserve.shadow.dropped    requests       model
//
// [Server.Handler] speaks the Open Inference Protocol and a plain one over
// HTTP.
//
// Package mlservetest has faulty models, scripted load and kits for models,
// sources and judges of one's own.
package mlserve
