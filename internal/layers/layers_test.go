// Package layers holds the test of who may import whom.
package layers_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/mainstay-go/mainstay/"

// ranks orders the top-level packages; a package imports lower ranks only, and itself.
var ranks = map[string]int{
	"concurrency": 0, "drift": 0,
	"messaging":   1,
	"idempotency": 2,
	"saga":        3, "featurestore": 3, "mlserve": 3,
	"examples": 5,
}

// joins are the subpackages that may import a sibling of their root.
var joins = map[string][]string{
	"mlserve/rollout":  {"saga"},
	"mlserve/features": {"featurestore"},
}

// vendors says which packages may import a vendor's client.
var vendors = map[string]func(pkg string) bool{
	"github.com/IBM/sarama":               func(p string) bool { return p == "messaging/kafka" },
	"github.com/rabbitmq/amqp091-go":      func(p string) bool { return p == "messaging/rabbitmq" },
	"github.com/redis/go-redis":           func(p string) bool { return strings.HasSuffix(p, "/redisstore") || p == "messaging/redisstream" },
	"go.etcd.io/bbolt":                    func(p string) bool { return p == "saga/boltstore" },
	"go.opentelemetry.io/otel/sdk":        func(string) bool { return false },
	"go.opentelemetry.io/otel/exporters":  func(string) bool { return false },
	"github.com/prometheus/client_golang": func(string) bool { return false },
	"github.com/stretchr/testify":         func(string) bool { return false },
	"pgregory.net/rapid":                  func(string) bool { return false },
}

type listed struct {
	ImportPath   string
	Name         string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func TestLayers(t *testing.T) {
	packages := list(t)
	require.NotEmpty(t, packages)
	for _, p := range packages {
		name := strings.TrimPrefix(p.ImportPath, module)
		root, _, _ := strings.Cut(name, "/")
		if root == "internal" || p.ImportPath+"/" == module {
			continue
		}
		_, known := ranks[root]
		require.True(t, known, "%s: the top-level package %q has no rank here; add it", name, root)
		for _, imported := range p.Imports {
			if reason := refuse(name, imported); reason != "" {
				t.Errorf("%s imports %s: %s", name, imported, reason)
			}
		}
		if light(root) && !adapter(name) {
			for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
				first, _, _ := strings.Cut(imported, "/")
				if strings.Contains(first, ".") && !strings.HasPrefix(imported+"/", module+root+"/") {
					t.Errorf("a test of %s imports %s: tests count too, their dependencies become the user's", name, imported)
				}
			}
		}
	}
}

func TestLayersRefuse(t *testing.T) {
	for _, c := range []struct{ from, to string }{
		{"concurrency", "go.opentelemetry.io/otel"},
		{"drift", module + "concurrency"},
		{"messaging", module + "saga"},
		{"saga", module + "mlserve"},
		{"mlserve/gbdt", module + "saga"},
		{"mlserve", "github.com/IBM/sarama"},
		{"saga", "go.opentelemetry.io/otel/sdk/metric"},
		{"messaging", module + "messaging/kafka"},
		{"featurestore", "github.com/stretchr/testify/require"},
	} {
		require.NotEmpty(t, refuse(c.from, c.to), "%s may import %s", c.from, c.to)
	}
	require.Empty(t, refuse("mlserve/rollout", module+"saga"))
	require.Empty(t, refuse("messaging/kafka", "github.com/IBM/sarama"))
}

// refuse says why the package from must not import to, or "".
func refuse(from, to string) string {
	root, _, _ := strings.Cut(from, "/")
	if root == "examples" {
		return "" // a program may use everything
	}
	if own, ok := strings.CutPrefix(to, module); ok {
		return refuseOwn(from, root, own)
	}
	for vendor, may := range vendors {
		if (to == vendor || strings.HasPrefix(to, vendor+"/")) && !may(from) {
			return "not the package this client belongs to"
		}
	}
	first, _, _ := strings.Cut(to, "/")
	if light(root) && !adapter(from) && strings.Contains(first, ".") {
		return "concurrency and drift import the standard library only"
	}
	return ""
}

// light packages cost their users nothing but the standard library.
func light(root string) bool { return root == "concurrency" || root == "drift" }

// adapter packages give a light package's statistics to OpenTelemetry.
func adapter(name string) bool {
	return strings.HasSuffix(name, "/otelconc") || strings.HasSuffix(name, "/oteldrift")
}

func refuseOwn(from, root, to string) string {
	toRoot, _, _ := strings.Cut(to, "/")
	switch {
	case toRoot == "internal":
		return ""
	case toRoot == root:
		if from == root && to != root && !strings.HasPrefix(to, root+"/internal/") && to != "messaging/driver" {
			return "a root package does not know its subpackages"
		}
		return ""
	case slices.Contains(joins[from], toRoot):
		return ""
	case ranks[toRoot] < ranks[root]:
		return ""
	}
	return "not a lower layer"
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Name,Imports,TestImports,XTestImports", module+"...")
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("go list: %v\n%s", err, exit.Stderr)
	}
	require.NoError(t, err)
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, p)
	}
}
