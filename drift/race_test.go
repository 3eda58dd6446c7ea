//go:build race

package drift

// racing shortens what is arithmetic in one goroutine: the race detector has
// nothing to find there and makes it ten times slower.
const racing = true
