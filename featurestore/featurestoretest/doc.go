// Package featurestoretest checks stores and definitions of featurestore.
//
// [TestOnline] and [TestOffline] are the conformance kits of the two store
// interfaces: what passes them can be put under any definition.
//
// [Parity] is for one's own definitions: it plays events through the real
// online path, shuffled, duplicated and late, on a clock it controls, and
// demands at the time of every label the vector that the offline join will
// train on.
//
// The package needs the standard library and featurestore only.
package featurestoretest
