package mlserve

// Signature says what a model takes and gives.
type Signature struct {
	Inputs  []TensorSpec // at least one
	Outputs []TensorSpec // at least one
}

// TensorSpec describes one tensor of a [Signature].
type TensorSpec struct {
	// Name, unique among inputs or outputs.
	Name string
	// Type is [Float32], [Float64], [Int32], [Int64], [Bool] or [Bytes].
	Type string
	// Shape; -1 is any size. Shape[0] is rows and normally -1:
	// [-1, 4] is any number of rows of four columns, [-1] one value per row.
	Shape []int
	// Columns names the columns of a [-1, n] tensor; nil: unnamed. Drift
	// monitors and explanations use the names.
	Columns []string
	// Missing says that NaN means a missing value. Where it is false a NaN or
	// an infinity is refused with [ErrInput].
	Missing bool
}
