// Package gbdt loads gradient-boosted trees that XGBoost saved as JSON and evaluates them in pure Go, with the bits XGBoost
// itself would give.
//
// # What it reads
//
// Files written by Booster.save_model("model.json") of XGBoost 1.x, 2.x and 3.x: the boosters gbtree and dart with numeric
// splits and scalar leaves, one or many classes or targets, and parallel trees (random forests). What a file may hold beyond
// that is refused by name, never guessed at: gblinear, categorical splits, vector leaves, UBJSON, the old binary format,
// pickles, and versions newer than any known.
//
// A file is an outside input. It is checked before it is trusted: every child index, feature, group and count; that each tree
// is a tree (no cycle, no shared node, no orphan); that thresholds are numbers and leaves are finite. Nothing is allocated
// from a length the file merely claims, and [Loader] bounds bytes and nodes. A model that loads cannot panic or hang.
//
// # What it promises
//
// Margins ([Model.Margins]) are equal in bits to Booster.predict(output_margin=True) on a DMatrix. That takes three things: the
// sum is kept in float32 and starts at the base margin; trees are added in file order; and base_score goes through its
// objective's link in float32, with the logarithm of the C library XGBoost was linked against.
//
// Predictions ([Model.Score], [Model.Predict]) apply the objective to the margin. Classes are exact. Probabilities and other
// exponentials come from the host's C library in XGBoost, from package math here: they agree within 2 units in the last place
// of a float32, mostly exactly.
//
// # Missing values
//
// NaN is missing and follows each node's default direction, as in XGBoost. Infinities are values like any other. All trees are
// used: the attribute best_iteration of early stopping is not obeyed, as Booster.predict does not obey it; save the sliced
// booster if it should be.
package gbdt
