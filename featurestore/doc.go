// Package featurestore computes features once and gives the same values to
// training and to serving.
//
// A feature is defined as Go types, in package variables. A [View] holds what
// is written into it; [Windows] are computed from events; an [OnDemand]
// transform is a pure function of both and of the request. A [Service] is the
// vector that one model takes, joined from definitions by the key fields of a
// request type:
//
//	type User struct{ ID string `feature:"user_id"` }
//	type Profile struct{ Age int64 `feature:"age,default=0"` }
//
//	var Profiles = featurestore.NewView[User, Profile]("profile", 24*time.Hour)
//
// A [Store] ties an [Online] store, which keeps the newest value of each key,
// to an [Offline] one, which keeps all of them. [Service.Vectors] reads the
// first and answers for now; [Service.Join] reads the second and answers as of
// the time of each label. Both run the same code on the same stored bytes, and
// featurestoretest.Parity checks, in a test of one's own definitions, that
// they agree.
//
// # Times
//
// The event time says when a value became true, the created time when the
// store could know it. A value read for time q is the one with the largest
// version (event, created, seq) among those with event <= q; in a join also
// created <= q, unless [JoinOptions] asks for hindsight: the model then learns
// from what serving would have seen, not from corrections that came later.
// Times keep nanoseconds and may lie before 1970 or after 2262 (in windows:
// from 1700 to 2239).
//
// An event that lies ahead when it comes is one that has happened, by a clock
// that is ahead. A view serves such a row at once, and a join has it from its
// created time on; windows count the event when its time has come. One further
// in the future than [Options.MaxFuture] is refused, since nothing could replace
// it until then.
//
// A write replaces the stored row only if its version is larger, so redelivery
// and reordering do no harm: any order of the same writes ends in the same
// state, and where versions are equal the content decides. A delete leaves a
// tombstone, which an older write cannot pass.
//
// A view has a time to live, compared with the age of the row at reading time;
// an age equal to it is still valid. A row is [Hit], [Expired], [Missing] or,
// in joins, [NotYetKnown]. Anything but a hit has the defaults of its fields;
// a field without one is the zero value in a struct and NaN in a vector. Null
// (a nil pointer; NaN in a vector) is a value of its own, which neither a
// default nor an older row replaces.
//
// # Windows
//
// [Windows] count, sum and otherwise fold the events of a key over the last
// hour, day or week. A [Sawtooth] window starts on the boundary of a tile (the
// hop) and ends exactly at the time asked for, so it reaches back between w and
// w plus one hop. Tiles are kept per key: the stored state is bounded by the
// number of tiles, not of events. Events may come late by
// [WindowOptions].Lateness; for that long they are remembered one by one with
// their ids, so that what is delivered twice counts once, in the same atomic
// step as the update. Later ones are counted in the telemetry and kept offline, but
// change nothing online; a join as known then leaves them out too, and one with
// hindsight takes them in. Sums are folded in the order of (event time, id)
// whatever the order of arrival, so that offline and online results are equal
// in every bit.
//
// Windows are evaluated when they are read, at the time [Options.Now] gives,
// from the tiles: a key without new events ages by itself.
//
// # Guarantees
//
//   - A write to one key is atomic and never goes back to an older version,
//     under concurrent writers, redelivery and reordering.
//   - Ingest writes offline first, then online, and returns nil when both hold
//     the event. A crash between the two is healed by redelivery. Of windows,
//     a redelivery after the lateness is too late online, while a join has the
//     event from its first delivery on: the metric mainstay.featurestore.writes
//     counts it with redelivered=true, where the broker counts deliveries, and
//     [View.Rebuild] brings it online.
//   - What the online store has lost is brought back by [View.Rebuild], from the
//     offline one: rows of views, and windows with all their events.
//   - Rows carry the fingerprint of their layout. Reading a row written under
//     another one is an [ErrFingerprint], never a wrong value.
//   - Batch results align with their input: one for each, in order, missing
//     ones included.
package featurestore
