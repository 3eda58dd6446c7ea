// Package mainstay is the root of a library of production patterns for Go
// services; import its packages, not this one.
package mainstay
