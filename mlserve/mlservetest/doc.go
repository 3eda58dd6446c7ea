// Package mlservetest helps to test what is built on mlserve: rollouts with
// scripted traffic and faulty models, in milliseconds inside a
// [testing/synctest] bubble, and models, sources and judges of one's own
// against the contracts that mlserve relies on.
package mlservetest
