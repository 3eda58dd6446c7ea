// Package drift says whether live data still look like the data a model was
// trained on, and is honest about how sure it is.
//
// There are four layers, each usable alone.
//
// # Statistics
//
// [KS], [PSI], [PSICounts], [ChiSquare] and others compare two samples and return a
// [Score]: the statistic, its p-value, what to expect of it without drift, and
// the method that was used. They are pure: inputs are not modified, NaN is a
// missing value, and nothing in a Score is ever NaN or infinite. A score has no
// opinion; [Score.Drifted] asks for the level. [BenjaminiHochberg],
// [BenjaminiYekutieli] and [Holm] correct for looking at many features.
//
// Is there a difference? [KS], [CramerVonMises] and [AndersonDarling] for
// numbers, the last the sharpest in the tails; [ChiSquare] and [GTest] for categories; [MMD] for
// how several columns depend on each other. How far does it go?
// [Wasserstein] in the column's unit, [Energy] and [CliffDelta] without one;
// [JensenShannon], [Hellinger], [KullbackLeibler] and [TotalVariation] for shares.
//
// # Reference
//
// [Fit] reduces the training columns to a [Reference] of a few kilobytes per
// feature: cell edges taken from the data and how many rows fell into each. It
// is immutable, has a content hash as its ID, travels as bytes or JSON, and
// ships beside the model. Columns are slices or iterators; a training set that is too large for
// one machine's memory is fitted in parts, by [Reference.Fit], and added up by [Reference.Merge].
//
// # Monitor
//
// A [Monitor] counts live values into the reference's cells. Handles
// ([Monitor.Numeric], [Monitor.Categorical]) are taken once, at start; Observe
// on them takes no lock and allocates nothing. Rows are cut into windows
// ([Tumbling], [Sliding], [Every] or [Decaying]); a closed window is judged off the
// request path, by [Monitor.Watch] or [Monitor.Report]. Replicas send a [Snapshot] of
// each window to one monitor of all of them, by [Monitor.Judge].
//
// # Performance
//
// A reference with [Predictions] knows how good the model was. [Performance] joins
// predictions with the labels that come later and tells, on the same budget, when
// the model has become worse; before labels come, what to expect ([CBPE]).
// [Measure] is the metrics alone.
//
// # Streams
//
// A [Detector] looks at every value as it comes, in some ten nanoseconds and without
// allocating, where a window would be too slow or there is no reference. [EProcess] and
// [SlidingKS] compare with a reference, [ADWIN], [PageHinkley] and [KSWIN] with the
// stream's own past, [DDM], [EDDM], [HDDMA] and [HDDMW] watch the errors of a model.
//
// # How an alert is decided
//
// For each feature of a closed window up to three tests run: for numbers KS on
// the cells, chi-square on the PSI bins, Fisher's exact test on the missing
// share; for categories chi-square on the categories, sparse ones joined, Fisher on the unseen
// share and on the missing share. The feature's p is the smallest of those that
// apply, times their number (Bonferroni). The effect is the larger of the
// debiased PSI (its missing and unseen bins included) and the KS distance. A
// window is a hit for a feature if p <= 0.05 and effect >= MinEffect. Confirm hits
// in a row are a drift if the rows of these windows, tested as one window, have
// p <= level.
//
// A category that is sparse in the window, at the reference's share, is compared together with others, next to it in the order
// of the names: for p until 20 rows are expected of them, for the effect until 5 are. So thousands of categories are no
// obstacle; but what moves between sparse ones that are compared together is not seen. One that expects 40 rows (10) is
// alone. Names that begin with what matters most ("phones/red" rather than "red/phones") keep together what moves together.
// A row of the reference whose category no other of its rows has counts as unseen: as many of the window's are
// without drift, however long the tail, if the reference has several times the rows.
//
// The level comes from the budget, [MonitorOptions].FalseAlarm = T, which
// allows one false alarm per T over all features. A look at a window that was open
// for a duration d may use up
//
//	level = d / T * (weight of the feature) / (sum of all weights)
//
// for each feature, at most 0.01. Each look adds at most d/T to the expected number of
// false alarms, so in any stretch of time L that is at most L/T, whatever the
// traffic and however often one looks: looking spends nothing. The windows before the
// last must agree, but have no part in the bound, so it does not matter that they
// are all compared with the same reference, whose noise they share. Windows that overlap
// ([Sliding], [Decaying]) pay at each look for what is new of them, and the last of
// them, which holds the rows of those before, is tested alone.
//
// The expectation is over references too: one reference that is unlucky is
// unlucky in each window. At n >= 10*m rows this hardly matters; at n < m it does,
// and the verdict is [WeakReference] unless there is drift beyond doubt.
//
// An alert then names all features that are wrong: those confirmed, and those
// that the last window marks at a false discovery rate of FDR
// (Benjamini-Hochberg) with an effect of at least MinEffect. So one drift in
// five features is one alert with five names.
//
// # What has to hold: independent rows
//
// All p-values assume that the rows of a window are independent draws. They are
// not if the same user or item is counted many times: a user feature
// observed for each of 50 candidates is one draw, not 50, and a few busy users
// then look like a drift. Observe a user feature once per request and an item
// feature for one candidate drawn at random per request, or once per key
// and window; if keys repeat more, observe a random share of the rows.
// A window of 2,000 rows that are nearly independent says more than one of
// 100,000 that are not. A feature that only ever grows with the age of the
// system (a count since the beginning) drifts by construction: give the model a
// windowed count or a ratio.
//
// # Bad input
//
// NaN is missing and counted as such. Infinities are values at the far ends.
// Constant columns, columns that are all missing and categories never seen
// before are ordinary cases with a defined result.
package drift
