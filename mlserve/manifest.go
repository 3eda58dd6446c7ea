package mlserve

// Manifest says what a version is and where it came from: what a registry
// keeps beside the files. It is JSON in manifest.json, keys as in the tags.
type Manifest struct {
	// Model and Version name it. A name has 1 to 128 letters, digits, '.', '_'
	// and '-', and begins with a letter or digit.
	Model   string `json:"model"`
	Version string `json:"version"`
	// SHA256 of every file, in hexadecimal, by slash-separated path. Files not
	// named here do not exist for a [Loader]. [Registry].Publish fills it in.
	SHA256 map[string]string `json:"sha256"`
	// Code, Data and Features trace a prediction back: the commit that trained
	// it, the data set, the fingerprint of the feature definitions.
	Code     string `json:"code,omitempty"`
	Data     string `json:"data,omitempty"`
	Features string `json:"features,omitempty"`
	// Reference is the path, among the files, of the drift reference fitted on
	// the training data; see [Rebase].
	Reference string `json:"reference,omitempty"`
	// Golden cases are answered before the version serves; one wrong answer
	// refuses it.
	Golden []Golden `json:"golden,omitempty"`
	// Metadata is the user's own.
	Metadata map[string]string `json:"metadata,omitempty"`
}

// Golden is an input whose output is known, as a rule from the library that
// trained the model.
type Golden struct {
	In  Batch `json:"in"`
	Out Batch `json:"out"`
	// Tolerance t accepts a value v for the wanted w if |v-w| <= t*max(1,|w|);
	// zero wants equality. NaN equals NaN; strings and bools must be equal.
	Tolerance float64 `json:"tolerance,omitempty"`
}
