// Package drift says whether live data still look like the data a model was
// trained on, and is honest about how sure it is.
//
// There are four layers, each usable alone.
//
// # Statistics
//
// [KS], [PSI], [PSICounts] and [ChiSquare] compare two samples and return a
// [Score]: the statistic, its p-value, what to expect of it without drift, and
// the method that was used. They are pure: inputs are not modified, NaN is a
// missing value, and nothing in a Score is ever NaN or infinite. A score has no
// opinion; [Score.Drifted] asks for the level. [BenjaminiHochberg] and [Holm]
// correct for looking at many features.
//
// # Reference
//
// [Fit] reduces the training columns to a [Reference] of a few kilobytes per
// feature: cell edges taken from the data and how many rows fell into each. It
// is immutable, has a content hash as its ID, travels as bytes or JSON, and
// ships beside the model.
//
// # Monitor
//
// A [Monitor] counts live values into the reference's cells. Handles
// ([Monitor.Numeric], [Monitor.Categorical]) are taken once, at start; Observe
// on them takes no lock and allocates nothing. Rows are cut into windows
// ([Tumbling] or [Every]); a closed window is judged off the request path, by
// [Monitor.Watch] or [Monitor.Report].
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
// share; for categories chi-square on the categories, Fisher on the unseen
// share and on the missing share. The feature's p is the smallest of those that
// apply, times their number (Bonferroni). The effect is the larger of the
// debiased PSI (its missing and unseen bins included) and the KS distance. A
// window is a hit for a feature if p <= level and effect >= MinEffect. Confirm
// hits in a row are a drift.
//
// The level comes from the budget, [MonitorOptions].FalseAlarm = T, which
// allows one false alarm per T over all features. A window that was open for a
// duration d may use up
//
//	t = d / T / features
//
// for each feature. With k = Confirm windows in a row, of m rows each, against
// a reference of n rows, the level for one window is
//
//	level = t ^ ((1+(k-1)*rho)/k)      rho = m/(n+m)
//
// but at most 0.01. k independent windows would allow t^(1/k). They are not
// independent, since all are compared with the same reference, whose own noise
// correlates them by rho; for jointly Gaussian statistics the bound
// P(all k reject) <= level^(k/(1+(k-1)*rho)) is the hypercontractive inequality
// (Borell 1982; Chen, Dafnis and Paouris 2015), for any rejection regions, so it
// covers KS and chi-square alike. The expected number of false alarms in any
// stretch of time L is then at most L/T, as every window adds at most
// d/T, whatever the traffic and however often one looks: looking spends nothing.
// The expectation is over references too: one reference that is unlucky is
// unlucky in each window. At n >= 10*m this hardly matters; at n < m it does,
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
