// Package messagingtest checks brokers. It imports the standard library and
// this module only.
//
// [TestBroker] is the conformance kit for drivers, package
// messaging/driver: one rule of the contract per subtest, and a failure names
// the rule it breaks.
//
//	func TestConformance(t *testing.T) {
//		messagingtest.TestBroker(t, func(t *testing.T) messagingtest.Harness {
//			return messagingtest.Harness{Driver: open(t)}
//		})
//	}
//
// [TestFaults] is the long form: it kills the broker, cuts and stalls
// connections and lets consumers die under load, and counts what became of
// every message.
//
// A [Ledger] counts what any broker client, ours or another, did with a set of
// messages: lost, duplicate, out of order per key, overlapping per key. It is
// for tests that kill, pause and rebalance. A [Proxy] breaks the connections.
package messagingtest
