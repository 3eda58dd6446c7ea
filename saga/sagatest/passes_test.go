package sagatest_test

import (
	"flag"
	"testing"
)

// passes runs a test as go test does, and prints nothing even with -v, since what
// is printed is the Example's output.
func passes(name string, test func(*testing.T)) bool {
	verbose := flag.Lookup("test.v")
	was := verbose.Value.String()
	_ = flag.Set("test.v", "false")
	defer func() { _ = flag.Set("test.v", was) }()
	return testing.RunTests(func(_, _ string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: name, F: test}})
}
