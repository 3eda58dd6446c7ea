package features_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/featurestore"
	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/mlserve/features"
)

type user struct {
	ID string `feature:"user_id"`
}

type profile struct {
	Age   int64   `feature:"age,default=30"`
	Spent float64 `feature:"spent,default=0"`
}

var profiles = featurestore.NewView[user, profile]("profile", time.Hour)

// sum adds the columns of a row.
type sum struct{}

func (sum) Signature() mlserve.Signature {
	return mlserve.Signature{
		Inputs:  []mlserve.TensorSpec{{Name: "x", Type: mlserve.Float32, Shape: []int{-1, 2}}},
		Outputs: []mlserve.TensorSpec{{Name: "y", Type: mlserve.Float32, Shape: []int{-1}}},
	}
}

func (sum) Predict(_ context.Context, in mlserve.Batch) (mlserve.Batch, error) {
	x := in[0].Data.([]float32)
	out := make([]float32, in[0].Shape[0])
	for i := range out {
		out[i] = x[2*i] + x[2*i+1]
	}
	return mlserve.Batch{{Name: "y", Shape: []int{len(out)}, Data: out}}, nil
}

func (sum) Close() error { return nil }

type sumLoader struct{}

func (sumLoader) Load(context.Context, fs.FS, mlserve.Manifest) (mlserve.Model, error) {
	return sum{}, nil
}

func TestPredict(t *testing.T) {
	ctx := t.Context()
	store := featurestore.New(featurestore.NewMemoryOnline(100), nil, nil)
	_, err := profiles.Put(ctx, store, user{"u1"}, profile{Age: 41, Spent: 0.5}, time.Now())
	require.NoError(t, err)
	service, err := featurestore.NewService[user]("scoring", profiles)
	require.NoError(t, err)

	registry := mlserve.NewDir(t.TempDir())
	publish := func(version, fingerprint string) {
		require.NoError(t, registry.Publish(ctx, mlserve.Manifest{Model: "m", Version: version, Features: fingerprint},
			fstest.MapFS{"model.json": {Data: []byte("{}")}}))
	}
	publish("1", service.Fingerprint())
	models := mlserve.New(nil)
	require.NoError(t, models.Add(ctx, "m", registry, sumLoader{}, nil))
	p := features.New(models, "m", store, service)

	resp, err := p.Predict(ctx, "u1", user{"u1"}, user{"nobody"})
	require.NoError(t, err)
	require.Equal(t, []float32{41.5, 30}, resp.Output[0].Data)
	require.Equal(t, "1", resp.Version)
	require.Equal(t, "u1", resp.Key)
	require.Equal(t, service.Fingerprint(), resp.Features)

	_, err = p.Predict(ctx, "u1")
	require.ErrorIs(t, err, mlserve.ErrInput)

	publish("2", "of other features")
	require.NoError(t, models.Refresh(ctx, "m"))
	resp, err = p.Predict(ctx, "u1", user{"u1"})
	require.ErrorIs(t, err, featurestore.ErrFingerprint)
	require.Nil(t, resp.Output)
	e, ok := errors.AsType[*mlserve.Error](err)
	require.True(t, ok)
	require.Equal(t, "2", e.Version)

	_, err = features.New(models, "nobody", store, service).Predict(ctx, "u1", user{"u1"})
	require.ErrorIs(t, err, mlserve.ErrNotFound)
}
