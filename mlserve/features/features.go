// Package features joins a feature service to a served model: the three lines
// between them, and the check that they belong together.
package features

import (
	"context"
	"fmt"

	"github.com/mainstay-go/mainstay/featurestore"
	"github.com/mainstay-go/mainstay/mlserve"
)

// Predictor answers requests of a feature service with a model. It is safe for
// concurrent use.
type Predictor[R any] struct {
	models  *mlserve.Server
	model   string
	store   *featurestore.Store
	service *featurestore.Service[R]
}

// New makes a Predictor. The model takes the service's columns as its only
// input. It does no I/O; the model may be added later.
//
// Give the service's fingerprint to mlserve.ModelOptions.Features as well: a
// version trained on other features is then refused when it is loaded, and
// not only when it answers.
func New[R any](models *mlserve.Server, model string, store *featurestore.Store, service *featurestore.Service[R]) *Predictor[R] {
	return &Predictor[R]{models: models, model: model, store: store, service: service}
}

// Predict reads the vectors of the requests as of one now and answers them,
// one row per request in their order, with one version of the model. key is
// the unit of assignment to the arms of a split, as a rule the customer.
//
// Errors are those of [featurestore.Service.Vectors], which no rung of the
// model's ladder answers, and of [mlserve.Server.Predict]. A version whose
// manifest names the fingerprint of other features is
// [featurestore.ErrFingerprint], without its answer; a manifest that names none
// is not checked here.
func (p *Predictor[R]) Predict(ctx context.Context, key string, reqs ...R) (mlserve.Response, error) {
	if len(reqs) == 0 {
		return mlserve.Response{Key: key}, &mlserve.Error{Op: "predict", Model: p.model, Err: fmt.Errorf("%w: no requests", mlserve.ErrInput)}
	}
	vectors, err := p.service.Vectors(ctx, p.store, reqs...)
	if err != nil {
		return mlserve.Response{Key: key}, err
	}
	resp, err := p.models.Predict(ctx, p.model, mlserve.Request{Key: key, Input: mlserve.Rows(vectors.Values...)})
	if err != nil {
		return resp, err
	}
	if want := p.service.Fingerprint(); resp.Features != "" && resp.Features != want {
		resp.Output = nil
		return resp, &mlserve.Error{Op: "predict", Model: p.model, Version: resp.Version, Err: fmt.Errorf(
			"%w: the model was trained on features %s, the service %q serves %s", featurestore.ErrFingerprint, resp.Features, p.service.Name(), want)}
	}
	return resp, nil
}
